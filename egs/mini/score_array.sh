#!/usr/bin/env bash
#SBATCH --array=1-4
# Scores with a bundle on a Slurm cluster, a share a task: sbatch egs/mini/score_array.sh BUNDLE INPUT OUT_FOLDER
# Afterwards `cat OUT_FOLDER/scores.*.jsonl` is what one call would have written.
set -euo pipefail
task="$(printf %04d "$SLURM_ARRAY_TASK_ID")"
sertk score "$1" "$2" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --out "$3/scores.$task.jsonl"
