#!/usr/bin/env bash
# The lab of lib.sh for a program that cannot source it: LAB=NAME LAB_DIR=DIR lab.sh up | down | snapshot | leftovers | podnets
set -euo pipefail
: "${LAB:?}" "${LAB_DIR:?}"
. "$(dirname "$0")/lib.sh"
case "${1:-}" in
up) lab_up ;;
down) lab_down ;;
snapshot) snapshot ;;
leftovers) leftovers ;;
podnets) podnets ;;
*) die 'usage: LAB=NAME LAB_DIR=DIR lab.sh up | down | snapshot | leftovers | podnets' ;;
esac
