#!/usr/bin/env bash
# Installs the commands that the targets need and this machine lacks. It asks apt-get for what is missing only, so on a
# machine that has everything it does nothing and needs no network.
set -euo pipefail
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# command:Debian package
wanted=(
	iptables:iptables ip:iproute2 conntrack:conntrack ipset:ipset nft:nftables dig:bind9-dnsutils curl:curl jq:jq
	openssl:openssl pgrep:procps nsenter:util-linux setpriv:util-linux script:bsdutils nc:netcat-openbsd
)
[ "${1:-}" = bench ] && wanted+=(wrk:wrk dnsperf:dnsperf)
[ "${1:-}" = bench-ingress ] && wanted+=(wrk:wrk h2load:nghttp2-client nginx:nginx haproxy:haproxy)
[ "${1:-}" = bench-pods ] && wanted+=(containerd:containerd runc:runc /usr/lib/cni/bridge:containernetworking-plugins)
[ "${1:-}" = test ] && wanted+=(musl-gcc:musl-tools systemd-analyze:systemd dpkg-deb:dpkg)
[ "${1:-}" = deb ] && wanted+=(dpkg-deb:dpkg lintian:lintian)
[ "${1:-}" = dist-check ] && wanted+=(qemu-arm-static:qemu-user-static)
[ "${1:-}" = systemd-check ] && wanted+=(systemd-nspawn:systemd-container)

[ "${1:-}" = generate ] && wanted+=(clang:clang llvm-strip:llvm)

missing=()
[ "${1:-}" != generate ] || [ -e /usr/include/bpf/bpf_helpers.h ] || missing+=(libbpf-dev)
for pair in "${wanted[@]}"; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair#*:}")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "deps: install these with your package manager (names as in Debian): ${missing[*]}" >&2
	exit 1
fi
sudo=()
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null 2>&1 || {
		echo "deps: ${missing[*]} are missing: run 'apt-get install ${missing[*]}' as root" >&2
		exit 1
	}
	sudo=(sudo)
fi
echo "deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
