#!/usr/bin/env bash
# containerd of the distribution, for a lab of lib.sh: in the node's network namespace, with all of its files in $LAB_DIR/containerd, and with
# svcplane's pod network from the data directory $1. The pods' pause container is of the image $2.
#
#	LAB=NAME LAB_DIR=DIR containerd.sh up DATA_DIR IMAGE | import ARCHIVE | down
set -euo pipefail
: "${LAB:?}" "${LAB_DIR:?}"
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
DIR=$LAB_DIR/containerd SOCKET=$LAB_DIR/containerd.sock
alive() { kill -0 "$(cat "$DIR/pid" 2>/dev/null || echo none)" 2>/dev/null; }
up() {
	mkdir -p "$DIR/root" "$DIR/state"
	cat >"$DIR/config.toml" <<-END
		version = 2
		root = "$DIR/root"
		state = "$DIR/state"
		[grpc]
		  address = "$SOCKET"
		[plugins."io.containerd.grpc.v1.cri"]
		  sandbox_image = "$2"
		  restrict_oom_score_adj = true # the pause container wants -998, which takes CAP_SYS_RESOURCE
		  [plugins."io.containerd.grpc.v1.cri".cni]
		    bin_dir = "$1/cni/bin"
		    conf_dir = "$1/cni/net.d"
		[plugins."io.containerd.internal.v1.opt"]
		  path = "$DIR/opt"
	END
	start
}
start() {
	nsenter --net="/run/netns/$LAB-node" setsid containerd --config "$DIR/config.toml" >>"$DIR/log" 2>&1 9>&- &
	echo $! >"$DIR/pid"
	for _ in $(seq 300); do
		ctr -a "$SOCKET" version >/dev/null 2>&1 && return
		alive || break
		sleep 0.1
	done
	tail -n 20 "$DIR/log" >&2
	exit 1
}
stop() {
	alive || return 0
	kill "$(cat "$DIR/pid")"
	while alive; do sleep 0.05; done
}
case "${1:-}" in
up) up "$2" "$3" ;;
start) start ;;
stop) stop ;;
import) ctr -a "$SOCKET" -n k8s.io images import "$2" ;;
down)
	stop
	# shims that a test which failed has left
	for p in $(pgrep -f "containerd-shim.* -address $SOCKET" || true); do
		pkill -KILL -P "$p" || true
		kill -KILL "$p" || true
	done
	awk -v dir="$DIR/" 'index($2, dir) == 1 {print $2}' /proc/mounts | tac | xargs -r umount -l
	rm -rf "$DIR" "$SOCKET" "$SOCKET.ttrpc"
	rmdir /run/containerd/s /run/containerd 2>/dev/null || true
	;;
*)
	echo 'usage: LAB=NAME LAB_DIR=DIR containerd.sh up DATA_DIR IMAGE | import ARCHIVE | start | stop | down' >&2
	exit 2
	;;
esac
