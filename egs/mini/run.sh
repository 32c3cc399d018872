#!/usr/bin/env bash
# Runs this recipe, setting up the environment where there is none: run.sh [OPTIONS OF sertk recipe]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$here/../../tools/env.sh"
exec sertk recipe "$here" "$@"
