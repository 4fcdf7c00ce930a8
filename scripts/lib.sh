# Sourced by demo.sh, lab.sh (for the tests) and bench/numbers.sh: a machine to play on. Two network namespaces joined by a veth pair, one the
# node that svcplane runs on, the other the LAN with a client and a server in it. Nothing outside of them is touched.
#
#   LAN 192.0.2.2 eth0 ──────────── eth0 192.0.2.1 node (svcplane, its pods behind it)
#
# nsenter and not `ip netns exec`: the latter puts a fresh /sys over the real one and hides what is mounted below it.

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL=C

LAB=${LAB:-lab-$$} # its name, and the prefix of its namespaces
NODE_IP=192.0.2.1
LAN_IP=192.0.2.2
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BIN=${SVCPLANE_BIN:-$ROOT/bin/svcplane}
LANSERVER=${LANSERVER:-$ROOT/bin/lanserver}
TMP=${LAB_DIR:-}
DATA=${TMP:+$TMP/data}
SERVER_PID= LAN_PID=

node() { nsenter --net=/run/netns/$LAB-node -- "$@"; }
lan() { nsenter --net=/run/netns/$LAB-lan -- "$@"; }
# both find the server by its data directory
svcplane() { SVCPLANE_DATA_DIR=$DATA node "$BIN" "$@"; }
kubectl() { svcplane kubectl "$@"; }

die() {
	printf '%s\n' "$*" >&2
	exit 1
}

# now prints the time in milliseconds.
now() { local t=$EPOCHREALTIME; echo $((${t/[.,]/} / 1000)); }

lab_up() {
	[ "$(id -u)" -eq 0 ] || die "run me as root: network namespaces and iptables need it (make does so by itself)"
	[ -x "$BIN" ] || die "$BIN is not there: run 'make build' first"
	TMP=${TMP:-$(mktemp -d "${TMPDIR:-/tmp}/svcplane-lab.XXXXXX")}
	DATA=$TMP/data
	ip netns add $LAB-node
	ip netns add $LAB-lan
	ip link add eth0 netns $LAB-node type veth peer name eth0 netns $LAB-lan
	# no IPv6 addresses that appear by and by: the snapshots are compared
	node ip link set eth0 addrgenmode none
	lan ip link set eth0 addrgenmode none
	node ip link set lo up
	node ip addr add $NODE_IP/24 dev eth0
	node ip link set eth0 up
	lan ip link set lo up
	lan ip addr add $LAN_IP/24 dev eth0
	lan ip link set eth0 up
	node ip route add default via $LAN_IP
	# the kernel finds out by and by that the link is up; the snapshots are taken with it up
	await 10 link_is_up || die 'the veth pair of the lab does not come up'
}

link_is_up() { node ip -o link show eth0 | grep -q ' state UP ' && ! node ip route show table all | grep -q linkdown; }

lan_server_up() {
	lan "$LANSERVER" $LAN_IP:5432 >"$TMP/lan.log" 2>&1 &
	LAN_PID=$!
	await 5 lan curl -sf -o /dev/null http://$LAN_IP:5432/ || die "the LAN server does not answer: $(cat "$TMP/lan.log")"
}

# await SECONDS COMMAND...: runs it until it succeeds; fails when the time is over.
await() {
	local deadline=$(($(now) + $1 * 1000))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(now)" -lt "$deadline" ] || return 1
		sleep 0.1
	done
}

# server_up [FLAG...]: starts svcplane in the node's namespace and waits for its ready line. Sets READY_LINE and
# READY_MS, the time from the start of the process to the line.
server_up() {
	local began deadline
	: >"$TMP/out"
	began=$(now)
	nsenter --net=/run/netns/$LAB-node -- "$BIN" server --data-dir "$DATA" --node-name node "$@" >"$TMP/out" 2>>"$TMP/server.log" &
	SERVER_PID=$!
	deadline=$((began + 60000))
	until READY_LINE=$(grep -m1 '^svcplane ready' "$TMP/out"); do
		kill -0 $SERVER_PID 2>/dev/null || die "the server ended before it was ready; its last words: $(tail -n 5 "$TMP/server.log")"
		[ "$(now)" -lt $deadline ] || die "the server is not ready after 60 s; see $(tail -n 5 "$TMP/server.log")"
		sleep 0.01
	done
	READY_MS=$(($(now) - began))
}

# server_down [SIGNAL]: ends the server; returns its exit code.
server_down() {
	local code=0
	[ -n "$SERVER_PID" ] || return 0
	kill -"${1:-TERM}" $SERVER_PID 2>/dev/null || true
	wait $SERVER_PID 2>/dev/null || code=$?
	SERVER_PID=
	return $code
}

# tls_secret NAME HOST: a Secret with a fresh self-signed certificate; the certificate stays in $TMP/NAME.crt.
tls_secret() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=$2" \
		-addext "subjectAltName=DNS:$2" -keyout "$TMP/$1.key" -out "$TMP/$1.crt" 2>/dev/null
	kubectl create secret tls "$1" --cert="$TMP/$1.crt" --key="$TMP/$1.key"
}

# snapshot prints what svcplane could leave behind in the node's namespace, and of this lab anywhere: it has to be the same
# before and after.
snapshot() {
	echo '# iptables-save'
	node iptables-save | sed -e '/^#/d' -e 's/\[[0-9]*:[0-9]*\]//'
	echo '# ip6tables-save'
	node ip6tables-save | sed -e '/^#/d' -e 's/\[[0-9]*:[0-9]*\]//'
	echo '# nft list ruleset'
	node nft list ruleset
	echo '# links and addresses'
	node ip -o addr show | sed 's/valid_lft.*//'
	echo '# routes and rules'
	node ip route show table all | grep -v '^multicast ff00::/8' # the kernel's own, and late
	node ip rule show
	echo '# neighbours that are set by hand'
	node ip neigh show nud permanent
	echo '# ipset'
	node ipset list -name
	echo '# sysctl'
	node sysctl -a 2>/dev/null | grep -e '^net.ipv[46].*forward' -e '^net.ipv4.conf.*\(rp_filter\|route_localnet\|proxy_arp\|arp_\)'
	echo '# mounts'
	awk -v dir="$TMP/" 'index($4, dir) == 1 || index($5, dir) == 1 {print $5}' /proc/self/mountinfo | sort
	echo '# cgroups'
	awk '$3 ~ /^cgroup/ {print $2}' /proc/self/mounts | while read -r root; do
		find "$root" -maxdepth 2 -type d -name "svcplane-$(printf %s "$DATA/runtime" | sha256sum | cut -c1-8)"
	done
	echo '# processes'
	leftovers | sed 's/^[0-9]* //'
}

# leftovers lists the processes that belong to this lab: in one of its namespaces, or its binary with its directory on
# the command line, or in a mount namespace of its own with a piece of that directory in it (a pod's container).
leftovers() {
	local inode pid nets own
	nets=" $(stat -L -c %i /run/netns/$LAB-node /run/netns/$LAB-lan 2>/dev/null | tr '\n' ' ') "
	own=$(readlink /proc/self/ns/mnt)
	for pid in $(ls /proc | grep '^[0-9]*$'); do
		[ "$pid" != "${LAN_PID:-0}" ] || continue
		inode=$(stat -L -c %i "/proc/$pid/ns/net" 2>/dev/null) || continue
		if [[ $nets == *" $inode "* ]] ||
			{ [ "/proc/$pid/exe" -ef "$BIN" ] && grep -qsF "$TMP" "/proc/$pid/cmdline" "/proc/$pid/environ"; } ||
			{ [ "$(readlink "/proc/$pid/ns/mnt")" != "$own" ] && has_piece "$pid"; }; then
			echo "$pid $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
		fi
	done
}

# has_piece says whether a piece of the lab's directory is mounted for a process. A disk that a script mounts at small does not
# count: every mount namespace that is made meanwhile, of another lab's pods, too, gets a copy of it.
has_piece() { awk -v dir="$TMP" 'index($0, dir) && $5 != dir "/small" {found = 1} END {exit !found}' "/proc/$1/mountinfo" 2>/dev/null; }

# podnets lists the network namespaces of this lab's pods: those with a link to the node's.
podnets() {
	local file
	for file in /run/netns/sp-*; do
		[ -e "$file" ] || continue
		nsenter --net="$file" ip netns list-id 2>/dev/null | grep -q " name: $LAB-node)" && echo "$file" || true
	done
}

# lab_down removes all of it, whatever state it is in.
lab_down() {
	local pid
	[ -n "$TMP" ] || return 0
	server_down TERM || true
	if [ -e /run/netns/$LAB-node ] && [ -d "$DATA" ]; then
		svcplane cleanup --data >/dev/null 2>&1 || true
	fi
	[ -z "$LAN_PID" ] || { kill $LAN_PID 2>/dev/null && wait $LAN_PID 2>/dev/null; } || true
	LAN_PID=
	for pid in $(leftovers | cut -d' ' -f1); do
		kill -9 "$pid" 2>/dev/null || true
	done
	ip netns del $LAB-node 2>/dev/null || true
	ip netns del $LAB-lan 2>/dev/null || true
	awk -v dir="$TMP/" 'index($5, dir) == 1 {print $5}' /proc/self/mountinfo | sort -r | xargs -r umount -l 2>/dev/null || true
	[ -n "${KEEP:-}" ] || rm -rf "$TMP"
	TMP=
}

# kib PID FIELD FILE: a figure of /proc/PID/FILE in KiB.
kib() { awk -v f="$2:" '$1 == f {print $2}' "/proc/$1/$3"; }
mb() { awk -v k="${1:-0}" 'BEGIN {printf "%.0f MB", k / 1024}'; }

# shim_memory FIELD FILE: the same, of all processes of our binary but the server: they serve the svcplane/echo pods.
shim_memory() {
	local pid sum=0
	for pid in $(leftovers | cut -d' ' -f1); do
		[ "$pid" != "$SERVER_PID" ] && [ "/proc/$pid/exe" -ef "$BIN" ] || continue
		sum=$((sum + $(kib "$pid" "$1" "$2" || echo 0)))
	done
	echo $sum
}

# first_answer prints the milliseconds from the start of `kubectl apply` of a new Service, in front of the pods of toad,
# to the end of the first request to its address that is answered.
first_answer() {
	cat >"$TMP/fresh.yaml" <<-EOF
		apiVersion: v1
		kind: Service
		metadata: {name: fresh}
		spec: {clusterIP: 10.96.77.77, selector: {app: toad}, ports: [{port: 80, targetPort: http}]}
	EOF
	local began applied
	began=$(now)
	kubectl apply -f "$TMP/fresh.yaml" >/dev/null &
	applied=$!
	until node curl -sf --max-time 1 -o /dev/null http://10.96.77.77/; do
		[ $(($(now) - began)) -lt 10000 ] || die 'the new Service does not answer within 10 s of kubectl apply'
		sleep 0.005
	done
	echo $(($(now) - began))
	wait $applied
	kubectl delete -f "$TMP/fresh.yaml" >/dev/null
}
