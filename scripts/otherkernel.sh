#!/usr/bin/env bash
# Runs the tests of one package on another kernel, in a virtual machine. It emulates the processor, so that everything takes
# four to ten times as long, and is no part of `make test`. The kernel is a Debian package:
#
#   apt-get download linux-image-6.1.0-50-amd64
#   scripts/otherkernel.sh linux-image-6.1.0-50-amd64_*.deb ./proxy/ebpf -test.v -test.run 'TestContract$'
#
# It exits with 0 only when the tests have passed.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

if [ $# -lt 2 ]; then
	echo "usage: ${0##*/} KERNEL.deb PACKAGE [FLAG OF THE TESTS...]" >&2
	exit 2
fi
for pair in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio depmod:kmod dpkg-deb:dpkg; do
	command -v "${pair%%:*}" >/dev/null || {
		echo "${0##*/}: ${pair%%:*} is missing: apt-get install ${pair#*:}" >&2
		exit 1
	}
done
kernel=$1 package=$2
shift 2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$work/kernel" "$root"/{proc,sys,dev,tmp,run,bin,modules}
dpkg-deb -x "$kernel" "$work/kernel"
version=$(basename "$work"/kernel/lib/modules/*)
depmod -b "$work/kernel" "$version"

# What the data planes and their tests use; each with what it needs, in that order.
for module in crc32c_generic nfnetlink xfrm_user veth bridge tun sch_ingress cls_bpf nf_conntrack nf_conntrack_netlink inet_diag tcp_diag udp_diag; do
	modprobe -d "$work/kernel" -S "$version" --show-depends "$module" 2>/dev/null || true
done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' | while read -r path; do
	name=$(basename "$path" .xz)
	case $path in
	*.xz) xz -dc "$path" >"$root/modules/$name" ;;
	*) cp "$path" "$root/modules/$name" ;;
	esac
	echo "$name" >>"$root/modules/order"
done

CGO_ENABLED=0 go test -c -o "$root/tests" "$package"
cp "$(command -v busybox)" "$root/bin/busybox"
printf '%s\n' "$@" >"$root/flags"
cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp && mount -t tmpfs run /run && mount -t cgroup2 none /sys/fs/cgroup
while read -r name; do insmod "/modules/$name"; done </modules/order
uname -r
while read -r flag; do set -- "$@" "$flag"; done </flags
if /tests "$@"; then echo "the tests have passed"; fi
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd"

nice qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 3G -nographic -no-reboot \
	-kernel "$work/kernel/boot/vmlinuz-$version" -initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1" </dev/null |
	tee "$work/log"
grep -q '^the tests have passed' "$work/log"
