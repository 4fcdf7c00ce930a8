#!/usr/bin/env bash
# systemdcheck.sh BINARY: installs a server on a machine that systemd really runs, which is a copy of this one in a container
# (systemd-nspawn), has it stop answering, be upgraded and be configured wrongly, and uninstalls it. As root.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
[ $# -eq 1 ] || { echo "usage: ${0##*/} BINARY" >&2; exit 2; }
if [ "${SYSTEMDCHECK:-}" != inside ]; then
	SYSTEMDCHECK=inside exec unshare --mount --propagation private "$0" "$(realpath "$1")"
fi
fail() { echo "systemdcheck: $*" >&2; exit 1; }

mount -t tmpfs none /run # what nspawn leaves there, and the machine
mkdir -p /run/machine/{root,upper,work}
root=/run/machine/root
mount -t overlay -o lowerdir=/,upperdir=/run/machine/upper,workdir=/run/machine/work none $root
: >$root/etc/machine-id
for unit in $root/etc/systemd/system/*.wants/*; do # what this machine runs
	ln -sf /dev/null "$root/etc/systemd/system/${unit##*/}"
done
mkdir -p $root/root
cp "$1" $root/root/svcplane
cat >$root/root/check.sh <<'END'
set -euo pipefail
cd /root
PATH=/usr/local/bin:/usr/local/sbin:$PATH
unset SVCPLANE_DATA_DIR
fail() { echo "systemdcheck: $*" >&2; journalctl --no-pager -u svcplane | tail -n 30 >&2; exit 1; }
main() { systemctl show --property=MainPID --value svcplane; }
until_so() { for _ in $(seq 100); do ! "$@" || return 0; sleep 1; done; return 1; }
ip link set lo up
ip addr add 192.0.2.1/24 dev lo

./svcplane install --systemd --now -- --proxy-mode iptables --node-name check
[ "$(systemctl is-active svcplane)" = active ] || fail 'it was started and is not active'
svcplane status || fail 'it was ready before all parts were'
svcplane kubectl run app --image=svcplane/host --command -- sleep 86400
svcplane kubectl wait --for=condition=Ready pod/app --timeout=60s
pod=$(pgrep -x sleep)
[ "$(cat /proc/"$pod"/oom_score_adj)" = 0 ] || fail 'the pod is spared when memory is short'

# A server that stops answering is ended by the watchdog, which it has been telling that it is alive until then.
mkdir -p /etc/systemd/system/svcplane.service.d
printf '[Service]\nWatchdogSec=15\n' >/etc/systemd/system/svcplane.service.d/check.conf
systemctl daemon-reload
systemctl restart svcplane
server=$(main)
sleep 25
[ "$(main)" = "$server" ] || fail 'a server that works was ended'
grep -q 'serving: .* services' <(systemctl show --property=StatusText svcplane) || fail 'it has no status'
kill -STOP "$server"
changed() { [ "$(main)" != "$server" ] && [ "$(systemctl is-active svcplane)" = active ]; }
until_so changed || fail 'a server that hangs was not replaced'
grep -q 'Watchdog timeout' <(journalctl --no-pager -u svcplane) || fail 'and not by the watchdog'
[ "$(pgrep -x sleep)" = "$pod" ] || fail 'the pod has gone with the server'

# An upgrade, log files anew, a config file that is wrong.
server=$(main)
cp svcplane newer && echo >>newer # of which a program takes no notice
./newer install --systemd --now -- --proxy-mode iptables --node-name check
changed || fail 'another version, and the same server'
[ "$(pgrep -x sleep)" = "$pod" ] || fail 'the pod has gone with the upgrade'
systemctl reload svcplane
echo 'nonsense: 1' >>/etc/svcplane/config.yaml
! systemctl restart svcplane 2>said || fail 'it serves with a wrong config file'
grep -q journalctl said
sed -i '$d' /etc/svcplane/config.yaml
./newer install --systemd --now -- --proxy-mode iptables --node-name check
svcplane status >/dev/null || fail 'it does not serve after that was mended'

svcplane uninstall --systemd --purge
[ ! -e /var/lib/svcplane ] && [ ! -e /etc/svcplane ] && [ ! -e /usr/local/bin/svcplane ] || fail 'something is left'
! pgrep -x sleep || fail 'the pod still runs'
! systemctl cat svcplane 2>/dev/null | grep ExecStart || fail 'systemd still knows the unit'
END

systemd-nspawn --directory=$root --register=no --keep-unit --private-network --capability=all --system-call-filter=bpf --console=read-only \
	--boot systemd.unit=multi-user.target >/run/console 2>&1 </dev/null &
nspawn=$!
trap 'kill $nspawn; wait $nspawn || true' EXIT
for _ in $(seq 120); do
	# the init of the container is a child of the process that nspawn waits for, or of nspawn
	init=$(pgrep --parent "$nspawn" -f systemd.unit=multi-user.target || true)
	[ -z "$init" ] || ! nsenter --target "$init" --all systemctl is-system-running --quiet || break
	kill -0 $nspawn 2>/dev/null || break
	sleep 1
done
[ -n "$init" ] || { cat /run/console; fail 'systemd does not come up'; }
nsenter --target "$init" --all bash /root/check.sh
