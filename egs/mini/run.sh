#!/usr/bin/env bash
# Runs this recipe, setting up the environment where there is none: run.sh [OPTIONS OF sertk recipe]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$here/../../tools/env.sh"
sertk recipe "$here" "$@"
case " $* " in *" --dry-run "* | *" --help "*) exit ;; esac
echo "The corpus is synthetic: these scores mean nothing, they show that everything runs here." >&2
echo "Next, a real corpus: see the README, or: . tools/env.sh && sertk prepare --list" >&2
