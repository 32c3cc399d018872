#!/usr/bin/env bash
# Runs the tests of sertk and of plugins/: tools/test.sh [PYTEST ARGUMENTS]; `-m fast` for those that take under a minute in
# all, `-m slow` for those on real corpora.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/env.sh

if ! command -v pytest >/dev/null; then
    echo "test: this environment has no pytest; run: pip install -c tools/constraints.txt -e '.[mini,dev]'" >&2
    exit 1
fi
# One thread a worker: two workers that each take every core are slower than one.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
exec pytest -n "${SERTK_TEST_JOBS:-2}" "$@"
