#!/usr/bin/env bash
# The name server beside CoreDNS (plugins kubernetes, cache, loadbalance, forward), both following the same API server, one
# process each, asked in turns by dnsperf with the same files, from behind a veth as a pod asks. SIZES (1000 10000) Services,
# ROUNDS (3) rounds of SECONDS_EACH (5) each; a figure is the median of its rounds.
#
#   queries/s      at saturation. dnsperf takes twice of what our answer takes, so with a core each it would be what
#                  saturates: each server gets SHARE (25) percent of the first core (a cgroup), and dnsperf the second one,
#                  with as many questions outstanding (200) as either server's queue holds without losing any
#   both cores     the same without pinning and shares: what is left of the machine by dnsperf
#   us/query       user and system time of the server's process in that time, by answers
#   20,000/s       at a fixed rate, without shares, and p99 of 500 further questions a second that time themselves
#   memory         VmRSS after the cluster was filled and SETTLE (15) seconds have passed, less that with no Services
#   first answer   from the API's reply to the creation of a Service, and from the sending of it, to the first right answer
#   churn          5,000 questions a second for CHURN (60) seconds while Services come and go: wrong or missing answers
set -euo pipefail
. "$(dirname "$0")/../../scripts/lib.sh"
SIZES=${SIZES:-1000 10000}
ROUNDS=${ROUNDS:-3}
SECONDS_EACH=${SECONDS_EACH:-5}
SETTLE=${SETTLE:-15}
CHURN=${CHURN:-60}
SHARE=${SHARE:-25}
TOOL=${TOOL:-$ROOT/bin/benchdns}
COREDNS=${COREDNS:-$ROOT/bin/coredns}
OURS=10.96.0.10 PEER=10.96.0.11 # both in the namespace of the node
POD_IP=10.244.255.2 # of dnsperf
OURS_PID= PEER_PID= WORLD_PID=
CORES=              # how dnsperf is started: on the second core, or anywhere

finish() {
	local code=$?
	trap - EXIT
	stop_servers
	[ -z "$WORLD_PID" ] || kill $WORLD_PID 2>/dev/null || true
	lab_down
	exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM

median() { sort -n | awk '{v[NR] = $1} END {print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.2f", b ? a / b : 0}'; }
# ticks PID: user and system time of a process, in 10 ms.
ticks() { awk '{print $14 + $15}' "/proc/$1/stat"; }

start_servers() {
	nsenter --net=/run/netns/$LAB-node -- "$TOOL" serve -kubeconfig "$DATA/kubeconfig" -addr $OURS:53 -upstream $LAN_IP:53 >"$TMP/ours.log" 2>&1 &
	OURS_PID=$!
	nsenter --net=/run/netns/$LAB-node -- "$COREDNS" -conf "$TMP/Corefile" >"$TMP/peer.log" 2>&1 &
	PEER_PID=$!
	await 60 grep -q '^ready' "$TMP/ours.log" || die "our server is not ready: $(tail -n3 "$TMP/ours.log")"
	await 60 node dig +short +time=1 @$PEER kubernetes.default.svc.cluster.local || die "CoreDNS is not ready: $(tail -n3 "$TMP/peer.log")"
	await 60 node curl -sf http://127.0.0.1:8181/ready || die "CoreDNS has not synced: $(tail -n3 "$TMP/peer.log")"
}

stop_servers() {
	local pid
	for pid in $OURS_PID $PEER_PID; do
		kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true
	done
	OURS_PID= PEER_PID=
	for pid in ours peer; do rmdir "$(group $pid)" 2>/dev/null || true; done
}

# group NAME: the cgroup of a server; version 1 has the processor's in a hierarchy of its own.
group() {
	local root=/sys/fs/cgroup
	[ ! -e $root/cpu/cgroup.procs ] || root=$root/cpu
	echo $root/$LAB-$1
}

# limit NAME MICROSECONDS: how much of the processor a cgroup gets in every 10 ms; "max" for all of it.
limit() {
	local dir
	dir=$(group "$1")
	if [ -e "$dir/cpu.max" ]; then
		echo "$2 10000" >"$dir/cpu.max"
	else
		echo 10000 >"$dir/cpu.cfs_period_us"
		echo "${2/max/-1}" >"$dir/cpu.cfs_quota_us"
	fi
}

# confine NAME PID: a server has SHARE percent of the first core, and dnsperf the second.
confine() {
	[ -e /sys/fs/cgroup/cpu/cgroup.procs ] || grep -qw cpu /sys/fs/cgroup/cgroup.subtree_control || echo +cpu >/sys/fs/cgroup/cgroup.subtree_control
	mkdir -p "$(group "$1")"
	echo "$2" >"$(group "$1")/cgroup.procs"
	limit "$1" $((SHARE * 100))
	taskset -apc 0 "$2" >/dev/null
	CORES='taskset -c 1'
}

# release NAME PID: takes that back.
release() {
	limit "$1" max
	taskset -apc "0-$(($(nproc) - 1))" "$2" >/dev/null
	CORES=
}

corefile() {
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
}

# perf ADDR PID FILE FLAGS...: prints queries/s and us of CPU per query.
perf() {
	local addr=$1 pid=$2 file=$3 before out n qps
	shift 3
	before=$(ticks "$pid")
	out=$(lan $CORES dnsperf -s "$addr" -d "$file" -l "$SECONDS_EACH" -c 10 -q 200 -t 2 "$@" 2>&1)
	n=$(awk '/Queries completed/ {print $3}' <<<"$out")
	qps=$(awk '/Queries per second/ {printf "%d", $4}' <<<"$out")
	[ "$(awk '/Queries lost/ {print $3}' <<<"$out")" -le $((n / 100)) ] || echo "dnsperf lost: $(grep 'Queries lost' <<<"$out")" >&2
	awk -v t=$(($(ticks "$pid") - before)) -v n="$n" -v q="$qps" 'BEGIN {printf "%d %.1f\n", q, t * 10000 / n}'
}

row='%-34s %12s %12s %8s %10s %10s %8s\n'
# compare NAME FILE FLAGS...
compare() {
	local name=$1 file=$2 r
	shift 2
	rm -f "$TMP"/r.*
	for r in $(seq "$ROUNDS"); do
		perf $OURS $OURS_PID "$file" "$@" >>"$TMP/r.ours"
		perf $PEER $PEER_PID "$file" "$@" >>"$TMP/r.peer"
	done
	local oq pq oc pc
	oq=$(cut -d' ' -f1 "$TMP/r.ours" | median) pq=$(cut -d' ' -f1 "$TMP/r.peer" | median)
	oc=$(cut -d' ' -f2 "$TMP/r.ours" | median) pc=$(cut -d' ' -f2 "$TMP/r.peer" | median)
	printf "$row" "$name" "$oq" "$pq" "$(ratio "$oq" "$pq")" "$oc" "$pc" "$(ratio "$oc" "$pc")"
}

# tail_latency WHO ADDR PID: p99 at 20,000 queries a second, in us.
tail_latency() {
	local out
	lan "$TOOL" probe -addr "$1:53" -rate 500 -seconds "$((SECONDS_EACH > 1 ? SECONDS_EACH - 1 : 1))" -file "$TMP/a" >"$TMP/probe" &
	out=$!
	perf "$1" "$2" "$TMP/a" -Q 20000 >>"$TMP/$3"
	wait $out
	cut -d' ' -f2 "$TMP/probe" >>"$TMP/$3.p99"
}

fixed_rate() {
	local r
	rm -f "$TMP"/f.*
	for r in $(seq "$ROUNDS"); do
		tail_latency $OURS $OURS_PID f.ours
		tail_latency $PEER $PEER_PID f.peer
	done
	local oc pc ol pl
	oc=$(cut -d' ' -f2 "$TMP/f.ours" | median) pc=$(cut -d' ' -f2 "$TMP/f.peer" | median)
	ol=$(median <"$TMP/f.ours.p99") pl=$(median <"$TMP/f.peer.p99")
	printf "$row" '20,000/s: A (p99 us)' "$ol" "$pl" "$(ratio "$ol" "$pl")" "$oc" "$pc" "$(ratio "$oc" "$pc")"
}

rss() { kib "$1" VmRSS status; }

measure() {
	local n=$1
	lab_up
	lan "$TOOL" world -addr $LAN_IP:53 >"$TMP/world.log" 2>&1 &
	WORLD_PID=$!
	server_up --disable dns,proxy,ingress,node
	node ip addr add $PEER/32 dev lo
	node ip route add $POD_IP dev eth0
	lan ip addr add $POD_IP/32 dev eth0
	lan ip route add 10.96.0.0/16 via $NODE_IP src $POD_IP
	corefile
	start_servers
	sleep "$SETTLE"
	local ours0 peer0 ours1 peer1
	ours0=$(rss $OURS_PID) peer0=$(rss $PEER_PID)
	node "$TOOL" fill -kubeconfig "$DATA/kubeconfig" -services "$n"
	sleep "$SETTLE"
	ours1=$(rss $OURS_PID) peer1=$(rss $PEER_PID)
	"$TOOL" questions -dir "$TMP" -services "$n"
	printf "\n%s Services, load %s\n" "$n" "$(cut -d' ' -f1-3 /proc/loadavg)"
	printf "$row" '' 'ours q/s' 'CoreDNS q/s' ratio 'ours us/q' 'CoreDNS' ratio
	confine ours $OURS_PID
	confine peer $PEER_PID
	compare 'A' "$TMP/a"
	compare 'SRV' "$TMP/srv"
	compare 'headless, 100 endpoints, EDNS' "$TMP/headless" -e
	compare 'search path, NXDOMAIN' "$TMP/search"
	compare 'external, cached' "$TMP/external"
	release ours $OURS_PID
	release peer $PEER_PID
	compare 'A, both cores' "$TMP/a"
	compare 'headless, TCP, both cores' "$TMP/headless" -m tcp
	fixed_rate
	printf '%-34s %9s MB %9s MB %8s\n' 'memory by the Services' "$(((ours1 - ours0) / 1024))" "$(((peer1 - peer0) / 1024))" "$(ratio $((ours1 - ours0)) $((peer1 - peer0)))"
	printf '%-34s %9s MB %9s MB %8s\n' 'memory, all of it' "$((ours1 / 1024))" "$((peer1 / 1024))" "$(ratio "$ours1" "$peer1")"
	node "$TOOL" first -kubeconfig "$DATA/kubeconfig" -addr $OURS:53 -peer $PEER:53 | awk '{printf "%-34s %s: %.1f ms after the reply of the API, %.1f ms after the request\n", "first right answer", $1, $3 / 1000, $2 / 1000}'
	if [ "$n" = "${SIZES%% *}" ] && [ "$CHURN" -gt 0 ]; then
		printf '%-34s ' "5,000/s for $CHURN s, Services changing"
		node "$TOOL" churn -kubeconfig "$DATA/kubeconfig" -addr $OURS:53 -rate 5000 -seconds "$CHURN" || true
	fi
	stop_servers
	kill $WORLD_PID && wait $WORLD_PID 2>/dev/null || true
	WORLD_PID=
	lab_down
}

[ "$(nproc)" -ge 2 ] || die 'bench-dns needs two cores: one for the servers and one for dnsperf'
printf '%s, %s cores, CoreDNS %s, medians of %s rounds of %s s\n' "$(uname -sr)" "$(nproc)" \
	"$(awk '$1 == "require" && $2 == "github.com/coredns/coredns" {print $3}' "$(dirname "$0")/coredns/go.mod")" "$ROUNDS" "$SECONDS_EACH"
for n in $SIZES; do
	measure "$n"
done
