#!/usr/bin/env bash
# How long it takes until N (1000) Ingresses are served, and until the change of one is, through the whole server: API,
# store, watch, ingress, in a network namespace of its own.
set -euo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"
TOOL=${TOOL:-$ROOT/bin/ingresschanges}

finish() {
	local code=$?
	trap - EXIT
	lab_down
	exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM

lab_up
server_up
node "$TOOL" -kubeconfig "$DATA/kubeconfig" -ingress 127.0.0.1:80 -endpoint $NODE_IP:9100 -n "${N:-1000}"
server_down
