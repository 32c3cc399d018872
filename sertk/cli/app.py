"""The commands: arguments in, a stage called, an exit code out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sertk.cli.group import Group, ListFirst
from sertk.cli.options import PluginFiles, with_choices, words_of

if TYPE_CHECKING:
    from sertk.core.files import Record
    from sertk.settings.overrides import Choices
else:
    Choices = object  # importing it would cost every `sertk --help` the loader of settings

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Speech emotion recognition: corpora, systems and protocols as recipes; every part a plugin. "
    "Exit codes: 0 done, 1 failed, 2 wrong use, 3 done but some inputs failed, 130 interrupted and resumable.",
)

Config = Annotated[Path | None, typer.Option(help="A recipe.yaml, or the config.yaml that a run saved.")]
Ffmpeg = Annotated[
    bool, typer.Option("--ffmpeg", help="Run ffmpeg for what libsndfile does not read: m4a, mp4, webm, wma, ...")
]
Root = Annotated[Path | None, typer.Option(help="Folder of the corpus, if it has moved since prepare.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Batch = Annotated[int, typer.Option(min=1, help="Utterances at once.")]
Workers = Annotated[int, typer.Option(min=0, help="Threads that read audio ahead.")]
AllowFailed = Annotated[
    bool, typer.Option("--allow-failed", help="Exit with 0, not 3, if some inputs could not be scored.")
]
Drawn = Annotated[
    Literal["speakers", "utterances"],
    typer.Option(help="What is drawn for the intervals; utterances takes the clips of a speaker for independent."),
]
DataFolder = Annotated[Path, typer.Argument(help="A prepared corpus, data/NAME.")]
Where = Annotated[
    str | None,
    typer.Option(help="Where commands run: local, or slurm:partition=gpu,minutes=240,gpus=1 (docs/clusters.md)."),
]
Cancel = Annotated[bool, typer.Option("--cancel", help="End its jobs on the cluster, run nothing.")]
Jobs = Annotated[int, typer.Option("--nj", min=1, help="Files or shards worked on at once.")]


def _version(asked: bool) -> None:
    if asked:
        from sertk import __version__

        typer.echo(f"sertk {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of every command; `debug` is read by the group."""


@app.command(epilog="Example: sertk prepare emodb --root EMODB_FOLDER --out data/emodb")
def prepare(
    corpus: Annotated[
        str | None, typer.Argument(help="Corpus, NAME[:SETTING=VALUE,...] or FILE.yaml; --list shows the names.")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="The corpus folder as its authors distribute it, or the folder with your own audio."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; data/NAME by default.")] = None,
    protocol: Annotated[
        list[str],
        typer.Option("--protocol", help="Which protocols, by name or as FILE.yaml; all of the corpus by default."),
    ] = [],  # noqa: B006
    min_seconds: Annotated[float, typer.Option(help="Shorter audio is refused, s.")] = 0.1,
    ffmpeg: Ffmpeg = False,
    nj: Jobs = 1,
    plugin: PluginFiles = [],  # noqa: B006
    show: Annotated[bool, typer.Option("--list", help="List corpora and their protocols.")] = False,
) -> None:
    """1: a corpus folder -> manifest, audio facts and audited protocols."""
    from sertk.core import UsageError

    if show:
        from sertk.cli.show import corpora

        corpora(plugin)
        return
    if corpus is None or root is None:
        raise UsageError("give a corpus and its folder: sertk prepare CORPUS --root FOLDER; --list shows the corpora.")
    from sertk.stages.prepare import prepare as stage

    failed = stage(corpus, root, out, protocol, min_seconds, nj, plugin, ffmpeg=ffmpeg)
    raise typer.Exit(3 if failed else 0)


@app.command(epilog="Example: sertk featurize data/emodb --system whisper-probe")
@with_choices
def featurize(
    data: DataFolder,
    choices: Choices,
    config: Config = None,
    root: Root = None,
    nj: Jobs = 1,
) -> None:
    """2: audio -> feature shards, addressed by content. Takes the options of train, so that both see one run."""
    from sertk.corpus.prepared import Data
    from sertk.stages.featurize import featurize as stage

    failed = stage(Data(data, root), choices.load(config), nj, choices.losses())
    raise typer.Exit(3 if failed else 0)


@app.command(epilog="Example: sertk train data/emodb --system p1-ce --protocol loso --fold 03 --out exp/mine")
@with_choices
def train(
    data: DataFolder,
    out: Annotated[
        Path, typer.Option(help="The run folder; with several runs, a folder: each run goes to fold=NAME/seed=N in it.")
    ],
    choices: Choices,
    config: Config = None,
    protocol: Annotated[str | None, typer.Option(help="Protocol of the corpus; needed if there are several.")] = None,
    fold: Annotated[str | None, typer.Option(help="Fold by name, or #n by position; several as 1,2; or all.")] = None,
    seed: Annotated[str | None, typer.Option(help="Everything random follows from it; 0-4 or 0,2 are several.")] = None,
    root: Root = None,
    force: Annotated[bool, typer.Option("--force", help="Delete earlier runs in --out.")] = False,
) -> None:
    """3: folds with seeds -> run folders, each with its bundle model/. Run it again to resume.

    On two GPUs: torchrun --nproc-per-node=2 -m sertk train ...
    """
    from sertk.console.progress import say
    from sertk.corpus.prepared import Data
    from sertk.stages.train import train as stage

    settings = choices.load(config, {} if protocol is None else {"protocol": protocol})
    if gone := choices.left_out(config, settings):
        say(f"--augment takes the place of the system's: {', '.join(gone)} is left out. Name it too to keep it")
    failed = stage(settings, Data(data, root), out, choices.losses(), folds=fold, seeds=seed, force=force)
    raise typer.Exit(3 if failed else 0)


@app.command(epilog="Example: sertk score exp/mine/model recordings/ --out scores.jsonl")
def score(
    ctx: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="The model/ that train wrote; or a folder of runs, fold=F/seed=N.")],
    inputs: Annotated[
        list[str], typer.Argument(help="data/NAME, manifest.jsonl, folder, files, wav.scp, or - for paths.")
    ] = [],  # noqa: B006
    out: Annotated[
        Path | None,
        typer.Option(
            help="scores.jsonl; standard output by default. For a folder of runs: scores.jsonl in each run's folder."
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Where relative paths start.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Protocol of data/NAME; the bundle's own by default.")] = None,
    fold: Annotated[
        str | None,
        typer.Option(
            help="Fold of the protocol; the bundle's own by default. For a folder of runs: 1,2 or #1; all by default."
        ),
    ] = None,
    seed: Annotated[str | None, typer.Option(help="Seeds of a folder of runs: 0-4 or 0,2; all by default.")] = None,
    part: Annotated[Literal["train", "dev", "test"], typer.Option(help="Part of the fold.")] = "test",
    shard: Annotated[str | None, typer.Option(help="K/N: the K-th of N contiguous shares; see --merge.")] = None,
    merge: Annotated[
        bool,
        typer.Option("--merge", help="Join shards: give their score files, out/*.jsonl, instead of a bundle."),
    ] = False,
    launcher: Where = None,
    nj: Annotated[
        int | None, typer.Option("--nj", min=1, help="With --launcher: shards that one bundle's inputs are scored in.")
    ] = None,
    cancel: Cancel = False,
    allow_failed: AllowFailed = False,
    device: Device = "auto",
    batch: Batch = 32,
    source: Annotated[
        Literal["store", "audio"],
        typer.Option(
            "--from", help="store: read the features that featurize stored, if all are there; audio: compute them."
        ),
    ] = "store",
    workers: Workers = 1,
    text: Annotated[
        Path | None,
        typer.Option(help="Transcripts: Kaldi's ID TEXT lines, or .jsonl lines with id and text; ids of score lines."),
    ] = None,
    ffmpeg: Ffmpeg = False,
    windows: Annotated[
        str | None,
        typer.Option(
            help="Cut every recording into windows, LENGTH:HOP in seconds, 4s:2s. By default only what is over 60 s or "
            "over what the model takes, into windows of the model's own length."
        ),
    ] = None,
    over_time: Annotated[
        Path | None,
        typer.Option(help="Also write a line for each window: FILE.jsonl, FILE.csv, or a FOLDER for Praat TextGrids."),
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            help="Also keep the embedding of each utterance: FILE.safetensors, or the word beside, for a file beside "
            "the scores. Of a folder of runs each has its own: beside."
        ),
    ] = None,
    skip_silence: Annotated[
        float | None,
        typer.Option(help="Leave out windows with less power than this, dB relative to full scale, for example -50."),
    ] = None,
    stream: Annotated[
        int | None,
        typer.Option(help="- is raw audio of this rate (Hz; 16-bit, little-endian, one channel): a line a window."),
    ] = None,
    enrol: Annotated[
        str | None,
        typer.Option(
            help="Of a system with normalize: speaker: a folder, manifest.jsonl or wav.scp of other recordings of the "
            "speakers, to know them by. By default they are known by what is scored."
        ),
    ] = None,
    speaker_of: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="The first group, searched in the id (of files: the path), is the speaker."),
    ] = None,
    utt2spk: Annotated[Path | None, typer.Option(help="The speakers: Kaldi's ID SPEAKER lines.")] = None,
    plugin: PluginFiles = [],  # noqa: B006
) -> None:
    """4: a bundle and audio -> one JSON line an utterance, and metrics.json where labels are known.

    Of a folder of runs each is scored on its own fold, into its folder: scores.jsonl, dev.jsonl or train.jsonl. Run it
    again to go on where it was killed: finished lines are kept beside --out.
    """
    from sertk.scoring.speakers import Named
    from sertk.scoring.system import is_system, refuse
    from sertk.stages import score as stage

    given: Record = {"--root": root, "--protocol": protocol, "--fold": fold, "--seed": seed, "--shard": shard}
    given |= {"--text": text, "--part": None if part == "test" else part, "--ffmpeg": ffmpeg or None}
    who = {"--enrol": enrol, "--speaker-of": speaker_of, "--utt2spk": utt2spk}
    cut = {"--windows": windows, "--skip-silence": skip_silence, "--stream": stream}
    kept = {"--over-time": over_time, "--embeddings": embeddings}
    both: Record = {"root": root, "part": part, "device": device, "batch": batch, "files": plugin}
    both |= {"source": source, "embeddings": embeddings, "workers": workers}
    if launcher is not None:
        raise typer.Exit(_spread(ctx, {**{"--shard": shard, "--stream": stream}, **who}))
    refuse({"--nj": nj, "--cancel": cancel or None}, "scoring here, which is one process. Give --launcher local too.")
    if merge:
        refuse({**given, **cut, **who}, "--merge; it was said when the shards were scored.")
        failed = _merge([bundle, *map(Path, inputs)], out, over_time, embeddings, plugin)
    elif not inputs:
        raise typer.BadParameter("Missing argument 'INPUTS...'.")
    elif stream is not None:
        refuse({**given, **who, **kept}, "--stream, which gives a line a window and nothing else.")
        if inputs != ["-"]:
            raise typer.BadParameter("--stream reads standard input: give - as the only input.")
        failed = _listen(bundle, stream, out, windows, skip_silence, device, plugin)
    elif is_system(bundle):
        refuse(
            {"--out": out, "--protocol": protocol, "--shard": shard, "--text": text, "--over-time": over_time}
            | {"--ffmpeg": ffmpeg or None}
            | {**cut, **who},
            "a folder of runs; give one RUN/model.",
        )
        failed = stage.score_runs(bundle, inputs, folds=fold, seeds=seed, **both)
    else:
        refuse({"--seed": seed}, "one bundle; give the folder of its system, which holds fold=F/seed=N.")
        failed = stage.score(
            bundle,
            inputs,
            out,
            protocol=protocol,
            fold=fold,
            shard=shard,
            text=text,
            ffmpeg=ffmpeg,
            windows=windows,
            skip_silence=skip_silence,
            over_time=over_time,
            enrol=enrol,
            named=Named(speaker_of, utt2spk),
            **both,
        )
    raise typer.Exit(3 if failed and not allow_failed else 0)


def _spread(ctx: typer.Context, beside: Record) -> int:
    from sertk.recipe.shards import spread
    from sertk.scoring.system import is_system, refuse

    given = ctx.params
    refuse(beside, "--launcher: speakers, streams and shards are scored as one.")
    if given["out"] is None or given["merge"] or not given["inputs"] or is_system(given["bundle"]):
        raise typer.BadParameter("--launcher goes with one bundle, its inputs, and --out; recipe and sweep score runs.")
    own = ("out", "over_time", "embeddings", "launcher", "nj", "cancel")
    kept = ("launcher", "cancel", "over_time", "embeddings", "allow_failed", "root", "protocol", "fold", "part")
    more = {word: given[word] for word in kept}
    lists = [given["text"]] if given["text"] else []
    words = words_of(ctx, *own)
    where = (given["bundle"], given["inputs"], given["out"], words)
    return spread(*where, shards=given["nj"] or 1, lists=lists, files=given["plugin"], **more)


def _listen(
    bundle: Path,
    rate: int,
    out: Path | None,
    windows: str | None,
    skip_silence: float | None,
    device: str,
    plugin: list[Path],
) -> int:
    from sertk.stages.stream import stream

    return stream(bundle, rate, out, windows=windows, skip_silence=skip_silence, device=device, files=plugin)


def _merge(
    shards: list[Path], out: Path | None, over_time: Path | None, embeddings: Path | None, plugin: list[Path]
) -> int:
    from sertk.stages.score import merge

    if out is None:
        raise typer.BadParameter("--merge needs --out: the file for the lines of all shards.")
    return merge(shards, out, over_time=over_time, embeddings=embeddings, files=plugin)


@app.command(epilog="Example: sertk timeline windows.jsonl talk.flac --out talk.png")
def timeline(
    windows: Annotated[Path, typer.Argument(help="FILE.jsonl or FILE.csv that score --over-time wrote.")],
    recording: Annotated[Path, typer.Argument(metavar="AUDIO", help="The recording.")],
    out: Annotated[Path, typer.Option(help="FILE.png or FILE.svg.")],
    name: Annotated[
        str | None, typer.Option("--id", help="Which of several recordings; the one whose id is AUDIO by default.")
    ] = None,
    ffmpeg: Ffmpeg = False,
) -> None:
    """Draw the posterior over time under the waveform."""
    from sertk.stages.timeline import timeline as stage

    stage(windows, recording, out, name, ffmpeg=ffmpeg)


@app.command(epilog="Example: sertk report exp/loso/p1-ce")
def report(
    folders: Annotated[list[Path], typer.Argument(help="Run folders, or folders above them.")],
    command: Annotated[
        str | None, typer.Option(help="The command that made the runs, to be named in the text.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for RESULTS.md and report.html; the system's own by default.")
    ] = None,
    publish: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write into the RESULTS.md of a recipe.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="The prepared corpus, data/NAME, for the page's sound, the ledger and the audit."),
    ] = None,
    embed_audio: Annotated[
        bool,
        typer.Option(
            "--embed-audio", help="Put short excerpts into the page, not links, where the corpus's licence allows it."
        ),
    ] = False,
    latex: Annotated[
        Path | None, typer.Option(metavar="FILE.tex", help="Also write a table of the systems (booktabs).")
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Also write a row for each run.")] = None,
    plugin: PluginFiles = [],  # noqa: B006
) -> None:
    """5: scored runs -> RESULTS.md and a page with figures, report.html, over folds and seeds."""
    from sertk.stages.report import report as stage

    stage(
        folders,
        out=out,
        command=command,
        publish=publish,
        data=data,
        embed=embed_audio,
        tex=latex,
        csv=csv,
        files=plugin,
    )


@app.command(epilog="Example: sertk compare exp/loso/p1-ce exp/loso/whisper-probe")
def compare(
    folders: Annotated[
        list[Path], typer.Argument(help="System folders, exp/PROTOCOL/SYSTEM, run folders, or folders above them.")
    ],
    seconds: Annotated[float, typer.Option(min=0, help="Utterances up to this length count as short, s.")] = 10.0,
    truth: Annotated[
        str | None, typer.Option(help="The system to agree with, by name; by default the system with the highest UA.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="The system that the others are tested against, by name; the first by default.")
    ] = None,
    by: Drawn = "speakers",
    mcnemar: Annotated[
        bool,
        typer.Option("--mcnemar", help="Show McNemar's test too; it takes the clips of a speaker for independent."),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the table as Markdown too.")] = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write a page with figures too, compare.html, into this folder."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The prepared corpus, data/NAME, whose files the page plays.")
    ] = None,
    plugin: PluginFiles = [],  # noqa: B006
) -> None:
    """Show scored systems beside each other: metrics, intervals, and which of them can be told from the baseline."""
    from sertk.stages.compare import compare as stage

    stage(
        folders,
        seconds=seconds,
        truth=truth,
        baseline=baseline,
        by=by,
        clips=mcnemar,
        out=out,
        page=page,
        data=data,
        files=plugin,
    )


@app.command(epilog="Example: sertk stress exp/mine/model data/emodb --out stress/")
def stress(
    bundle: Annotated[Path, typer.Argument(help="The model/ that train wrote; or a folder of runs, fold=F/seed=N.")],
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="A folder for table, figure and score lines.")],
    condition: Annotated[
        list[str],
        typer.Option("--condition", help="A condition, noise-10 for example; repeat for more. All by default."),
    ] = [],  # noqa: B006
    root: Root = None,
    protocol: Annotated[str | None, typer.Option(help="Of data/NAME; the bundle's own by default.")] = None,
    fold: Annotated[
        str | None,
        typer.Option(help="Of the protocol; the bundle's own by default. Of a folder of runs: 1,2; those there are."),
    ] = None,
    by: Drawn = "speakers",
    device: Device = "auto",
    batch: Batch = 32,
    workers: Workers = 1,
    ffmpeg: Ffmpeg = False,
    allow_failed: AllowFailed = False,
    plugin: PluginFiles = [],  # noqa: B006
) -> None:
    """Score the test part again with noise, a telephone band, other levels and speeds, MP3 and Opus."""
    from sertk.stages.stress import stress as stage

    failed = stage(
        bundle,
        data,
        out,
        asked=condition,
        root=root,
        protocol=protocol,
        fold=fold,
        by=by,
        device=device,
        batch=batch,
        files=plugin,
        workers=workers,
        ffmpeg=ffmpeg,
    )
    raise typer.Exit(3 if failed and not allow_failed else 0)


@app.command(epilog="Example: sertk enrolment exp/emobox/whisper-probe-speaker data/ravdess --out enrolment/")
def enrolment(
    bundle: Annotated[Path, typer.Argument(help="The model/ that train wrote; or a folder of runs, fold=F/seed=N.")],
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="A folder for table, figure and score lines.")],
    draws: Annotated[int, typer.Option(min=1, help="Draws of each number of utterances.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    root: Root = None,
    fold: Annotated[str | None, typer.Option(help="Of a folder of runs: 1,2; those there are.")] = None,
    by: Drawn = "speakers",
    device: Device = "auto",
    batch: Batch = 32,
    allow_failed: AllowFailed = False,
    plugin: PluginFiles = [],  # noqa: B006
) -> None:
    """Show how many recordings of a speaker a system with normalize: speaker needs: UA over their number."""
    from sertk.stages.enrolment import enrolment as stage

    failed = stage(
        bundle,
        data,
        out,
        draws=draws,
        seed=seed,
        root=root,
        fold=fold,
        by=by,
        device=device,
        batch=batch,
        files=plugin,
    )
    raise typer.Exit(3 if failed and not allow_failed else 0)


@app.command(epilog="Example: sertk ensemble exp/a/fold=1/seed=0/model exp/b/fold=1/seed=0/model --out both")
def ensemble(
    bundles: Annotated[
        list[Path], typer.Argument(help="The model/ that train wrote; or folders of runs, fold=F/seed=N.")
    ],
    out: Annotated[Path, typer.Option(help="The folder of the ensemble.")],
    weights: Annotated[
        Literal["equal", "dev"],
        typer.Option(
            help="dev: those with the highest likelihood on dev, of bundles of one fold whose dev was scored (score "
            "--part dev)."
        ),
    ] = "equal",
    runs: Annotated[
        bool,
        typer.Option(
            "--runs", help="Make one ensemble for each fold and seed. OUT is then a system, scored as others are."
        ),
    ] = False,
    plugin: PluginFiles = [],  # noqa: B006
) -> None:
    """Put bundles into one folder that is scored as a bundle is: the weighted mean of their posteriors."""
    from sertk.stages.ensemble import make, make_runs

    (make_runs if runs else make)(bundles, out, weights=weights, files=plugin)


@app.command(epilog="Example: sertk cross exp/mine/model --data data/emodb --data data/tess --out cross/")
def cross(
    bundles: Annotated[
        list[Path],
        typer.Argument(
            help="The model/ that train wrote; or folders of runs, fold=F/seed=N. The first of a training corpus is "
            "what others of it are tested against."
        ),
    ],
    data: Annotated[list[Path], typer.Option("--data", help="A prepared corpus, data/NAME; repeat for more.")],
    out: Annotated[Path, typer.Option(help="A folder for matrix, tests, figure and score lines.")],
    names: Annotated[
        Path | None,
        typer.Option(
            "--map",
            help="YAML or JSON, CORPUS: {CLASS: SHARED_NAME}, or emobox: the four classes of EmoBox's cross-corpus "
            "benchmark; by default classes of the same name are the same.",
        ),
    ] = None,
    protocol: Annotated[
        list[str],
        typer.Option(
            "--protocol", help="CORPUS=NAME: of another corpus score the test parts of this protocol; all by default."
        ),
    ] = [],  # noqa: B006
    by: Drawn = "speakers",
    device: Device = "auto",
    batch: Batch = 32,
    workers: Workers = 1,
    allow_failed: AllowFailed = False,
    plugin: PluginFiles = [],  # noqa: B006
) -> None:
    """Score corpora with bundles that were trained on others: a matrix of UA over the classes that they share."""
    from sertk.stages.cross import cross as stage

    failed = stage(
        bundles,
        data,
        out,
        names=names,
        protocols=protocol,
        by=by,
        device=device,
        batch=batch,
        files=plugin,
        workers=workers,
    )
    raise typer.Exit(3 if failed and not allow_failed else 0)


@app.command(epilog="Example: sertk audit data/emodb --protocol emobox")
def audit(
    lists: Annotated[
        list[str],
        typer.Argument(help="data/NAME; or, with --data, a table of folds, or train=FILE dev=FILE test=FILE."),
    ],
    data: Annotated[Path | None, typer.Option(help="The prepared corpus of the lists.")] = None,
    protocol: Annotated[list[str], typer.Option("--protocol", help="Of data/NAME; all by default.")] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Write the audit of the lists as JSON too.")] = None,
) -> None:
    """Show what train, dev and test of any folds share, and what each part holds."""
    from sertk.stages.audit import audit_lists

    raise typer.Exit(3 if audit_lists(lists, data, protocol, out) else 0)


def _unless_nothing_to_do(command: Callable[..., None]) -> Callable[..., None]:
    """Gives `recipe` a quick look first, before anything that imports torch."""

    @functools.wraps(command)
    def run(ctx: typer.Context, **given: Any) -> None:  # noqa: ANN401 - typer has looked at each
        from sertk.recipe import quick

        ctx.obj = quick.record_of(**ctx.params)
        if ctx.obj is None or not quick.nothing_to_do(ctx.obj):
            command(ctx=ctx, **given)

    return run


@app.command(epilog="Example: sertk recipe egs/ravdess --root RAVDESS_FOLDER --system whisper-probe --fold 1")
@_unless_nothing_to_do
@with_choices
def recipe(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A folder with recipe.yaml, or a packaged recipe's name.")],
    choices: Choices,
    stage: Annotated[str, typer.Option(help="First stage, by number or name.")] = "prepare",
    stop_stage: Annotated[str, typer.Option(help="Last stage, by number or name.")] = "report",
    fold: Annotated[list[str], typer.Option("--fold", help="Fold by name, or #n; repeat for more.")] = [],  # noqa: B006
    seed: Annotated[list[str], typer.Option("--seed", help="Seed, or #n; repeat for more.")] = [],  # noqa: B006
    root: Annotated[Path | None, typer.Option(help="Folder of the corpus.")] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            help="Where data/ and exp/ go; by default the recipe's folder, or here if that is read-only or installed."
        ),
    ] = None,
    tag: Annotated[
        str | None, typer.Option(help="Name of this variant; 8 hex digits of what differs from the system by default.")
    ] = None,
    nj: Annotated[
        int | None, typer.Option("--nj", min=1, help="Processes of prepare and featurize, runs at once.")
    ] = None,
    launcher: Where = None,
    status: Annotated[bool, typer.Option("--status", help="Show how far along it is, run nothing.")] = False,
    cancel: Cancel = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the stage commands, run none.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Do again what is up to date.")] = False,
    allow_failed: Annotated[bool, typer.Option("--allow-failed", help="Go on when inputs failed.")] = False,
    publish: Annotated[bool, typer.Option("--publish", help="Also write RESULTS.md beside the recipe.")] = False,
    copy: Annotated[Path | None, typer.Option(help="Copy the recipe to this folder and stop.")] = None,
) -> None:
    """Run the stages of a recipe in order, skipping what is up to date."""
    from sertk.recipe import find, plan, runner

    path = find.recipe_file(name)
    if copy:
        find.copy(path, copy)
        return
    ask = plan.Ask(
        first=plan.stage_of(stage),
        last=plan.stage_of(stop_stage),
        folds=fold,
        seeds=seed,
        root=root,
        work=work,
        tag=tag,
        jobs=nj,
        dry=dry_run,
        force=force,
        allow_failed=allow_failed,
        publish=publish,
        launcher=launcher,
        choices=choices,
    )
    raise typer.Exit(runner.look(path, ask, cancel=cancel) if status or cancel else runner.run(path, ask, ctx.obj))


@app.command(epilog="Example: sertk sweep ravdess/p3-table1 --root RAVDESS_FOLDER --nj 2")
@with_choices
def sweep(
    name: Annotated[str, typer.Argument(help="A sweep's YAML file, RECIPE/NAME, or a NAME that several recipes have.")],
    choices: Choices,
    row: Annotated[list[str], typer.Option("--row", help="A row of the table; repeat for more. All by default.")] = [],  # noqa: B006
    fold: Annotated[list[str], typer.Option("--fold", help="Fold by name, #n or all; repeat for more.")] = [],  # noqa: B006
    seed: Annotated[list[str], typer.Option("--seed", help="Seed, or #n; repeat for more.")] = [],  # noqa: B006
    recipe: Annotated[str | None, typer.Option(help="Run it over another recipe, by folder or name.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the corpus.")] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="Where data/ and exp/ go; with several recipes, each gets a folder in it."),
    ] = None,
    nj: Annotated[
        int | None, typer.Option("--nj", min=1, help="Processes of prepare and featurize, commands at once.")
    ] = None,
    launcher: Where = None,
    status: Annotated[bool, typer.Option("--status", help="Show how far along it is, run nothing.")] = False,
    cancel: Cancel = False,
    table: Annotated[
        bool, typer.Option("--table", help="Write the table of the runs that are done, run nothing.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands, run none.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Do again what is up to date.")] = False,
    allow_failed: Annotated[bool, typer.Option("--allow-failed", help="Go on when inputs failed.")] = False,
) -> None:
    """Run a grid of systems, folds and seeds, such as a paper's table; skip what is up to date; end in a table."""
    from sertk.recipe import plan, sweep_runner

    ask = plan.Ask(
        folds=fold,
        seeds=seed,
        root=root,
        work=work,
        jobs=nj,
        dry=dry_run,
        force=force,
        allow_failed=allow_failed,
        launcher=launcher,
        choices=choices,
    )
    what: Literal["run", "status", "cancel", "table"] = "run"
    what = "status" if status else "cancel" if cancel else "table" if table else what
    raise typer.Exit(sweep_runner.sweep(name, ask, row, recipe, what))


@app.command(epilog="Example: sertk search data/emodb --sweep my.yaml --row searched --fold 03 --out search/")
@with_choices
def search(
    data: DataFolder,
    sweep: Annotated[Path, typer.Option(help="The sweep's file, with the ranges.")],
    row: Annotated[str, typer.Option(help="The row of it that is searched.")],
    out: Annotated[Path, typer.Option(help="The folder of the search: its journal, trials and system file.")],
    fold: Annotated[str, typer.Option(help="The folds on whose dev the trials are compared: 1,2, #n or all.")],
    choices: Choices,
    config: Config = None,
    protocol: Annotated[str | None, typer.Option(help="Protocol of the corpus; needed if there are several.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the runs.")] = 0,
    root: Root = None,
    force: Annotated[bool, typer.Option("--force", help="Delete an earlier search in --out.")] = False,
) -> None:
    """The part of sweep that searches settings on dev. Started several times, the processes share its trials."""
    from sertk.corpus.prepared import Data
    from sertk.settings.sweep import search_of, system_name
    from sertk.stages.search import Asked
    from sertk.stages.search import search as stage

    name = system_name(sweep, row)
    asked = Asked(choices, config, protocol, Data(data, root), search_of(sweep, row), name, fold, seed)
    stage(asked, out, force=force)


@app.command(hidden=True, epilog="Example: sertk step exp/.jobs/0123456789abcdef.json")
def step(file: Annotated[Path, typer.Argument(help="What a recipe or a sweep wrote for its launcher.")]) -> None:
    """Do steps of a recipe: what launchers run."""
    from sertk.recipe.step import work

    raise typer.Exit(work(file, lambda words: app(list(words), prog_name="sertk", standalone_mode=False) or 0))


@app.command(epilog="Example: sertk kaldi data/emodb kaldi/ --protocol loso --fold 03")
def kaldi(
    data: DataFolder,
    out: Annotated[Path, typer.Argument(help="Where to write; with --protocol, into train/, dev/ and test/.")],
    protocol: Annotated[str | None, typer.Option(help="Write the parts of a fold, and its classes.")] = None,
    fold: Annotated[
        str | None, typer.Option(help="Fold of the protocol, by name or #n; not needed if there is only one.")
    ] = None,
    root: Root = None,
) -> None:
    """Write a prepared corpus as a Kaldi data directory. `sertk prepare kaldi` reads one."""
    from sertk.corpus.prepared import Data
    from sertk.stages.kaldi import write

    write(Data(data, root), out, protocol, fold)


guests = typer.Typer(cls=ListFirst, help="List the plugins; write a new one; check one.")
app.add_typer(guests, name="plugins")


@guests.command("list", epilog="Example: sertk plugins loss triplet")
def list_plugins(
    kind: Annotated[str | None, typer.Argument(help="A kind: loss, backbone, corpus, ...")] = None,
    name: Annotated[str | None, typer.Argument(help="A name of that kind, to see its settings.")] = None,
    plugin: PluginFiles = [],  # noqa: B006
) -> None:
    """List every registered name, or the settings of one. `list` may be left out: sertk plugins loss triplet."""
    from sertk.cli import show

    show.plugins(kind, name, plugin)


@guests.command(epilog="Example: sertk plugins new loss smooth")
def new(
    kind: Annotated[str, typer.Argument(help="A kind: loss, pooling, feature, ...")],
    name: Annotated[str, typer.Argument(help="What users will type.")],
    out: Annotated[Path, typer.Option(help="Where the folder sertk-NAME goes.")] = Path(),
) -> None:
    """Write a distribution (a package for pip) with a plugin that works at once."""
    from sertk.cli.guests import new as write

    root = write(kind, name, out)
    typer.echo(f"wrote {root}. Next: pip install -e {root} && sertk plugins check {root.name}")


@guests.command(epilog="Example: sertk plugins check sertk-smooth")
def check(
    ctx: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="DISTRIBUTION|FILE.py", help="An installed distribution by name, or a Python file.")
    ],
) -> None:
    """Run the contracts: tests that every plugin of a kind must pass. `sertk --debug` shows where the first fails."""
    from sertk.cli.guests import check as run

    raise typer.Exit(run(what, debug=ctx.find_root().params["debug"]))


@app.command(epilog="Example: sertk doctor")
def doctor() -> None:
    """Check the installation; each fault comes with its fix."""
    from sertk.cli.show import findings

    raise typer.Exit(findings())
