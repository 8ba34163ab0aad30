#!/bin/sh
# Makes what Compose hands to the containers as secrets: a certificate authority, certificates and keys of learner and
# actors, and a token, in the directory `secrets` beside this file (or $SECRETS). They belong to the user of the image.
#
#   keys.sh [arguments of `springbok keys`]      --host NAME for each further name of the learner, --days N, --renew
#
# Uses the image, so nothing else needs to be installed.
set -eu
directory=${SECRETS:-$(dirname "$0")/secrets}
mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
# As root, because the directory is the host's; without a network, because nothing is asked of anybody.
docker run --rm --network none --user 0:0 --volume "$directory:/secrets" --entrypoint sh "${SPRINGBOK_IMAGE:-springbok}" -c '
    springbok keys --out /secrets --host learner "$@"
    chown -R 10001:10001 /secrets' keys "$@"
