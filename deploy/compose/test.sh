#!/usr/bin/env bash
# Runs the Compose files for real and breaks things: CartPole must learn across containers although an actor is killed,
# networks are cut and the learner is restarted and killed. Everything it makes is removed again.
#
#   deploy/compose/test.sh [BINARY]       a release binary for Debian 12; without it target/release/springbok
#
# Needs root on the machine of the Docker engine (a container's process is killed from outside), docker-compose or
# docker compose, and about three minutes. KEEP=1 leaves the containers.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=${1:-target/release/springbok}
here=$PWD/deploy/compose

export COMPOSE_PROJECT_NAME=springboktest$$ RUN_NAME=test SPRINGBOK_IMAGE=springbok:test SPRINGBOK_BUILD_TARGET=prebuilt
export ACTOR_CPUS=0.5 LEARNER_CPUS=1.5
project=$COMPOSE_PROJECT_NAME
actors=4
SECRETS=$(mktemp -d)
export SECRETS
override=$(mktemp --suffix=.yaml)
if command -v docker-compose >/dev/null; then compose_command=(docker-compose); else compose_command=(docker compose); fi
compose() { "${compose_command[@]}" -f "$here/compose.yaml" -f "$override" "$@"; }

began=$SECONDS
checks=0
say() { printf '%4d s  %s\n' $((SECONDS - began)) "$*"; }
ok() { checks=$((checks + 1)); say "ok    $*"; }
fail() {
    say "FAIL  $*"
    compose logs --no-color --tail=40 >&2 || true
    exit 1
}
cleanup() {
    status=$?
    if [ -z "${KEEP:-}" ]; then compose down --volumes --timeout 15 >/dev/null 2>&1 || status=1; fi
    rm -rf "$override" "$SECRETS"
    exit "$status"
}
trap cleanup EXIT

# until_true SECONDS DESCRIPTION COMMAND...: asks again until the command succeeds, or it is too late.
until_true() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || fail "$what: not within the time"
        sleep 0.5
    done
    ok "$what"
}
container() { docker ps -aq --filter "label=com.docker.compose.project=$project" \
    --filter "label=com.docker.compose.service=$1" --filter "label=com.docker.compose.container-number=${2:-1}"; }
inspect() { docker inspect -f "$1" "$2"; }
# metric NAME: a number of the last complete line of metrics.jsonl, rounded down; -1 if there is none yet.
metric() {
    docker exec "$learner" tail -n 2 "/runs/$RUN_NAME/metrics.jsonl" 2>/dev/null | python3 -c '
import json, sys
value = -1
for line in sys.stdin:
    try:
        value = json.loads(line)[sys.argv[1]]
    except (ValueError, KeyError):
        pass
print(int(value))' "$1"
}
at_least() { [ "$(metric "$1")" -ge "$2" ]; }
exactly() { [ "$(metric "$1")" -eq "$2" ]; }
trains_on() { until_true 60 "$1" at_least charts/updates $(($(metric charts/updates) + 20)); }
started_again() { [ "$(inspect '{{.RestartCount}}' "$1")" -ge "$2" ] && [ "$(inspect '{{.State.Running}}' "$1")" = true ]; }
# grep reads to the end: a closed pipe would be a fault of docker.
said() { docker logs "$1" 2>&1 | grep -- "$2" >/dev/null; }
healthy() { [ "$(inspect '{{.State.Health.Status}}' "$learner")" = healthy ]; }
# Whether nothing is trained for two seconds.
stands_still() { local updates; updates=$(metric charts/updates); sleep 2; [ "$(metric charts/updates)" -eq "$updates" ]; }
# After a restart of the learner: with checkpoints the same run goes on; without, a new one begins under the same name.
goes_on() {
    if $resumes; then
        until_true 60 "the learner that was $1 goes on from its checkpoint" at_least charts/updates $((before + 20))
        said "$learner" 'going on with' || fail 'no word of going on'
    else
        until_true 60 "the learner that was $1 begins anew" at_least charts/updates 20
    fi
    until_true 60 "all $actors actors found it again" exactly actors/present "$actors"
}
joined() { [ "$(docker logs "$1" 2>&1 | grep -c 'connect: joined')" -ge "$2" ]; }
crash() { kill -9 "$(inspect '{{.State.Pid}}' "$1")"; }

# Long enough for all that happens below; the learner is slowed so that faults fall into the run and not after it.
cat >"$override" <<'YAML'
services:
  learner:
    environment:
      SPRINGBOK__RUN__TOTAL_STEPS: "1600000"
      SPRINGBOK__LEARNER__UPDATE_DELAY_MS: "40"
      SPRINGBOK__LIMITS__IDLE_S_MAX: "10"
      SPRINGBOK__ALGORITHM__LEARNING_RATE_SCHEDULE: constant
YAML
mkdir -p target/image
cp "$binary" target/image/springbok
compose build --quiet learner >/dev/null 2>&1 || fail 'build'
ok "image built: $(docker images --format '{{.Size}}' "$SPRINGBOK_IMAGE")"

resumes=false
if docker run --rm --network none "$SPRINGBOK_IMAGE" learner --help | grep -- '--resume ' >/dev/null; then
    resumes=true
fi

"$here/keys.sh" >/dev/null
ok 'certificates, keys and a token are made by the image'

compose up -d --scale "actor=$actors" >/dev/null 2>&1 || fail 'up'
learner=$(container learner)
until_true 60 'the learner is healthy' healthy
until_true 60 "$actors actors have joined" exactly actors/present "$actors"

[ "$(docker exec "$learner" id -u)" -ne 0 ] || fail 'the learner runs as root'
! docker exec "$learner" sh -c ': >/usr/local/bin/x' 2>/dev/null || fail 'the root file system can be written'
[ "$(inspect '{{.HostConfig.Memory}}' "$(container actor)")" -eq $((512 * 1024 * 1024)) ] || fail 'no memory limit'
! docker exec "$learner" sh -c 'ls /run/secrets' | grep ca.key >/dev/null || fail "the authority's key is in a container"
ok 'not root, read-only root file system, limited memory'
[ "$(docker network inspect -f '{{.Internal}}' "${project}_training")" = true ] || fail 'the network leads outside'
ok 'the network is internal'

# One who has neither a certificate nor the token, on the same network.
status=0
docker run --rm --network "${project}_training" --volume "$SECRETS/ca.pem:/ca.pem:ro" \
    --env SPRINGBOK__ACTOR__LEARNER_WAIT_S_MAX=3 "$SPRINGBOK_IMAGE" \
    actor --learner https://learner:5005 --ca /ca.pem >/dev/null 2>&1 || status=$?
[ "$status" -eq 69 ] || fail "a stranger left with $status instead of 69"
exactly actors/present "$actors" || fail 'a stranger is let in'
ok 'a stranger is not let in'

victim=$(container actor 2)
crash "$victim"
until_true 30 'a killed actor is replaced' started_again "$victim" 1
until_true 30 'its successor has joined' joined "$victim" 2
trains_on 'training goes on'

victim=$(container actor 3)
docker network disconnect "${project}_training" "$victim"
until_true 60 'an actor without network is given up' exactly actors/present $((actors - 1))
trains_on 'the others go on'
docker network connect "${project}_training" "$victim"
until_true 60 'it comes back when its network does' exactly actors/present "$actors"
joined "$victim" 2 || fail 'it never left'

docker network disconnect "${project}_training" "$learner"
until_true 30 'a learner without network stands still' stands_still
docker network connect --alias learner "${project}_training" "$learner"
trains_on 'it goes on when its network is back'
until_true 60 "all $actors actors found it again" exactly actors/present "$actors"

# A polite restart: the learner drains, writes its summary, and the same command goes on with the run.
before=$(metric charts/updates)
docker restart --time 15 "$learner" >/dev/null
[ "$(inspect '{{.State.Running}}' "$learner")" = true ] || fail 'the learner did not come back'
goes_on restarted

before=$(metric charts/updates)
restarts=$(inspect '{{.RestartCount}}' "$learner")
crash "$learner"
until_true 30 'a killed learner is started again' started_again "$learner" $((restarts + 1))
goes_on killed

docker stop --time 15 "$(container actor 4)" >/dev/null
[ "$(inspect '{{.State.ExitCode}}' "$(container actor 4)")" -eq 0 ] || fail 'an actor that was stopped did not drain'
ok 'an actor that is stopped drains and leaves with 0'

ended() { [ "$(inspect '{{.State.Status}}' "$learner")" = exited ]; }
until_true 300 'the run ends by itself' ended
[ "$(inspect '{{.State.ExitCode}}' "$learner")" -eq 0 ] || fail 'the learner did not end with 0'
docker cp "$learner:/runs/$RUN_NAME/summary.json" "$override.json" >/dev/null
result=$(python3 - "$override.json" <<'PY'
import json, sys
with open(sys.argv[1]) as file:
    run = json.load(file)
ledger = run["ledger"]
assert run["return_best_100"] >= 475, f"return {run['return_best_100']}"
assert ledger["produced"] == ledger["admitted"] + ledger["rejected"] + ledger["lost"], ledger
assert ledger["admitted"] == sum(ledger[name] for name in ("trained", "expired", "evicted", "discarded", "queued")), ledger
assert run["env_steps"] >= 1_600_000, run["env_steps"]
print(f"{run['env_steps']} steps, best mean return {run['return_best_100']:.1f}, "
      f"{run['actors']['joined']} lives of actors, {ledger['lost']} unrolls lost, the ledger closes")
PY
) || fail 'summary.json'
rm -f "$override.json"
ok "$result"
docker start "$learner" >/dev/null
until_true 30 'started again, it leaves the finished run as it is' said "$learner" 'is done'
said "$(container actor 1)" 'panicked' && fail 'an actor panicked'
said "$learner" 'panicked' && fail 'the learner panicked'
echo "$checks passed, 0 failed"
