#!/usr/bin/env bash
# Asks svcplane and CoreDNS, both following the same API server, for every form of name, and fails when an answer differs
# without a reason (diff.go). The test runs it when CoreDNS has been built (make bin/coredns).
set -euo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"
TOOL=${TOOL:-$ROOT/bin/benchdns}
COREDNS=${COREDNS:-$ROOT/bin/coredns}
OURS=10.96.0.10 PEER=10.96.0.11
PIDS=()
finish() {
	local code=$?
	trap - EXIT
	kill "${PIDS[@]}" 2>/dev/null || true
	lab_down
	exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM

lab_up
lan "$TOOL" world -addr $LAN_IP:53 >"$TMP/world.log" 2>&1 &
PIDS+=($!)
server_up --dns-upstream $LAN_IP --disable proxy,ingress,node
node ip addr add $PEER/32 dev lo
cat >"$TMP/Corefile" <<-EOF
	.:53 {
	    bind $PEER
	    errors
	    ready 127.0.0.1:8181
	    kubernetes cluster.local in-addr.arpa ip6.arpa {
	        kubeconfig $DATA/kubeconfig
	        ttl 5
	        fallthrough in-addr.arpa ip6.arpa
	    }
	    cache 30
	    loadbalance
	    forward . $LAN_IP:53
	}
EOF
nsenter --net=/run/netns/$LAB-node -- "$COREDNS" -conf "$TMP/Corefile" >"$TMP/peer.log" 2>&1 &
PIDS+=($!)
await 60 node curl -sf http://127.0.0.1:8181/ready || die "CoreDNS is not ready: $(tail -n3 "$TMP/peer.log")"
node "$TOOL" diff -kubeconfig "$DATA/kubeconfig" -addr $OURS:53 -peer $PEER:53
