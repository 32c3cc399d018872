#!/usr/bin/env bash
# Scores with a bundle on a Slurm cluster, a share a task:
#     sbatch --array=1-32 egs/mini/score_array.sh BUNDLE INPUT OUT_FOLDER 32 [OPTIONS OF sertk score]
# The number of shares is an argument: with it, `sbatch --array=3 ...` does the third of the 32 again, and no other one.
# With --allow-failed a task whose recordings cannot all be read is not FAILED for Slurm. Afterwards
#     sertk score --merge OUT_FOLDER/*.jsonl --out FILE
# checks that no share is missing and writes what one call would have written, with its metrics.
set -euo pipefail
usage="sbatch --array=1-SHARES $0 BUNDLE INPUT OUT_FOLDER SHARES [OPTIONS]"
bundle="${1:?$usage}" input="${2:?$usage}" out="${3:?$usage}" shares="${4:?$usage}"
task="${SLURM_ARRAY_TASK_ID:?$usage}"
exec sertk score "$bundle" "$input" --shard "$task/$shares" --out "$out/scores.$(printf %04d "$task").jsonl" "${@:5}"
