#!/usr/bin/env bash
# debcheck.sh OLD.deb NEW.deb: installs, upgrades, removes and purges the Debian package by dpkg, in a mount namespace with a
# writable copy of /usr, /etc and /var, and with a systemctl that does what systemd would. To be run as root, in a network
# namespace that has an address (test/scripts/deb.txtar does).
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
[ $# -eq 2 ] || { echo "usage: ${0##*/} OLD.deb NEW.deb" >&2; exit 2; }
if [ "${SVCPLANE_DEBCHECK:-}" != inside ]; then
	SVCPLANE_DEBCHECK=inside exec unshare --mount --propagation private "$0" "$(realpath "$1")" "$(realpath "$2")"
fi
old=$1 new=$2
fail() { echo "debcheck: $*" >&2; exit 1; }

mount -t tmpfs none /run
for dir in usr etc var; do
	mkdir -p "/run/copy/$dir/upper" "/run/copy/$dir/work"
	mount -t overlay -o "lowerdir=/$dir,upperdir=/run/copy/$dir/upper,workdir=/run/copy/$dir/work" none "/$dir"
done
mkdir -p /run/systemd/system
rm -f /usr/sbin/policy-rc.d
unset SVCPLANE_DATA_DIR

cat >/usr/local/bin/systemctl <<'END'
#!/bin/bash
# As much of systemd as the package's scripts ask for.
unit=/lib/systemd/system/svcplane.service main=/run/svcplane.pid
words=()
for word in "$@"; do case $word in -*) ;; *) words+=("$word") ;; esac; done
running() { [ -e $main ] && kill -0 "$(cat $main)" 2>/dev/null; }
stop() {
	running || return 0
	kill -TERM "$(cat $main)"
	while running; do sleep 0.1; done
	rm $main
}
start() {
	running && return 0
	: >/run/server.out # of the one before
	setsid $(sed -n 's/^ExecStart=//p' $unit) >/run/server.out 2>/run/server.err </dev/null &
	echo $! >$main
	until grep -qs "^svcplane ready" /run/server.out; do
		running || { cat /run/server.err >&2; exit 1; }
		sleep 0.1
	done
}
case ${words[0]} in
start) start ;;
stop) stop ;;
restart) stop; start ;;
try-restart) ! running || { stop; start; } ;;
is-active) running ;;
# links and their like are systemctl's own affair, also where no systemd runs
preset | enable | disable | is-enabled | mask | unmask) SYSTEMD_OFFLINE=1 exec /usr/bin/systemctl "$@" ;;
esac
END
chmod +x /usr/local/bin/systemctl
trap 'systemctl stop; svcplane cleanup 2>/dev/null || true' EXIT

installed() { dpkg-query -W -f '${Version}' svcplane; }
pid() { cat /var/lib/svcplane/lock; }
enabled() { [ -L /etc/systemd/system/multi-user.target.wants/svcplane.service ]; }

# Installed: it serves, and will after the next boot.
dpkg --install "$old"
enabled || fail 'the unit is not enabled'
[ -n "$(dpkg --verify svcplane | grep -v '/usr/share/\(doc\|man\)/')" ] && fail "dpkg --verify: $(dpkg --verify svcplane)"
svcplane status
svcplane kubectl run app --image=svcplane/echo
svcplane kubectl wait --for=condition=Ready pod/app --timeout=60s
at=$(svcplane kubectl get pod app -o 'jsonpath={.status.podIP}:8080')
started=$(svcplane kubectl get pod app -o 'jsonpath={.status.containerStatuses[0].containerID}')
echo '# mine' >>/etc/svcplane/config.yaml

# Upgraded: another server, the same pod, the same config file.
before=$(pid) version=$(installed)
dpkg --install "$new"
[ "$(installed)" != "$version" ] || fail 'it is still the old version'
[ "$(pid)" != "$before" ] || fail 'the server is still the old one'
[ "$(svcplane kubectl get pod app -o 'jsonpath={.status.containerStatuses[0].containerID}')" = "$started" ] || fail 'the pod was started again'
curl -sS --fail --max-time 5 "http://$at/hostname"
grep -qx '# mine' /etc/svcplane/config.yaml || fail 'the config file has lost what was changed'

# An upgrade starts no server that was stopped.
systemctl stop
dpkg --install "$old" 2>&1
[ ! -e /run/svcplane.pid ] || fail 'an upgrade has started a server that was stopped'
curl -sS --fail --max-time 5 "http://$at/hostname"
systemctl start

# Removed: nothing runs, data and config file stay.
dpkg --remove svcplane
! curl -sS --max-time 2 "http://$at/hostname" 2>/dev/null || fail 'the pod still runs'
! pgrep -f '__svcplane-shim /var/lib/svcplane/' || fail 'the shim still runs'
[ ! -e /usr/bin/svcplane ] || fail 'the program is left'
[ -d /var/lib/svcplane/store ] && [ -e /etc/svcplane/config.yaml ] || fail 'data or config file have gone'

# Purged: the config file has gone, the data has not, and that is said.
dpkg --purge svcplane 2>&1 | tee /run/said
grep -q 'rm -r --one-file-system /var/lib/svcplane' /run/said || fail 'purge does not say that the data stays'
[ -d /var/lib/svcplane/store ] || fail "people's data has gone"
[ ! -e /etc/svcplane ] || fail "left: $(ls -A /etc/svcplane)"
! enabled || fail 'the unit is still enabled'
trap - EXIT
