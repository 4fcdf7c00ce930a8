#!/usr/bin/env bash
# go build ARGS..., with a line now and then on how far it is: the first one on a machine compiles Kubernetes, which takes
# minutes. What the compiler has to say passes; a build that has little to do says nothing.
set -euo pipefail
main=${!#}
# The compiler collects garbage less often, which is a fifth of its processor time and 150 MB of memory for each that runs.
[ -n "${GOGC:-}" ] || [ "$(awk '/^MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)" -lt 3072 ] || export GOGC=400
go build -v "$@" 2>&1 | MAIN=$main awk '
	BEGIN { began = last = systime() }
	/^[^ :#]+$/ {
		packages++
		if (packages > 10 && systime() - last >= 5) {
			if (!all) ("go list -deps " ENVIRON["MAIN"] " | wc -l") | getline all
			last = systime()
			printf "compiling: %d of at most %d packages, %d s; now %s\n", packages, all, last - began, $0
			fflush()
		}
		next
	}
	{ print; fflush() }'
