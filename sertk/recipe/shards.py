"""A long list that is scored in shards, each a command of a launcher, and put together as one scoring."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from sertk.console.progress import say
from sertk.core.files import Record, digest
from sertk.modeling import ensemble
from sertk.plugins import Plugins
from sertk.recipe.freshness import Step, fresh
from sertk.recipe.launch import Launch, beside
from sertk.recipe.look import facts_of
from sertk.recipe.plan import Ask
from sertk.scoring.inputs import check_splittable, find_inputs
from sertk.scoring.outputs import check_audio, check_out
from sertk.scoring.over_time import is_table


def spread(
    model: Path,
    inputs: Sequence[str],
    out: Path,
    words: Sequence[str],
    *,
    launcher: str,
    shards: int,
    lists: Sequence[Path],
    files: Sequence[Path],
    over_time: Path | None,
    embeddings: Path | None,
    allow_failed: bool,
    cancel: bool = False,
    **where: Path | str | None,
) -> int:
    """Scores in shards and joins them; a shard that was done and reads the same as then is not done again.

    Args:
        model: The bundle.
        inputs: As of `sertk.stages.score.score`.
        out: scores.jsonl.
        words: The command that scores all, without `sertk` and without where it writes to.
        launcher: NAME[:SETTING=VALUE,...].
        shards: How many, at most.
        lists: Other files that it reads.
        files: Plugin files.
        over_time: Where windows go.
        embeddings: Where embeddings go.
        allow_failed: Whether a shard counts as done though some inputs failed.
        cancel: Whether the jobs of an earlier call are ended instead.
        where: root, protocol, fold and part, see `find_inputs`.

    Returns:
        The exit code of the command that joins, or of the first shard that was not scored.

    Raises:
        SertkError: If the bundle or the inputs cannot be read.
        UsageError: If the inputs cannot be split, or `out` would overwrite one.
    """
    check_splittable(inputs, f"1/{shards}")
    check_out(out, [*map(Path, inputs), *ensemble.files(model), *files, *lists], over_time)
    plugins, failed = Plugins(files=files), list[Record]()
    found = find_inputs(inputs, ensemble.opened(model, plugins).about, failed, **where)  # type: ignore[arg-type]
    check_audio(out, found)
    folder = out.with_name(f".{out.name}.shards").resolve()
    launch = Launch(plugins, launcher, folder / ".jobs", shards, Ask(allow_failed=allow_failed))
    state = digest([[one.to_json(), facts_of(found.root / one.path)] for one in found.utterances])
    needs = [*ensemble.files(model), *lists, *files]
    number, steps = max(1, min(shards, len(found.utterances))), list[Step]()
    table = over_time if over_time and is_table(over_time) else None
    for shard in range(1, number + 1):
        lines = folder / f"{number}" / f"{shard}" / "scores.jsonl"
        own = [
            *words,
            "--shard",
            f"{shard}/{number}",
            "--out",
            str(lines),
            *["--embeddings", "beside"] * bool(embeddings),
        ]
        where_to = lines.with_name(f"windows{table.suffix}") if table else over_time
        own += ["--over-time", str(where_to)] if where_to else []
        steps.append(Step("score", own, lines.with_name(".score.json"), own, needs, [lines], reads=state))
    join = ["score", "--merge", *(str(step.makes[0]) for step in steps), "--out", str(out.resolve())]
    join += ["--over-time", str(table.resolve())] if table else []
    join += ["--embeddings", str(embeddings)] if embeddings else []
    join += [word for file in files for word in ("--plugin", str(file))]
    last = Step("merge", join, folder / "merge" / ".merge.json", None, [], [])
    if cancel:
        say(f"{launch.cancel([*steps, last])} jobs are ended")
        return 0
    todo = [step for step in steps if not fresh(step)]
    launch.stage("score", steps, todo)
    launch.last(last)
    code = dict(launch.end())["merge"]
    if code in (0, 3):
        say(f"wrote {out}, put together of {number} shards")
        shutil.rmtree(folder, ignore_errors=True)
        return code
    if launch.launcher.outlives:
        say(f"the shards are not joined: see {beside(last, '.log')} and the logs beside it")
    return code
