#!/usr/bin/env bash
# The embedded container runtime beside containerd and runc of Debian: the same calls by turns, in namespaces
# (network, mounts, processes) that end with this script. What is printed: from the first call to a process that runs, for one pod at a time (p50,
# p90) and for 50 at once; what 50 pods occupy on the disk and in the memory of the runtimes.
#
# `make bench-pods` builds what it runs (bin/bench-pods, bin/bench-mark) and installs the peer.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
if [ "${1:-}" != inside ]; then
	exec unshare --net --mount --propagation private --pid --fork --kill-child --mount-proc "$0" inside "$@"
fi
shift
DIR=$(mktemp -d -p "${BENCH_DIR:-/var/tmp}")
PEER= CGROUP=/svcplane-bench-$RANDOM
finish() {
	code=$?
	trap - EXIT
	if [ -n "$PEER" ]; then
		kill "$PEER" && wait "$PEER" || true
	fi
	find /sys/fs/cgroup -depth -type d -path "*$CGROUP*" -exec rmdir {} + 2>/dev/null || true
	awk -v dir="$DIR/" 'index($2, dir) == 1 {print $2}' /proc/mounts | tac | xargs -r umount -l
	rm -rf "$DIR"
	exit $code
}
trap finish EXIT

ip link set lo up
mkdir -p /run/netns "$DIR/cni" "$DIR/containerd"
cat >"$DIR/cni/10-bench.conflist" <<END
{"cniVersion": "0.4.0", "name": "bench", "plugins": [{"type": "bridge", "bridge": "bench0", "isGateway": true, "ipMasq": true,
 "ipam": {"type": "host-local", "dataDir": "$DIR/ipam", "ranges": [[{"subnet": "10.98.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
cat >"$DIR/config.toml" <<END
version = 2
root = "$DIR/containerd"
state = "$DIR/state"
[grpc]
  address = "$DIR/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "bench.test/mark:1"
  restrict_oom_score_adj = true # the pause container wants -998, which takes CAP_SYS_RESOURCE
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$DIR/cni"
END
containerd --config "$DIR/config.toml" >"$DIR/containerd.log" 2>&1 &
PEER=$!
for _ in $(seq 100); do
	[ -S "$DIR/containerd.sock" ] && break
	sleep 0.1
done
echo "$(nproc) cores, $(containerd --version | cut -d' ' -f1,3), $(runc --version | head -n1), kernel $(uname -r)"
bin/bench-pods -dir "$DIR" -containerd "$DIR/containerd.sock" -cgroup "$CGROUP" "$@" || {
	tail -n 5 "$DIR/containerd.log"
	exit 1
}
