#!/usr/bin/env bash
# dist.sh HOST-BINARY VERSION DIR ARCH=BINARY...: makes DIR/svcplane-VERSION-linux-ARCH.tar.gz of each, and SHA256SUMS. HOST-BINARY
# is of the same version and runs here: it writes the man pages and the completion.
set -euo pipefail
[ $# -ge 4 ] || { echo "usage: ${0##*/} HOST-BINARY VERSION DIR ARCH=BINARY..." >&2; exit 2; }
host=$(realpath "$1") version=$2 out=$(realpath -m "$3")
shift 3
here=$PWD
cd "$(dirname "$0")/.."
. scripts/packages.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
documents "$host" "$work/docs"
mkdir -p "$out"
made=()
for pair in "$@"; do
	name=svcplane-$version-linux-${pair%%=*}
	tree=$work/$name
	mkdir -p "$tree"
	install -m 0755 "$(cd "$here" && realpath "${pair#*=}")" "$tree/svcplane"
	cp README.md LICENSE packaging/svcplane.service packaging/config.yaml "$tree"
	cp "$work/docs/licenses" "$tree/LICENSES-OF-MODULES"
	cp "$work/docs/completion" "$tree/svcplane.bash"
	mkdir "$tree/docs"
	cp docs/*.md "$tree/docs"
	cp -r "$work/docs/man" "$tree/man"
	tar --create --directory "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --format=gnu "$name" |
		gzip -n >"$work/$name.tar.gz"
	mv "$work/$name.tar.gz" "$out/"
	rm -r "$tree"
	made+=("$name.tar.gz")
done
(cd "$out" && sha256sum "${made[@]}" >SHA256SUMS && cat SHA256SUMS)
