#!/usr/bin/env bash
# A learner and two actors on three machines that are network namespaces of this one, with links that are slow and lose
# packets, and one that is cut and mended: the real program, the real TCP, no container engine.
#
#   tests/netns.sh [BINARY]        needs root, iproute2 and iptables; a minute or two
#
# Each actor's link carries 20 Mbit/s and loses 1 % of the packets to it; where the kernel has netem, 20 ms of delay are
# added each way. Nothing outside of the namespaces is touched.
set -euo pipefail
binary=$(realpath "${1:-$(dirname "$0")/../target/release/springbok}")
id=sb$$
work=$(mktemp -d)
names=(switch learner actor1 actor2)
pids=()
began=$SECONDS
checks=0
say() { printf '%4d s  %s\n' $((SECONDS - began)) "$*"; }
ok() { checks=$((checks + 1)); say "ok    $*"; }
fail() {
    say "FAIL  $*"
    tail -n 20 "$work"/*.log >&2 || true
    exit 1
}
cleanup() {
    status=$?
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    for name in "${names[@]}"; do ip netns delete "$id-$name" 2>/dev/null || true; done
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
within() { ip netns exec "$id-$1" "${@:2}"; }
until_true() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || fail "$what: not within the time"
        sleep 0.3
    done
    ok "$what"
}
metric() {
    tail -n 2 "$work/runs/run/metrics.jsonl" 2>/dev/null | python3 -c '
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

for name in "${names[@]}"; do ip netns add "$id-$name"; done
within switch ip link add bridge type bridge
within switch ip link set bridge up
number=1
for name in learner actor1 actor2; do
    within switch ip link add "$name" type veth peer name eth0 netns "$id-$name"
    within switch ip link set "$name" master bridge up
    within "$name" ip link set lo up
    within "$name" ip address add "10.77.0.$number/24" dev eth0
    within "$name" ip link set eth0 up
    number=$((number + 1))
done
links='20 Mbit/s, 1 % loss'
for name in actor1 actor2; do
    for place in "within $name tc qdisc add dev eth0" "within switch tc qdisc add dev $name"; do
        if $place root handle 1: netem delay 20ms 2>/dev/null; then
            $place parent 1: tbf rate 20mbit burst 64kb latency 100ms
            links='20 Mbit/s, 1 % loss, 20 ms each way'
        else
            $place root tbf rate 20mbit burst 64kb latency 100ms
        fi
    done
    within "$name" iptables -A INPUT -m statistic --mode random --probability 0.01 -j DROP
done
ok "three machines; links of $links"

"$binary" keys --out "$work/keys" --host 10.77.0.1 >/dev/null
within learner "$binary" learner --listen 10.77.0.1:5005 --keys "$work/keys" --out "$work/runs" --name run --no-progress \
    --device cpu --total-steps 800000 --set learner.update_delay_ms=20 --set limits.idle_s_max=10 --json \
    >"$work/summary" 2>"$work/learner.log" &
learner=$!
pids+=("$learner")
for name in actor1 actor2; do
    within "$name" "$binary" actor --learner https://10.77.0.1:5005 --keys "$work/keys" 2>"$work/$name.log" &
    pids+=("$!")
done
until_true 30 'both actors have joined' exactly actors/present 2
until_true 60 'training is under way' at_least charts/updates 50
within switch ip link set actor2 down
until_true 60 'an actor whose link is cut is given up' exactly actors/present 1
within switch ip link set actor2 up
until_true 60 'it comes back when the link is mended' exactly actors/present 2
wait "$learner" || fail 'the learner did not end with 0'
for pid in "${pids[@]:1}"; do wait "$pid" || fail 'an actor did not end with 0'; done
pids=()
result=$(python3 -c '
import json, sys
run = json.load(open(sys.argv[1]))
ledger = run["ledger"]
assert run["return_best_100"] >= 475, run["return_best_100"]
assert ledger["produced"] == ledger["admitted"] + ledger["rejected"] + ledger["lost"], ledger
print("%d steps, best mean return %.1f, %.0f steps/s, lag %.2f, the ledger closes" % (
    run["env_steps"], run["return_best_100"], run["env_steps_per_s"], run["lag"]["mean"]))' "$work/summary") || fail 'summary'
ok "$result"
echo "$checks passed, 0 failed"
