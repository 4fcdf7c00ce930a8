#!/usr/bin/env bash
# licenses.sh BINARY: the license and notices of each module that is in a Go program, in the order of the modules.
set -euo pipefail
binary=$1
cd "$(dirname "$0")/.."

go version -m "$binary" | awk '$1 == "dep" { module = $2; version = $3 } $1 == "=>" { module = $2; version = $3 }
	$1 == "dep" || $1 == "=>" { at[NR] = module "@" version }
	$1 == "=>" { delete at[NR - 1] }
	END { for (i in at) print at[i] }' | LC_ALL=C sort -u | while read -r module; do
	# the module cache writes capitals as ! and the small letter
	dir=$(go env GOMODCACHE)/$(sed 's/[A-Z]/!\l&/g' <<<"$module")
	mapfile -t files < <(cd "$dir" && LC_ALL=C ls | grep -iE '^(licen[cs]e|copying|notice|patents)' || true)
	[ ${#files[@]} -gt 0 ] || { echo "licenses.sh: module $module has no license in $dir" >&2; exit 1; }
	for file in "${files[@]}"; do
		[ -f "$dir/$file" ] || continue
		printf '==== %s %s\n\n' "$module" "$file"
		cat "$dir/$file"
		printf '\n'
	done
done
