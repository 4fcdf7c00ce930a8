#!/usr/bin/env bash
# deb.sh BINARY VERSION DIR: makes DIR/svcplane_VERSION_ARCH.deb of a program for this machine's architecture, and prints its path.
# DEB_COMPRESSION is dpkg-deb's -Z.
set -euo pipefail
[ $# -eq 3 ] || { echo "usage: ${0##*/} BINARY VERSION DIR" >&2; exit 2; }
binary=$(realpath "$1") version=$2 out=$(realpath -m "$3")
cd "$(dirname "$0")/.."
. scripts/packages.sh

# What `git describe` says as a version of Debian's: it begins with a digit, has no hyphen, and a commit is after its tag.
case $version in
v[0-9]*) version=${version#v} ;;
[0-9]*.*) ;;
*) version="0~git$(date --date="@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$version" ;;
esac
version=${version//-/+}
arch=$(dpkg --print-architecture)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree docs=$work/docs
documents "$binary" "$docs"

install -D -m 0755 "$binary" "$tree/usr/bin/svcplane"
install -D -m 0644 packaging/config.yaml "$tree/etc/svcplane/config.yaml"
install -D -m 0644 "$docs/completion" "$tree/usr/share/bash-completion/completions/svcplane"
mkdir -p "$tree/lib/systemd/system" "$tree/usr/share/man/man1" "$tree/usr/share/doc/svcplane" "$tree/usr/share/lintian/overrides" "$tree/DEBIAN"
sed 's|/usr/local/bin/svcplane|/usr/bin/svcplane|' packaging/svcplane.service >"$tree/lib/systemd/system/svcplane.service"
for page in "$docs"/man/*.1; do
	gzip -9n <"$page" >"$tree/usr/share/man/man1/${page##*/}.gz"
done
doc=$tree/usr/share/doc/svcplane
cp packaging/debian/copyright README.md "$doc"
cp docs/install.md docs/upgrade.md docs/data-directory.md docs/ingress.md docs/annotations.md docs/fields.md "$doc"
gzip -9n <"$docs/licenses" >"$doc/licenses.gz"
maintainer=$(sed -n 's/^Maintainer: //p' packaging/debian/control)
gzip -9n >"$doc/changelog.gz" <<END
svcplane ($version) unstable; urgency=medium

  * What has changed since is in the repository's log.

 -- $maintainer  $(date --date="@$SOURCE_DATE_EPOCH" --rfc-email)
END
cp packaging/debian/lintian-overrides "$tree/usr/share/lintian/overrides/svcplane"

install -m 0755 packaging/debian/postinst packaging/debian/prerm packaging/debian/postrm "$tree/DEBIAN"
echo /etc/svcplane/config.yaml >"$tree/DEBIAN/conffiles"
size=$(du --apparent-size -sk --exclude=DEBIAN "$tree" | cut -f1)
sed "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/" packaging/debian/control >"$tree/DEBIAN/control"
(cd "$tree" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
find "$tree" -type d -exec chmod 0755 {} +
find "$tree/usr/share" "$tree/lib" "$tree/etc" "$tree/DEBIAN/control" "$tree/DEBIAN/conffiles" "$tree/DEBIAN/md5sums" -type f -exec chmod 0644 {} +
age "$tree"

mkdir -p "$out"
# one thread: with more, how the data is cut depends on the machine
dpkg-deb --root-owner-group --threads-max=1 -Z"${DEB_COMPRESSION:-xz}" --build "$tree" "$work/package.deb" >/dev/null
mv "$work/package.deb" "$out/svcplane_${version}_$arch.deb"
echo "$out/svcplane_${version}_$arch.deb"
