#!/usr/bin/env bash
# Puts the faults of tools/mutations/ into copies of this checkout, one at a time, and runs the tests that are to find
# each: tools/mutate.sh [--jobs N] [--only SUBSTRING] [--write]. Run it before a release, with --write.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/env.sh
exec python tools/mutate.py "$@"
