#!/usr/bin/env bash
# The ingress beside nginx, HAProxy and Caddy: the same clients, the same upstream server (nginx, one worker), the same
# answers, all on this machine at the same time; one of them under load at a time, in turns, ROUNDS (3) times, SECONDS_EACH (2)
# seconds each. What is printed are medians: requests per second, p50 and p99 of the latency, the processor time that the proxy
# spent per request (user and system, from /proc), and the ratios to the peers. On a machine that does other work meanwhile
# requests per second say little; processor time per request says nearly the same as on an idle one.
#
# `make bench-ingress` builds what it runs (bin/ingressfront, bin/caddy).
#
#   http     HTTP/1.1, keep-alive, wrk                  tls       the same over TLS 1.3
#   connect  a new TCP and TLS connection per request   h2        HTTP/2 over TLS, h2load, 10 streams per connection
#   grpc     POST over h2c to an endpoint that speaks h2c (kubernetes.io/h2c), h2load: what a unary gRPC call costs a proxy
#
#   ws       a WebSocket message and its echo, one at a time on each connection (bench/ingress/wsload)
#   policy   HTTP/1.1 by a route with a rewrite, CORS, a session cookie and headers either way, beside the same without (ours alone)
#
#   CASES="http:1k:64 h2:1k:64 …"   kind:answer:connections        ROUTES="1 1000 10000"   hosts, for the ingress alone
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
ROUNDS=${ROUNDS:-3}
SECONDS_EACH=${SECONDS_EACH:-2}
CASES=${CASES:-http:1k:64 http:1k:512 http:100k:64 tls:1k:64 tls:1k:512 tls:100k:64 connect:1k:64 h2:1k:64 h2:1k:512 h2:100k:64 grpc:1k:64 grpc:1k:512 ws:1k:64 ws:1k:512}
ROUTES=${ROUTES-1 1000 10000}
DIR=$(mktemp -d)
declare -A PID PLAIN=([ours]=9103 [nginx]=9101 [haproxy]=9102 [caddy]=9104) SECURE=([ours]=9443 [nginx]=9441 [haproxy]=9442 [caddy]=9444) CALLS=([ours]=9103 [nginx]=9111 [haproxy]=9112 [caddy]=9104)
PEERS=(ours nginx haproxy caddy)

stop() { for p in "${PID[@]}"; do kill "$p" 2>/dev/null && wait "$p" 2>/dev/null; done || true; }
trap 'code=$?; trap - EXIT; stop; rm -rf "$DIR"; exit $code' EXIT
trap 'exit 130' INT TERM

configure() {
	mkdir "$DIR/www"
	head -c 1024 /dev/zero | tr '\0' x >"$DIR/www/1k"
	head -c 102400 /dev/zero | tr '\0' x >"$DIR/www/100k"
	chmod 755 "$DIR"
	: >"$DIR/post"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$DIR/key.pem" -out "$DIR/cert.pem" -days 2 -subj /CN=h0.test \
		-addext subjectAltName=DNS:h0.test,DNS:grpc.test,DNS:localhost 2>/dev/null
	cat "$DIR/cert.pem" "$DIR/key.pem" >"$DIR/both.pem"
	for f in bench/ingress/*.conf bench/ingress/haproxy.cfg bench/ingress/Caddyfile; do sed "s|@DIR@|$DIR|g" "$f" >"$DIR/${f##*/}"; done
}

start() { # NAME COMMAND…
	: >"$DIR/$1.log" # now: what the last one said must not be taken for this one's
	"${@:2}" >"$DIR/$1.log" 2>&1 &
	PID[$1]=$!
}

# cpu prints the processor time of a process and its children, in hundredths of a second.
cpu() {
	local all=0 p f
	for p in "$1" $(pgrep -P "$1" || true); do
		read -ra f <<<"$(sed 's/.*) //' "/proc/$p/stat")"
		all=$((all + f[11] + f[12]))
	done
	echo $all
}

# load KIND ANSWER CONNECTIONS PEER prints: requests, requests per second, p50 and p99 in ms.
load() {
	local plain=127.0.0.1:${PLAIN[$4]} secure=${SECURE[$4]}
	case $1 in
	http) wrk -t1 -c"$3" -d"${SECONDS_EACH}s" --latency -H 'Host: h0.test' "http://$plain/$2" ;;
	tls) wrk -t1 -c"$3" -d"${SECONDS_EACH}s" --latency "https://localhost:$secure/$2" ;;
	connect) wrk -t1 -c"$3" -d"${SECONDS_EACH}s" --latency -H 'Connection: close' "https://localhost:$secure/$2" ;;
	h2) h2load -t1 -c"$3" -m10 -D"$SECONDS_EACH" --warm-up-time=0 --connect-to="127.0.0.1:$secure" "https://h0.test:$secure/$2" ;;
	grpc) h2load -t1 -c"$3" -m10 -D"$SECONDS_EACH" --connect-to="127.0.0.1:${CALLS[$4]}" -H 'content-type: application/grpc' -H 'te: trailers' -d "$DIR/www/1k" "http://grpc.test/$2" ;;
	ws) bin/wsload -url "ws://$plain/ws" -host h0.test -c "$3" -d "${SECONDS_EACH}s" ;;
	esac >"$DIR/out" 2>&1
	if [ "$1" = ws ]; then
		grep -v ^wsload "$DIR/out" || echo 0 0 0 0
	elif [ "$1" = h2 ] || [ "$1" = grpc ]; then
		# an answer without 2xx is no answer
		awk '/^requests:/ {n = $8} /^status codes:/ {ok = $3} /^finished in/ {rps = $4} /^time for request:/ {gsub("us", " 0.001"); gsub("ms", " 1"); p = $8 * $9} END {print ok+0, (n ? rps * ok / n : 0), "-", "-"}' "$DIR/out"
	else
		awk 'function ms(t) {return t ~ /us$/ ? t / 1000 : t ~ /ms$/ ? t + 0 : t * 1000}
			/50%/ {a = ms($2)} /99%/ {b = ms($2)} /requests in/ {n = $1} /Non-2xx/ {bad = $NF} /Requests\/sec/ {rps = $2} END {print n - bad, rps * (n ? (n - bad) / n : 0), a, b}' "$DIR/out"
	fi
}

ratio() { awk -v a="$1" -v b="$2" 'BEGIN {print (b > 0) ? a / b : 0}'; }

median() { sort -n | awk '{v[NR] = $1} END {print NR ? v[int((NR + 1) / 2)] : 0}'; }

measure() { # CASE PEER FILE
	local kind answer conns before after n rps p50 p99
	IFS=: read -r kind answer conns <<<"$1"
	before=$(cpu "${PID[$2]}")
	read -r n rps p50 p99 <<<"$(load "$kind" "$answer" "$conns" "$2")"
	after=$(cpu "${PID[$2]}")
	echo "$rps $p50 $p99 $(ratio "$(((after - before) * 10000))" "$n")" >>"$3"
}

column() { awk -v c="$2" '{print $c}' "$1" | median; }

compare() {
	local c peer round
	for c in $CASES; do
		for round in $(seq "$ROUNDS"); do
			for peer in "${PEERS[@]}"; do
				measure "$c" "$peer" "$DIR/$c.$peer"
			done
		done
		printf '\n%s   (load average %s)\n' "$c" "$(cut -d' ' -f1-3 /proc/loadavg)"
		printf '  %-8s %10s %9s %9s %12s %18s\n' '' req/s p50/ms p99/ms 'cpu µs/req' 'ours: req/s, cpu'
		for peer in "${PEERS[@]}"; do
			f=$DIR/$c.$peer
			[ -s "$f" ] || continue
			printf '  %-8s %10.0f %9s %9s %12.1f %9.2fx %6.2fx\n' "$peer" "$(column "$f" 1)" "$(column "$f" 2)" "$(column "$f" 3)" "$(column "$f" 4)" \
				"$(ratio "$(column "$DIR/$c.ours" 1)" "$(column "$f" 1)")" "$(ratio "$(column "$f" 4)" "$(column "$DIR/$c.ours" 4)")"
		done
	done
}

# again starts the ingress anew, with more flags of the front.
again() {
	kill "${PID[ours]}"
	wait "${PID[ours]}" 2>/dev/null || true
	front "$@"
}

policies() {
	local kind flag
	printf '\nthe same by a route with policies: cpu µs per request of the ingress\n'
	for kind in http h2; do
		for flag in false true; do
			again 1 -policy=$flag
			for _ in $(seq "$ROUNDS"); do measure $kind:1k:64 ours "$DIR/policy.$kind.$flag"; done
			printf '  %-5s policies %-5s   %6.1f   %8.0f req/s\n' "$kind" $flag "$(column "$DIR/policy.$kind.$flag" 4)" "$(column "$DIR/policy.$kind.$flag" 1)"
		done
	done
}

routes() {
	printf '\nhosts in the table: cpu µs per request of the ingress, http:1k:64\n'
	for n in $ROUTES; do
		again "$n"
		for _ in $(seq "$ROUNDS"); do measure http:1k:64 ours "$DIR/routes.$n"; done
		printf '  %6s   %6.1f   %8.0f req/s\n' "$n" "$(column "$DIR/routes.$n" 4)" "$(column "$DIR/routes.$n" 1)"
	done
}

front() {
	start ours bin/ingressfront -http 127.0.0.1:9103 -https 127.0.0.1:9443 -endpoint 127.0.0.1:9100 -grpc 127.0.0.1:9106 -ws 127.0.0.1:9108 -routes "$1" "${@:2}" -cert "$DIR/cert.pem" -key "$DIR/key.pem"
	for _ in $(seq 600); do grep -q serving "$DIR/ours.log" && return; sleep 0.1; done
	cat "$DIR/ours.log"
	return 1
}

configure
start upstream nginx -c "$DIR/upstream.conf"
start echo bin/wsload -serve 127.0.0.1:9108
start nginx nginx -c "$DIR/nginx.conf"
start haproxy haproxy -f "$DIR/haproxy.cfg"
start caddy bin/caddy run --config "$DIR/Caddyfile" --adapter caddyfile
front 1
sleep 1
printf 'medians of %s rounds of %s s, %s cores, %s\n' "$ROUNDS" "$SECONDS_EACH" "$(nproc)" "$(nginx -v 2>&1 | cut -d: -f2), $(haproxy -v | head -n1 | cut -d' ' -f1-3), caddy $(awk '$1 == "require" && $2 ~ /caddy/ {print $3} $1 ~ /caddyserver.caddy.v2$/ {print $2}' bench/ingress/caddy/go.mod | head -n1)"
compare
if [ -n "$ROUTES" ]; then
	policies
	routes
fi
