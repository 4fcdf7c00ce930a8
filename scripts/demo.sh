#!/usr/bin/env bash
# The walk-through: a server in a network namespace of its own, the manifests of examples/walkthrough, and what comes
# back, one line each. It stops with exit code 1 at the first thing that is not as it should be. Ctrl-C ends it; with
# ONCE=1 it ends by itself. Either way nothing is left.
set -Eeuo pipefail
. "$(dirname "$0")/lib.sh"

MANIFESTS=$ROOT/examples/walkthrough
DNS=10.96.0.10
ZONE=default.svc.cluster.local
FAILED=1 # until the end is reached

# show WHAT RESULT: something that was run, and what came back.
show() { printf '  \033[32m✓\033[0m %-66s %s\n' "$1" "${2:-(nothing)}"; }
wrong() {
	printf '  \033[31m✗\033[0m %-66s %s\n' "$1" "$2"
	exit 1
}
one_line() { tr '\n' ' ' | sed 's/ *$//'; }
# check WHAT REGEX COMMAND...: runs it and shows its output on one line, which has to match.
check() {
	local what=$1 regex=$2 got
	shift 2
	got=$("$@" 2>&1 | one_line) || true
	[[ $got =~ $regex ]] && show "$what" "$got" || wrong "$what" "$got (expected: $regex)"
}
# soon SECONDS WHAT REGEX COMMAND...: as check, and tries again until the time is over.
soon() {
	local deadline=$(($(now) + $1 * 1000)) got
	shift
	while :; do
		got=$("${@:3}" 2>&1 | one_line) || true
		[[ $got =~ $2 ]] && break
		[ "$(now)" -lt $deadline ] || wrong "$1" "$got (expected: $2)"
		sleep 0.1
	done
	show "$1" "$got"
}
step() { printf '\n\033[1m%s\033[0m\n' "$*"; }

finish() {
	local code=$?
	trap - EXIT INT TERM
	[ $FAILED = 0 ] || [ ! -s "$TMP/server.log" ] || { echo "the server's last words:"; tail -n 15 "$TMP/server.log"; } >&2
	lab_down
	exit $code
}
trap finish EXIT
trap 'echo "line $LINENO: $BASH_COMMAND: exit code $?" >&2' ERR
trap 'FAILED=0; echo; exit 0' INT TERM

# many N URL [CURL FLAG...]: asks N times, each time over a new connection, and prints who answered how often.
many() {
	local n=$1 url=$2 prefix=()
	shift 2
	[ -z "${IN_POD:-}" ] || prefix=(kubectl exec "$IN_POD" --)
	[ -n "${IN_POD:-}" ] || prefix=(node)
	"${prefix[@]}" curl -s -S --max-time 10 -H 'Connection: close' -w '\n' "$@" "$url?[1-$n]" | grep -v '^$' | sort | uniq -c |
		awk '{total += $1; line = line sep $2 " " $1; sep = ", "} END {printf "%d answers from %d pods (%s)\n", total, NR, line}'
}
cluster_ip() { kubectl get service "$1" -o 'jsonpath={.spec.clusterIP}'; }
pods() { kubectl get pods -l app=toad -o 'jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{"\n"}{end}'; }
pod_count() { pods | wc -l; }
by_path() { lan curl -s --max-time 5 -H "Host: $1" "http://$NODE_IP$2" | jq -r .pod; }
parts() { svcplane status | awk 'NR > 1 && $2 == "serving" {n++} END {print n " parts, " (n == NR - 1 ? "all" : "not all") " serving"}'; }
frontends() { svcplane proxy show --kernel | grep -c "$1"; }
rolled_out() { kubectl rollout status "deployment/$1" --timeout=60s | tail -n 1; }
exit_of() { "$@" >/dev/null 2>&1 && echo 0 || echo "$?"; }

step_apply() {
	step '1. Apply the manifests, wait for the pods'
	kubectl apply -f "$ROOT/examples/clock.yaml" >/dev/null
	tls_secret toad-tls toad.example.com >/dev/null
	show 'kubectl create secret tls toad-tls (a fresh certificate)' 'created'
	kubectl apply -f "$MANIFESTS" >"$TMP/apply" 2>"$TMP/apply.err" || wrong 'kubectl apply -f examples/walkthrough/' "$(cat "$TMP/apply.err")"
	show 'kubectl apply -f examples/walkthrough/' "$(wc -l <"$TMP/apply") objects created"
	local began
	began=$(now)
	check 'kubectl rollout status deployment/toad' 'successfully rolled out' rolled_out toad
	check 'kubectl rollout status deployment/bar' 'successfully rolled out' rolled_out bar
	check "kubectl get deployments        ($(($(now) - began)) ms later)" '2/2 4/4' kubectl get deployments -o 'jsonpath={range .items[*]}{.status.readyReplicas}/{.spec.replicas} {end}'
	VIP=$(cluster_ip toad-svc)
	POD=$(pods | awk 'NR == 1 {print $1}')
}

step_clusterip() {
	step '2. One address, four pods'
	check "curl http://$VIP/hostname, 200 times, from the node" '200 answers from 4 pods' many 200 "http://$VIP/hostname"
	IN_POD=$POD check "the same from inside pod $POD" '200 answers from 4 pods' many 200 "http://$VIP/hostname"
	check "curl http://$(cluster_ip toad):443/hostname (the port named https)" 'toad-' node curl -s --max-time 5 "http://$(cluster_ip toad):443/hostname"
}

step_dns() {
	step '3. Names'
	check "dig toad-svc.$ZONE" "^$VIP$" node dig +short @$DNS "toad-svc.$ZONE"
	check "dig SRV _http._tcp.toad-headless.$ZONE" '(8080 [^ ]*toad-headless.*){4}' node dig +short @$DNS SRV "_http._tcp.toad-headless.$ZONE"
	check "dig toad-headless.$ZONE" '^(10\.244\.[0-9.]+ ?){4}$' node dig +short @$DNS "toad-headless.$ZONE"
	check "dig CNAME my-db.$ZONE" '^db\.example\.com\.$' node dig +short @$DNS CNAME "my-db.$ZONE"
	check "dig -x $VIP" "^toad-svc\.$ZONE\.$" node dig +short @$DNS -x "$VIP"
	check "dig +tcp toad-svc.$ZONE" "^$VIP$" node dig +tcp +short @$DNS "toad-svc.$ZONE"
	check "in a pod: curl http://toad-svc/hostname (the short name)" '^toad-' kubectl exec "$POD" -- curl -s --max-time 5 http://toad-svc/hostname
}

step_env() {
	step '4. Environment variables'
	# a pod sees the Services that were there before it: the ones of the second ReplicaSet see all of them
	kubectl rollout restart deployment/toad >/dev/null
	check 'kubectl rollout restart deployment/toad' 'successfully rolled out' rolled_out toad
	soon 30 'kubectl get pods -l app=toad (the old ones are gone)' '^4$' pod_count
	POD=$(pods | awk 'NR == 1 {print $1}')
	kubectl exec "$POD" -- env >"$TMP/env"
	check "kubectl exec $POD -- env | grep TOAD_SVC_SERVICE" "TOAD_SVC_SERVICE_HOST=$VIP TOAD_SVC_SERVICE_PORT=80$" grep -E '^TOAD_SVC_SERVICE_(HOST|PORT)=' <(sort "$TMP/env")
	check '... KUBERNETES_SERVICE_HOST' '^KUBERNETES_SERVICE_HOST=10\.96\.0\.1$' grep ^KUBERNETES_SERVICE_HOST= "$TMP/env"
	check '... docker-link style' "TOAD_SVC_PORT_80_TCP=tcp://$VIP:80 TOAD_SVC_PORT_80_TCP_ADDR=$VIP$" grep -E '^TOAD_SVC_PORT_80_TCP(_ADDR)?=' <(sort "$TMP/env")
}

step_lan() {
	step '5. From the LAN'
	check "curl http://$NODE_IP:30123/hostname (NodePort)" '^toad-' lan curl -s --max-time 5 http://$NODE_IP:30123/hostname
	soon 5 'kubectl get service toad-lb (the address in its status)' "^$NODE_IP$" kubectl get service toad-lb -o 'jsonpath={.status.loadBalancer.ingress[0].ip}'
	check "curl http://$NODE_IP:8080/hostname (LoadBalancer)" '^toad-' lan curl -s --max-time 5 http://$NODE_IP:8080/hostname
	check "curl -H 'Host: shop.example.com' http://$NODE_IP/toad (Ingress)" '^toad-' by_path shop.example.com /toad
	check "curl -H 'Host: shop.example.com' http://$NODE_IP/foo" '^bar-' by_path shop.example.com /foo
	check "curl -H 'Host: shop.example.com' http://$NODE_IP/toadstool (no such path)" '^404$' lan curl -s --max-time 5 -o /dev/null -w '%{http_code}' -H 'Host: shop.example.com' http://$NODE_IP/toadstool
	check "curl -H 'Host: bar.example.com' http://$NODE_IP/hostname" '^bar-' lan curl -s --max-time 5 -H 'Host: bar.example.com' http://$NODE_IP/hostname
	check 'curl https://toad.example.com/hostname (certificate checked)' '^toad-' lan curl -s -S --max-time 5 --cacert "$TMP/toad-tls.crt" --resolve "toad.example.com:443:$NODE_IP" https://toad.example.com/hostname
	soon 5 'kubectl get ingress shop (the address in its status)' "^$NODE_IP$" kubectl get ingress shop -o 'jsonpath={.status.loadBalancer.ingress[0].ip}'
}

step_sticky() {
	step '6. Sticky clients, and a server outside the cluster'
	check "curl http://$(cluster_ip toad-sticky)/hostname, 50 times" '50 answers from 1 pods' many 50 "http://$(cluster_ip toad-sticky)/hostname"
	check "curl http://$(cluster_ip external-db):5432/ (external-db)" "^lanserver $LAN_IP:5432" node curl -s --max-time 5 "http://$(cluster_ip external-db):5432/"
	check 'in a pod: curl http://external-db:5432/' "^lanserver $LAN_IP:5432" kubectl exec "$POD" -- curl -s --max-time 5 http://external-db:5432/
}

endpoints_of() { kubectl get endpointslices -l "kubernetes.io/service-name=$1" -o json | jq '[.items[].endpoints[]? | select(.conditions.ready)] | length'; }

step_change() {
	step '7. Things change'
	kubectl scale deployment/toad --replicas=2 >/dev/null
	soon 15 'kubectl scale deployment/toad --replicas=2; ready endpoints' '^2$' endpoints_of toad-svc
	soon 15 "curl http://$VIP/hostname, 100 times" '100 answers from 2 pods' many 100 "http://$VIP/hostname"

	local pid restarts victim old
	pid=$(kubectl logs clock | sed -n 's/^the clock runs as process //p' | tail -n 1)
	# the container may end faster than kill itself, which is a process of it
	kubectl exec clock -- kill -TERM "$pid" 2>/dev/null || true
	soon 30 "kubectl exec clock -- kill $pid; restarts, last exit code" '^1 3 true$' kubectl get pod clock -o 'jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].lastState.terminated.exitCode} {.status.containerStatuses[0].ready}'

	read -r victim old <<<"$(pods)"
	watch_start "http://$VIP/hostname"
	kubectl delete pod "$victim" >/dev/null
	local gone
	gone=$(now)
	soon 20 "kubectl delete pod $victim ($old); ready endpoints" '^2$' endpoints_of toad-svc
	sleep 1
	watch_stop
	[ "$WATCH_FAILED" = 0 ] || wrong 'curl without a pause meanwhile' "$WATCH_FAILED of $WATCH_ALL failed"
	show 'curl without a pause meanwhile' "$WATCH_ALL answers, 0 failed"
	restarts=$(awk -v t=$gone -v p="$victim" '$1 > t && $2 == p' "$TMP/watch" | wc -l)
	[ "$restarts" = 0 ] || wrong 'answers of the old pod after it was deleted' "$restarts"
	show 'answers of the old pod after it was deleted' '0'
	local new
	new=$(pods | cut -d' ' -f2)
	[ -n "$old" ] && grep -qxF "$old" <<<"$new" && wrong 'the new pods have new addresses' "$(tr '\n' ' ' <<<"$new")"
	show 'kubectl get pods (the addresses are new)' "$(tr '\n' ' ' <<<"$new")"
	kubectl scale deployment/toad --replicas=4 >/dev/null
	soon 15 'kubectl scale deployment/toad --replicas=4; ready endpoints' '^4$' endpoints_of toad-svc
	POD=$(pods | awk 'NR == 1 {print $1}')
}

# watch_start URL: asks without a pause, in the background. Each line of $TMP/watch is "time answer", or "time FAILED code".
watch_start() {
	rm -f "$TMP/watch.stop"
	# shellcheck disable=SC2016
	nsenter --net=/run/netns/$LAB-node -- bash -c '
		while [ ! -e "$2.stop" ]; do
			answer=$(curl -s --max-time 5 "$1") || answer="FAILED $?"
			t=$EPOCHREALTIME
			echo "$((${t/[.,]/} / 1000)) $answer"
		done' watch "$1" "$TMP/watch" >"$TMP/watch" &
	WATCH_PID=$!
}
watch_stop() {
	: >"$TMP/watch.stop"
	wait $WATCH_PID
	WATCH_ALL=$(wc -l <"$TMP/watch")
	WATCH_FAILED=$(grep -c FAILED "$TMP/watch" || true)
}

step_delete() {
	step '8. Delete a Service'
	local vip
	vip=$(cluster_ip bar-svc)
	check "curl http://$vip/hostname (bar-svc)" '^bar-' node curl -s --max-time 5 "http://$vip/hostname"
	check 'svcplane proxy show --kernel | grep -c bar-svc' '^[1-9][0-9]*$' frontends bar-svc
	kubectl delete service bar-svc >/dev/null
	soon 5 'kubectl delete service bar-svc; svcplane proxy show --kernel | grep -c bar-svc' '^0$' frontends bar-svc
	soon 5 'svcplane proxy diff (wanted against kernel)' '^(no differences.*)?$' svcplane proxy diff
	check "curl http://$vip/hostname (7: connection refused)" '^7$' exit_of node curl -s --max-time 5 "http://$vip/hostname"
	kubectl apply -f "$MANIFESTS/02-clusterip.yaml" >/dev/null
}

step_look() {
	step '9. Look into it'
	kubectl apply -f "$ROOT/examples/mistakes.yaml" >/dev/null
	soon 15 'svcplane proxy explain wrong-port (what is wrong with it)' 'nothing listens on [^ ]*, the targetPort of port 80' explained wrong-port
	soon 5 "curl -H 'Host: closed.example.com' http://$NODE_IP/ (its login is not carried out)" '^503$' lan curl -s --max-time 5 -o /dev/null -w '%{http_code}' -H 'Host: closed.example.com' http://$NODE_IP/
	soon 5 'kubectl get events (why)' 'auth-url is not carried out and restricts access' kubectl get events --field-selector reason=RouteClosed -o 'jsonpath={.items[*].message}'
	check 'svcplane status -o json | jq (parts that serve)' '^1?[0-9] of 1?[0-9]$' serving
	check "curl http://127.0.0.1:10249/metrics (families of kube-proxy, CoreDNS, ingress-nginx)" '^[1-9][0-9]* [1-9][0-9]* [1-9][0-9]*$' families
	kubectl delete -f "$ROOT/examples/mistakes.yaml" >/dev/null
}
explained() { svcplane proxy explain "$1" | grep '!'; }
serving() { svcplane status -o json | jq -r '"\(map(select(.state == "serving")) | length) of \(length)"'; }
families() {
	node curl -s --max-time 5 http://127.0.0.1:10249/metrics >"$TMP/metrics"
	for peer in kubeproxy coredns nginx_ingress; do grep -c "^# TYPE ${peer}_" "$TMP/metrics"; done
}

# image_archive NAME FILE: an archive, as of `docker save`, of an image whose one program is the LAN server.
image_archive() {
	local dir=$TMP/image digest arch
	mkdir -p "$dir/layer"
	cp "$LANSERVER" "$dir/layer/server"
	tar -C "$dir/layer" -cf "$dir/layer.tar" server
	digest=$(sha256sum "$dir/layer.tar" | cut -d' ' -f1)
	arch=$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/; s/armv7l/arm/')
	printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["/server"],"Cmd":["0.0.0.0:8080"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$arch" "$digest" >"$dir/config.json"
	printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$1" >"$dir/manifest.json"
	tar -C "$dir" -cf "$2" manifest.json config.json layer.tar
}

step_image() {
	step '10. An image from a registry'
	local registry=$LAN_IP:5000
	image_archive "$registry/team/server:1" "$TMP/image.tar"
	nsenter --net=/run/netns/$LAB-lan -- "$LANSERVER" registry "$registry" toad:hall 1000000 "$TMP/image.tar" team/server:1 >"$TMP/registry.log" 2>&1 &
	local pid=$!
	printf 'mirrors: {"%s": {endpoint: ["http://%s"]}}\n' "$registry" "$registry" >"$DATA/registries.yaml"
	kubectl create secret docker-registry lan --docker-server="$registry" --docker-username=toad --docker-password=hall >/dev/null
	kubectl apply -f - >/dev/null <<-END
		{apiVersion: v1, kind: Pod, metadata: {name: pulled}, spec: {terminationGracePeriodSeconds: 1, imagePullSecrets: [{name: lan}],
		  containers: [{name: server, image: "$registry/team/server:1", readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}]}}
	END
	soon 60 'kubectl get pod pulled (its registry is on the LAN and wants a password)' '^true$' kubectl get pod pulled -o 'jsonpath={.status.containerStatuses[0].ready}'
	soon 5 'kubectl get events (the link to it breaks after each megabyte)' 'Successfully pulled image .* Image size: [0-9]+ bytes' kubectl get events --field-selector involvedObject.name=pulled,reason=Pulled -o 'jsonpath={.items[*].message}'
	check "curl http://<pulled>:8080/" '^lanserver' node curl -s --max-time 5 "http://$(kubectl get pod pulled -o 'jsonpath={.status.podIP}'):8080/"
	check 'svcplane image list (what is here needs no registry any more)' "$registry/team/server:1 " svcplane image list
	kill $pid
	wait $pid || true
}

objects() { kubectl get all,endpoints,endpointslices,ingresses,secrets,configmaps,nodes -A -o 'jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid}{"\n"}{end}' 2>/dev/null | sort; }
# alive is what a restart of the server must not change: the pods, their addresses, start times and restarts.
alive() { kubectl get pods -o 'jsonpath={range .items[*]}{.metadata.name} {.status.podIP} {.status.containerStatuses[0].state.running.startedAt} {.status.containerStatuses[0].restartCount}{"\n"}{end}' | sort; }

restart() {
	local what=$1 signal=$2 down code=0
	objects >"$TMP/objects.before"
	alive >"$TMP/alive.before"
	watch_start "http://$VIP/hostname"
	down=$(now)
	server_down "$signal" || code=$?
	[ "$signal" != TERM ] || [ $code = 0 ] || wrong "$what" "exit code $code"
	sleep 2 # the server is down; the kernel is not
	local back
	back=$(now)
	server_up --metrics-address 127.0.0.1:10249
	sleep 1
	watch_stop
	show "$what, wait 2 s, start again" "$READY_LINE"
	local meanwhile
	meanwhile=$(awk -v a="$down" -v b="$back" '$1 > a && $1 < b && $2 != "FAILED"' "$TMP/watch" | wc -l)
	[ "$WATCH_FAILED" = 0 ] && [ "$meanwhile" -gt 10 ] || wrong "curl http://$VIP/hostname without a pause" "$WATCH_FAILED of $WATCH_ALL failed, $meanwhile answers while it was down"
	show "curl http://$VIP/hostname without a pause" "$WATCH_ALL answers, $meanwhile of them while it was down, 0 failed"
	objects >"$TMP/objects.after"
	comm -23 "$TMP/objects.before" "$TMP/objects.after" >"$TMP/lost"
	[ ! -s "$TMP/lost" ] || wrong 'every object is there' "lost: $(tr '\n' ' ' <"$TMP/lost")"
	show 'every object is there, by kind, name and uid' "$(wc -l <"$TMP/objects.before") objects"
	alive >"$TMP/alive.after"
	cmp -s "$TMP/alive.before" "$TMP/alive.after" || wrong 'running pods were not restarted' "$(diff "$TMP/alive.before" "$TMP/alive.after" | tr '\n' ' ')"
	show 'running pods were not restarted: same address, same start time' "$(wc -l <"$TMP/alive.after") pods"
	soon 5 'svcplane proxy diff' '^(no differences.*)?$' svcplane proxy diff
}

step_restart() {
	step '11. Stop, crash, start again'
	soon 15 'kubectl get pods' '^4$' pod_count
	restart 'kill -TERM' TERM
	restart 'kill -KILL' KILL
}

numbers() {
	local rss pss hrss hpss apply warm
	sleep 10 # idle
	rss=$(kib $SERVER_PID VmRSS status)
	pss=$(kib $SERVER_PID Pss smaps_rollup)
	hrss=$(shim_memory VmRSS status)
	hpss=$(shim_memory Pss smaps_rollup)
	apply=$(first_answer)
	server_down TERM
	server_up --metrics-address 127.0.0.1:10249 # with nothing else going on, unlike above
	warm=$READY_MS
	local row='  %-44s %14s   %s\n'
	{
		# shellcheck disable=SC2059
		printf "$row" 'cold start' "$COLD_MS ms" 'from the start of the process, empty data directory, to the ready line (at most 3000)'
		printf "$row" 'warm start' "$warm ms" 'the same with the walk-through in the store and its pods running (at most 2000)'
		printf "$row" 'resident memory of the server' "$(mb $rss)" "VmRSS, idle for 10 s with the walk-through applied; Pss (pages shared with the shim counted by half) $(mb $pss)"
		printf "$row" 'resident memory of the shim, which has the pods' "$(mb $hrss)" "VmRSS of the process that serves every svcplane/echo pod; Pss $(mb $hpss), so both together $(mb $((pss + hpss))) (at most 250)"
		printf "$row" 'kubectl apply of a Service to its first answer' "$apply ms" 'from the start of kubectl to the end of the first curl that succeeds; kubectl itself included'
		printf "$row" 'the stripped binary' "$(($(stat -c %s "$BIN") / 1000000)) MB" 'ls -l bin/svcplane'
	} >"$TMP/numbers"
}

step_cleanup() {
	step '12. Leave nothing'
	podnets >"$TMP/podnets"
	[ -s "$TMP/podnets" ] || wrong 'ip netns (the namespaces of the pods)' 'there are none'
	server_down TERM || wrong 'kill -TERM' "exit code $?"
	show 'kill -TERM' 'exit code 0'
	check 'svcplane cleanup --data' '' svcplane cleanup --data
	snapshot >"$TMP/after"
	diff "$TMP/before" "$TMP/after" >"$TMP/left" || wrong 'as before: iptables, nft, links, routes, sysctls, mounts, processes' "$(cat "$TMP/left")"
	show 'as before: iptables, nft, links, routes, sysctls, mounts, processes' "no difference in $(wc -l <"$TMP/before") lines"
	local file
	while read -r file; do
		[ ! -e "$file" ] || wrong 'ip netns (the namespaces of the pods)' "$file is still there"
	done <"$TMP/podnets"
	show 'ip netns (the namespaces of the pods)' "$(wc -l <"$TMP/podnets") were there, all are gone"
	[ ! -e "$DATA" ] || wrong 'the data directory is gone' "$(ls "$DATA")"
	show 'the data directory' 'gone'
}

wait_for_the_user() {
	cat <<-EOF

		The server keeps running. In another terminal, as root (Ctrl-C here ends everything and removes it):

		  export SVCPLANE_DATA_DIR=$DATA
		  alias k='nsenter --net=/run/netns/$LAB-node $BIN kubectl'
		  k get pods,services,ingresses,endpointslices -o wide
		  k logs -f clock
		  k exec -it $POD -- bash
		  nsenter --net=/run/netns/$LAB-lan curl http://$NODE_IP:30123/
		  nsenter --net=/run/netns/$LAB-node dig @$DNS toad-headless.$ZONE
		  nsenter --net=/run/netns/$LAB-node $BIN proxy show
	EOF
	while kill -0 $SERVER_PID 2>/dev/null; do sleep 1; done
	wrong 'the server' 'ended by itself'
}

main() {
	lab_up
	lan_server_up
	snapshot >"$TMP/before"
	step 'A server, an empty data directory'
	server_up --metrics-address 127.0.0.1:10249
	COLD_MS=$READY_MS
	show 'svcplane server' "$READY_LINE"
	soon 10 'svcplane status' '^[0-9]+ parts, all serving$' parts
	step_apply
	step_clusterip
	step_dns
	step_env
	step_lan
	step_sticky
	step_change
	step_delete
	step_look
	step_image
	step_restart
	numbers
	if [ -n "${ONCE:-}" ]; then step_cleanup; fi
	step "Numbers ($(nproc) cores, $(uname -sr))"
	cat "$TMP/numbers"
	FAILED=0
	[ -n "${ONCE:-}" ] || wait_for_the_user
}
main
