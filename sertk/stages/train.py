"""Stage 3: features or waves of folds -> run folders, each with its bundle `model/`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from sertk.console.progress import say
from sertk.core import UsageError
from sertk.core.errors import without_frames
from sertk.core.files import part_of, sentence
from sertk.corpus.prepared import Data
from sertk.modeling.build import about_frozen
from sertk.plugins import Plugins
from sertk.settings.schema import LossTerm, Settings
from sertk.settings.several import folds_of, seeds_of
from sertk.training import distributed
from sertk.training.assemble import say_slow
from sertk.training.loss import with_losses
from sertk.training.run import Run, make_runs
from sertk.training.run_folder import OtherRunError


def train(
    settings: Settings,
    data: Data,
    out: Path,
    named: Sequence[LossTerm] = (),
    *,
    folds: str | None = None,
    seeds: str | None = None,
    force: bool = False,
) -> int:
    """Trains folds with seeds, or goes on with them.

    Args:
        settings: With the protocol.
        data: A prepared and featurized corpus.
        out: The run folder; of several runs the folder of their system, and a run is `fold=NAME/seed=N` in it.
        named: The losses that the command line names.
        folds: See `folds_of`; None takes the one of the settings.
        seeds: See `seeds_of`; None takes the one of the settings.
        force: Delete earlier runs instead of going on with them.

    Returns:
        How many of several runs failed, the others being done; each says why, in its `failed.json` too.

    Raises:
        SertkError: On settings that contradict each other; where no run was done, for a folder of another run, a loss
            that is no number and whatever else ends one.
    """
    with distributed.process_group():
        plugins = Plugins(files=settings.plugins)
        protocol = data.protocol(settings.protocol)
        text = settings.fold if folds is None else folds
        if text is None:
            known = ", ".join(protocol.folds)
            raise UsageError(f"no fold is given. Give --fold with one or more of {known}, #n by position, or all.")
        chosen = folds_of(text, list(protocol.folds))
        numbers = (settings.seed,) if seeds is None else seeds_of(seeds)
        settings, said = with_losses(plugins, settings, named)
        say_slow(settings.train)
        runs = make_runs(plugins, settings, data, protocol, list(product(chosen, numbers)))
        if frozen := about_frozen(plugins, settings):
            say(frozen)
        for one in said:
            say(one)
        if len(runs) == 1:
            runs[0].train(out, force=force)
            return 0
        return _train_all(runs, out, force=force)


def _train_all(runs: Sequence[Run], out: Path, *, force: bool) -> int:
    """Trains several runs; gives how many failed.

    Raises:
        OtherRunError: At the end, where the folder of a run is another's: no failed.json there says that it is not
            done, and neither would an exit code that says "see there".
        Exception: That of the first run, where all failed; any, where several processes train, for they are then no
            longer at the same place.
    """
    failed: list[Exception] = []
    for number, run in enumerate(runs, 1):
        fold, seed = str(run.settings.fold), run.settings.seed
        say(f"run {number} of {len(runs)}: {run.name}")
        try:
            run.train(out / f"fold={part_of(fold)}" / f"seed={seed}", force=force)
        except Exception as error:  # a run can fail in any way, and ends only itself
            if distributed.world_size() > 1:
                raise
            say(f"{run.name} failed: {sentence(error)}")
            failed.append(without_frames(error))
    other = next((error for error in failed if isinstance(error, OtherRunError)), None)
    if other or len(failed) == len(runs):
        raise other or failed[0]
    if failed:
        say(f"{len(failed)} of {len(runs)} runs failed, see failed.json in their folders")
    return len(failed)
