#!/usr/bin/env bash
# Runs the Compose files for real and breaks things: CartPole must learn across containers, with mutual TLS and a token,
# although an actor is killed, networks are cut, the learner hangs, is restarted and is killed. Actors of a second Compose
# project, which reach the learner by its published port, play the second host. Where the image of Prometheus is at hand
# (PROMETHEUS_IMAGE), it watches. Everything that was made is removed again.
#
#   deploy/compose/test.sh [BINARY]       a binary for Debian 12; without it target/release/springbok
#
# Needs root on the machine of the Docker engine (a container's process is killed from outside), Compose, and about five
# minutes. COMPOSE names the Compose to take [docker-compose, or else docker compose]; PATIENCE=3 waits three times as long
# before it gives up, on a busy machine; KEEP=1 leaves the containers.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=${1:-target/release/springbok}
here=$PWD/deploy/compose

export COMPOSE_PROJECT_NAME=springboktest$$ RUN_NAME=test SPRINGBOK_IMAGE=springbok:test SPRINGBOK_BUILD_TARGET=prebuilt
export ACTOR_CPUS=0.5 LEARNER_CPUS=1.5
# Published where the containers of this machine can reach it, at a port that is free now.
# (An engine that was never restarted does not name its gateway: it is the first address of the network.)
LEARNER_ADDRESS=$(docker network inspect bridge | python3 -c '
import ipaddress, json, sys
bridge = json.load(sys.stdin)[0]["IPAM"]["Config"][0]
print(bridge.get("Gateway") or ipaddress.ip_network(bridge["Subnet"])[1])')
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }
LEARNER_PORT=$(free_port)
PROMETHEUS_PORT=$(free_port)
export LEARNER_ADDRESS LEARNER_PORT LEARNER_URL=https://learner.example:$LEARNER_PORT PROMETHEUS_PORT
export PROMETHEUS_IMAGE=${PROMETHEUS_IMAGE:-prom/prometheus:v3.5.0}
# Grafana is not started; its overlay wants a password all the same.
export GRAFANA_PASSWORD=none
project=$COMPOSE_PROJECT_NAME
actors=4
SECRETS=$(mktemp -d)
export SECRETS
override=$(mktemp --suffix=.yaml)
if [ -z "${COMPOSE:-}" ]; then
    if command -v docker-compose >/dev/null; then COMPOSE=docker-compose; else COMPOSE='docker compose'; fi
fi
read -ra compose_command <<<"$COMPOSE"
files=(-f "$here/compose.yaml" -f "$here/host-learner.yaml")
services=(learner actor)
watched=false
if docker image inspect "$PROMETHEUS_IMAGE" >/dev/null 2>&1; then
    watched=true
    files+=(-f "$here/monitoring.yaml")
    services+=(prometheus)
fi
compose() { "${compose_command[@]}" "${files[@]}" -f "$override" "$@"; }
second_host() {
    COMPOSE_PROJECT_NAME=${project}second "${compose_command[@]}" -f "$here/host-actors.yaml" -f "$override.second" "$@"
}

began=$SECONDS
checks=0
say() { printf '%4d s  %s\n' $((SECONDS - began)) "$*"; }
ok() { checks=$((checks + 1)); say "ok    $*"; }
fail() {
    say "FAIL  $*"
    compose logs --no-color --tail=40 >&2 || true
    exit 1
}
# quietly COMMAND...: shows what it says only if it fails.
quietly() { "$@" >"$override.log" 2>&1 || { cat "$override.log" >&2; return 1; }; }
cleanup() {
    status=$?
    if [ -z "${KEEP:-}" ]; then
        second_host down --timeout 15 >/dev/null 2>&1 || status=1
        compose down --volumes --timeout 15 >/dev/null 2>&1 || status=1
    fi
    rm -rf "$override" "$override.second" "$override.json" "$override.log" "$SECRETS"
    exit "$status"
}
trap cleanup EXIT

# until_true SECONDS DESCRIPTION COMMAND...: asks again until the command succeeds, or it is too late.
until_true() {
    local deadline=$((SECONDS + $1 * ${PATIENCE:-1})) what=$2
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
health_is() { [ "$(inspect '{{.State.Health.Status}}' "$learner")" = "$1" ]; }
# said_times CONTAINER TEXT N: whether it has said that at least N times.
said_times() { [ "$(docker logs "$1" 2>&1 | grep -c -- "$2")" -ge "$3" ]; }
# Whether nothing is trained for two seconds.
stands_still() { local updates; updates=$(metric charts/updates); sleep 2; [ "$(metric charts/updates)" -eq "$updates" ]; }
# After the learner died: the same run goes on from its checkpoint, and everybody is there again.
lives=0
goes_on() {
    lives=$((lives + 1))
    until_true 120 "the learner that was $1 goes on from its checkpoint" at_least charts/updates $((before + 20))
    said_times "$learner" 'springbok-run: going on with' "$lives" || fail 'no word of going on'
    until_true 60 'it is healthy again' health_is healthy
    until_true 60 "all $actors actors found it again" exactly actors/present "$actors"
}
joined() { said_times "$1" 'connect: joined' "$2"; }
crash() { kill -9 "$(inspect '{{.State.Pid}}' "$1")"; }
# asked PATH: what Prometheus answers.
asked() { python3 -c 'import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).read().decode())' \
    "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/$1" 2>/dev/null; }
# watches QUERY VALUE: whether the query has one result, with this value.
watches() {
    asked "query?query=$1" | python3 -c '
import json, sys
found = [one["value"][1] for one in json.load(sys.stdin)["data"]["result"]]
sys.exit(found != [sys.argv[1]])' "$2" 2>/dev/null
}
# looks ARGUMENTS: somebody beside Prometheus asks the learner how it does.
looks() {
    docker run --rm --network "${project}_monitoring" --volume "$SECRETS/token:/token:ro" "$SPRINGBOK_IMAGE" \
        status http://learner:9090 "$@" >/dev/null 2>&1
}
# The program of the learner's container, a child of springbok-run, as its number on this machine.
program() { pgrep --parent "$(inspect '{{.State.Pid}}' "$learner")" --exact springbok; }

# Long enough for all that happens below; the learner is slowed so that faults fall into the run and not after it.
cat >"$override" <<'YAML'
services:
  learner:
    environment:
      SPRINGBOK__RUN__TOTAL_STEPS: "2000000"
      SPRINGBOK__LEARNER__UPDATE_DELAY_MS: "100"
      SPRINGBOK__LIMITS__IDLE_S_MAX: "10"
      SPRINGBOK__ALGORITHM__LEARNING_RATE_SCHEDULE: constant
YAML
cat >"$override.second" <<YAML
services:
  actor:
    extra_hosts: ["learner.example:$LEARNER_ADDRESS"]
YAML
say "$("${compose_command[@]}" version --short 2>/dev/null) is Compose, $(docker version -f '{{.Server.Version}}') the engine"
mkdir -p target/image
cp "$binary" target/image/springbok
quietly compose build --quiet learner || fail 'build'
ok "image built: $(docker images --format '{{.Size}}' "$SPRINGBOK_IMAGE")"

"$here/keys.sh" --host learner.example >/dev/null
ok 'certificates, keys and a token are made by the image'

quietly compose up -d --scale "actor=$actors" "${services[@]}" || fail 'up'
learner=$(container learner)
until_true 60 'the learner is healthy' health_is healthy
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
[ "$status" -eq 64 ] || fail "a stranger left with $status instead of 64"
exactly actors/present "$actors" || fail 'a stranger is let in'
ok 'a stranger is not let in'

if $watched; then
    until_true 60 'Prometheus finds the learner serving' watches springbok_serving 1
    until_true 60 "and its $actors actors" watches springbok_actors_present "$actors"
    rules=$(grep -c -- '- alert:' deploy/dashboards/alerts.yaml)
    [ "$(asked rules | grep -o '"type":"alerting"' | wc -l)" -eq "$rules" ] || fail "Prometheus lacks alerts"
    ok "Prometheus has all $rules alerts"
    looks --token-file /token || fail 'a token lets nobody look'
    ! looks || fail 'anybody may look'
    ok 'who has no token is told nothing'
else
    say "      not watched: there is no image $PROMETHEUS_IMAGE"
fi

quietly second_host up -d --scale actor=2 || fail 'up on the second host'
until_true 60 'two actors of another host have joined' exactly actors/present $((actors + 2))
trains_on 'training goes on with them'
quietly second_host down --timeout 15 || fail 'down on the second host'
until_true 60 'they have left again' exactly actors/present "$actors"

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

# It hangs: its process is there, and its port is open, but nobody answers.
kill -STOP "$(program)"
until_true 90 'a learner that hangs is unhealthy' health_is unhealthy
kill -CONT "$(program)"
until_true 60 'it is healthy again' health_is healthy
trains_on 'it goes on'
until_true 60 "all $actors actors are there" exactly actors/present "$actors"

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
result=$(python3 - "$override.json" $((1 + lives)) <<'PY'
import json, sys
with open(sys.argv[1]) as file:
    run = json.load(file)
ledger = run["ledger"]
assert run["return_best_100"] >= 475, f"return {run['return_best_100']}"
assert ledger["produced"] == ledger["admitted"] + ledger["rejected"] + ledger["lost"], ledger
assert ledger["admitted"] == sum(ledger[name] for name in ("trained", "expired", "evicted", "discarded", "queued")), ledger
assert run["env_steps"] >= 2_000_000, run["env_steps"]
assert run["epoch"] == int(sys.argv[2]), f"epoch {run['epoch']}"
print(f"{run['env_steps']} steps, best mean return {run['return_best_100']:.1f}, "
      f"{run['epoch']} lives of the learner, {run['actors']['joined']} of actors, {ledger['lost']} unrolls lost, "
      f"the ledger closes")
PY
) || fail 'summary.json'
ok "$result"
docker start "$learner" >/dev/null
until_true 30 'started again, it leaves the finished run as it is' said "$learner" 'is done'
token=$(head -n 1 "$SECRETS/token")
for one in "$learner" $(docker ps -aq --filter "label=com.docker.compose.project=$project" \
    --filter label=com.docker.compose.service=actor); do
    ! said "$one" 'panicked' || fail 'one panicked'
    ! said "$one" "$token" || fail 'a log has the token'
done
! docker cp "$learner:/runs/$RUN_NAME" - | grep -a -F "$token" >/dev/null || fail 'the run directory has the token'
ok 'nobody panicked; the token is in no log, and not in the run directory'
echo "$checks passed, 0 failed"
