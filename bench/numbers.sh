#!/usr/bin/env bash
# How long a start takes, how much memory stays, how fast a Service answers: ROUNDS (5) times, and the median of each.
#
#   cold start     empty data directory, from the start of the process to the ready line
#   warm start     the same data directory again, walk-through applied, pods running
#   memory         VmRSS and Pss (/proc/PID/smaps_rollup) of the server and of the shim, which has the echo pods, after IDLE (20)
#                  seconds without a request, walk-through applied
#   apply          from the start of `kubectl apply` of a Service to the end of the first curl that succeeds
#   binary         size of the stripped, static binary
set -euo pipefail
. "$(dirname "$0")/../scripts/lib.sh"
ROUNDS=${ROUNDS:-5}
IDLE=${IDLE:-20}

trap 'code=$?; trap - EXIT; lab_down; exit $code' EXIT
trap 'exit 130' INT TERM

median() { sort -n | awk '{v[NR] = $1} END {print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }

walkthrough() {
	tls_secret toad-tls toad.example.com >/dev/null
	kubectl apply -f "$ROOT/examples/walkthrough" >/dev/null 2>&1
	kubectl rollout status deployment/toad --timeout=60s >/dev/null
	kubectl rollout status deployment/bar --timeout=60s >/dev/null
}

RESULTS=$(mktemp -d)
for round in $(seq "$ROUNDS"); do
	lab_up
	server_up
	echo "$READY_MS" >>"$RESULTS/cold"
	walkthrough
	echo "$(first_answer)" >>"$RESULTS/apply"
	server_down TERM
	server_up
	echo "$READY_MS" >>"$RESULTS/warm"
	sleep "$IDLE"
	kib $SERVER_PID VmRSS status >>"$RESULTS/rss"
	kib $SERVER_PID Pss smaps_rollup >>"$RESULTS/pss"
	shim_memory VmRSS status >>"$RESULTS/hrss"
	shim_memory Pss smaps_rollup >>"$RESULTS/hpss"
	lab_down
	printf 'round %s: cold %s ms, warm %s ms, apply %s ms, server %s, shim %s\n' "$round" "$(tail -n1 "$RESULTS/cold")" \
		"$(tail -n1 "$RESULTS/warm")" "$(tail -n1 "$RESULTS/apply")" "$(mb "$(tail -n1 "$RESULTS/rss")")" "$(mb "$(tail -n1 "$RESULTS/hrss")")"
done

row='%-48s %s\n'
printf "\nmedians of %s rounds, %s cores, %s\n" "$ROUNDS" "$(nproc)" "$(uname -sr)"
printf "$row" 'cold start' "$(median <"$RESULTS/cold") ms"
printf "$row" 'warm start' "$(median <"$RESULTS/warm") ms"
printf "$row" 'kubectl apply of a Service to its first answer' "$(median <"$RESULTS/apply") ms"
printf "$row" 'server: VmRSS / Pss' "$(mb "$(median <"$RESULTS/rss")") / $(mb "$(median <"$RESULTS/pss")")"
printf "$row" 'shim, which has the echo pods: VmRSS / Pss' "$(mb "$(median <"$RESULTS/hrss")") / $(mb "$(median <"$RESULTS/hpss")")"
printf "$row" 'binary, stripped' "$(($(stat -c %s "$BIN") / 1000000)) MB"
rm -rf "$RESULTS"
