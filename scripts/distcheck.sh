#!/usr/bin/env bash
# distcheck.sh DIR: starts each program of the tarballs in DIR on this machine, those of another architecture under qemu-user, as far
# as it goes without a kernel of that architecture: version, checks of flags and config files, kubectl, and, as root, a server with
# its API and its store, which stops and comes back with what it was told.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: ${0##*/} DIR" >&2; exit 2; }
cd "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "distcheck: $*" >&2; exit 1; }

server=$work/server.sh
cat >"$server" <<'END'
#!/bin/bash
# server.sh DIR COMMAND...: in a network namespace of its own.
work=$1
shift
ip link set lo up
export SVCPLANE_DATA_DIR=$work/data
one() { timeout 120 "$@" </dev/null; }
for round in 1 2; do
	"$@" server --node-name check --disable node,proxy,dns,ingress >"$work/ready" 2>"$work/log" </dev/null &
	for _ in $(seq 300); do
		! grep -q '^svcplane ready' "$work/ready" || break
		kill -0 $! 2>/dev/null || break
		sleep 1
	done
	grep -q '^svcplane ready' "$work/ready" || { cat "$work/log"; kill -9 $!; exit 1; }
	[ $round = 2 ] || one "$@" kubectl create configmap kept --from-literal=a=b || exit 1
	[ "$(one "$@" kubectl get configmap kept -o 'jsonpath={.data.a}')" = b ] || exit 1
	kill -TERM $!
	wait $! || exit 1
done
rm -r "$SVCPLANE_DATA_DIR"
END
chmod +x "$server"

sha256sum --quiet --check SHA256SUMS
echo 'nodeport: 1' >"$work/bad.yaml"
while read -r _ archive; do
	name=${archive%.tar.gz} arch=${archive##*-linux-} arch=${arch%.tar.gz}
	version=${name#svcplane-} version=${version%-linux-*}
	emulator=
	case $arch in
	armv7) emulator=qemu-arm-static ;;
	arm64) emulator=qemu-aarch64-static ;;
	amd64) emulator=qemu-x86_64-static ;;
	*) emulator=qemu-$arch-static ;;
	esac
	[ "$arch" != "$(dpkg --print-architecture)" ] || emulator=
	tar -xzf "$archive" -C "$work"
	(
		cd "$work/$name"
		for file in svcplane svcplane.service config.yaml README.md LICENSE LICENSES-OF-MODULES; do
			[ -s "$file" ] || fail "$name has no $file"
		done
		run() { timeout 300 $emulator ./svcplane "$@" </dev/null; }
		run version >"$work/out" || fail "$name: version ends with $?"
		grep -q "^svcplane $version " "$work/out" || fail "$name says that it is $(cat "$work/out")"
		run server --config config.yaml --check || fail "$name: its own config file is refused"
		code=0
		run server --config "$work/bad.yaml" 2>"$work/err" || code=$?
		[ "$code" -eq 2 ] && grep -q 'unknown key "nodeport"' "$work/err" || fail "$name: with a wrong config file exit code $code, $(cat "$work/err")"
		code=0
		run server --check --service-cidr 10.96.0.0/99 2>"$work/err" || code=$?
		[ "$code" -eq 2 ] && grep -q service-cidr "$work/err" || fail "$name: with a wrong flag exit code $code, $(cat "$work/err")"
		run kubectl version --client >"$work/out" || fail "$name: kubectl ends with $?"
		run completion bash | cmp - svcplane.bash || fail "$name: another completion than on this machine"
		[ "$(id -u)" -ne 0 ] || unshare --net "$server" "$work" $emulator ./svcplane || fail "$name: the API does not come up"
	)
	rm -r "${work:?}/$name"
	echo "$name: it runs${emulator:+ under $emulator}"
done <SHA256SUMS
