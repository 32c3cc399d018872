"""The stages one after another, as users run them."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

import sertk
from sertk.cli.app import app
from sertk.core import UsageError
from sertk.corpus import readers
from sertk.corpus.prepared import Data
from sertk.plugins import Plugins
from sertk.recipe.find import home
from sertk.recipe.plan import anywhere
from sertk.settings import merge
from sertk.settings.schema import LossTerm
from sertk.stages.score import score

ROOT = Path(sertk.__file__).parents[1]


def train(*words: object, **more: object) -> None:
    # late: speechbrain's lazy modules break hypothesis' look at what is imported when tests are collected
    from sertk.stages.train import train as stage

    stage(*words, **more)  # type: ignore[arg-type]


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe's folder."""
    folder = tmp_path_factory.mktemp("recipe") / "tones"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(
        "corpus: ravdess\nprotocol: emobox\nsystem: mini-cnn\nfolds: ['1', '4']\njobs: 2\n"
        "train: {epochs: 2, batch: 8, threads: 1}\n"
    )
    return folder


@pytest.fixture(scope="module")
def work(recipe: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the whole recipe ran."""
    folder = tmp_path_factory.mktemp("work")
    done = cli("recipe", recipe, "--root", corpus, "--work", folder)
    assert done.exit_code == 0, done.output
    return folder


def run(work: Path, fold: str = "1") -> Path:
    return work / f"exp/emobox/mini-cnn/fold={fold}/seed=0"


def test_a_recipe_leaves_what_the_design_says(work: Path) -> None:
    for name in ("config.yaml", "log.jsonl", "scores.jsonl", "metrics.json", "model/bundle.json"):
        assert (run(work) / name).exists(), name
    results = (work / "exp/emobox/mini-cnn/RESULTS.md").read_text()
    folds = Data(work / "data/ravdess").protocol("emobox")
    for part in (
        "| mean of 2 folds |",
        "| pooled |",
        folds.hash,
        "speaker-independent",
        "--root FOLDER --system mini-cnn",
    ):
        assert part in results
    assert (work / "exp/emobox/mini-cnn/figures/confusion.png").stat().st_size > 1000
    assert sorted(path.name for path in (run(work) / "model").iterdir()) == ["bundle.json", "model.safetensors"]


def test_a_second_run_does_nothing_and_says_so(work: Path, recipe: Path, corpus: Path) -> None:
    again = cli("recipe", recipe, "--root", corpus, "--work", work, "--dry-run")
    assert again.exit_code == 0
    assert "sertk " not in again.stdout
    for stage in ("prepare", "featurize", "train", "score", "report"):
        assert f"{stage}: " in again.stderr


def test_a_recipe_that_allows_ffmpeg_tells_prepare_so_and_keeps_its_runs(
    work: Path, recipe: Path, corpus: Path
) -> None:
    words = ("recipe", recipe, "--root", corpus, "--work", work, "--set", "audio.ffmpeg=true", "--dry-run")
    first, *_ = cli(*words).stdout.splitlines()
    assert shlex.split(first)[1] == "prepare"
    assert "--ffmpeg" in first
    assert "train" not in {shlex.split(line)[1] for line in cli(*words, "--stage", "featurize").stdout.splitlines()}


def test_what_was_changed_and_what_follows_from_it_is_done_again(
    work: Path, recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(work, tmp_path / "work", symlinks=True))
    text = (run(mine, "4") / "scores.jsonl").read_text()
    (run(mine, "4") / "scores.jsonl").write_text(text + "{}\n")
    again = cli("recipe", recipe, "--root", corpus, "--work", mine, "--stage", 4, "--stop-stage", "score", "--dry-run")
    (command,) = again.stdout.splitlines()
    assert "--fold 4" in command


def test_embeddings_are_asked_for_beside_each_run_which_stays_the_same_run(
    work: Path, recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(work, tmp_path / "work", symlinks=True))
    words = ("recipe", recipe, "--root", corpus, "--work", mine, "--set", "score.embeddings=true", "--fold", "4")
    shown = [shlex.split(line) for line in cli(*words, "--stop-stage", "score", "--dry-run").stdout.splitlines()]
    assert [line[1] for line in shown] == ["score"]
    assert "--embeddings beside" in " ".join(shown[0])
    before = (run(mine, "4") / "scores.jsonl").read_bytes()
    assert cli(*words).exit_code == 0
    assert (run(mine, "4") / "embeddings.safetensors").exists()
    assert (run(mine, "4") / "scores.jsonl").read_bytes() == before
    assert cli(*words, "--dry-run").stdout == ""
    page = (mine / "exp/emobox/mini-cnn/report.html").read_text()
    assert 'aria-label="t-SNE by Euclidean distance."' in page
    assert "the embeddings of the training part" in page


@pytest.mark.parametrize(
    ("without", "stage", "says", "first"),
    [
        (["data", "exp"], 2, "the corpus is not prepared: ", 1),
        (["data", "exp"], 3, "the corpus is not prepared: ", 1),
        (["data", "exp"], 5, "the corpus is not prepared: ", 1),
        (["data/ravdess/feats", "exp"], 3, "the features are not computed: ", 2),
        (["exp/emobox/mini-cnn/fold=4"], 4, "a run is not trained: ", 3),
        (["exp/emobox/mini-cnn/fold=4/seed=0/scores.jsonl"], 5, "a run is not scored: ", 4),
    ],
)
def test_a_stage_whose_files_are_not_there_says_once_which_command_comes_first(
    work: Path, recipe: Path, corpus: Path, tmp_path: Path, without: list[str], stage: int, says: str, first: int
) -> None:
    mine = Path(shutil.copytree(work, tmp_path / "work", symlinks=True))
    for name in without:
        shutil.rmtree(mine / name) if (mine / name).is_dir() else (mine / name).unlink()
    (mine / "exp/emobox/mini-cnn/.report.json").unlink(missing_ok=True)
    done = cli("recipe", recipe, "--root", corpus, "--work", mine, "--stage", stage)
    text = " ".join(done.stderr.split())
    assert done.exit_code == 1
    assert text.count("error") == text.count(says) == 1
    assert f"is missing. Run `sertk recipe {recipe} --stage {first} ...` first" in text
    assert "sertk train " not in text


def test_what_is_to_be_known_of_the_corpus_stands_below_the_table_too(
    work: Path, recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(work, tmp_path / "work", symlinks=True))
    about = mine / "data/ravdess/corpus.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "notes": ["it is synthetic"]}))
    (mine / "exp/emobox/mini-cnn/.report.json").unlink()
    words = ("recipe", recipe, "--root", corpus, "--work", mine, "--stage", "report")
    assert "it is synthetic" not in cli(*words, "--dry-run").stderr
    assert cli(*words).stderr.rstrip().endswith("ravdess: it is synthetic")


def test_the_printed_commands_run_when_pasted_and_give_the_same_bits(
    work: Path, recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    words = ("--root", corpus, "--work", tmp_path, "--fold", "#1", "--dry-run")
    commands = cli("recipe", recipe, *words).stdout.splitlines()
    assert [shlex.split(line)[1] for line in commands] == ["prepare", "featurize", "train", "score", "report"]
    for line in commands:
        done = cli(*shlex.split(line)[1:])
        assert done.exit_code == 0, done.output
    assert same_weights(run(work), run(tmp_path))
    assert (run(work) / "scores.jsonl").read_text() == (run(tmp_path) / "scores.jsonl").read_text()


def same_weights(a: Path, b: Path) -> bool:
    ours, theirs = (load_file(out / "model/model.safetensors") for out in (a, b))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_saved_config_runs_the_run_again_to_the_bit(work: Path, tmp_path: Path) -> None:
    saved = run(work) / "config.yaml"
    done = cli("train", work / "data/ravdess", "--config", saved, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert same_weights(run(work), tmp_path / "run")
    assert (tmp_path / "run/config.yaml").read_text() == saved.read_text()


def test_another_seed_gives_other_weights(work: Path, tmp_path: Path) -> None:
    words = ("--config", run(work) / "config.yaml", "--seed", 1, "--out", tmp_path / "run")
    assert cli("train", work / "data/ravdess", *words).exit_code == 0
    assert not same_weights(run(work), tmp_path / "run")


def test_the_posterior_of_one_file_is_that_of_its_score_line(work: Path, corpus: Path) -> None:
    line = json.loads((run(work) / "scores.jsonl").read_text().splitlines()[0])
    (path,) = corpus.rglob(f"{line['id']}.wav")
    posterior = sertk.load(run(work) / "model")(path)
    assert list(posterior.values()) == pytest.approx(line["posterior"], abs=1e-4)
    assert max(posterior, key=lambda name: posterior[name]) == line["decision"]
    assert sum(posterior.values()) == pytest.approx(1)


def test_score_lines_have_the_durations_that_systems_are_compared_by(work: Path, corpus: Path) -> None:
    system = run(work).parents[1]
    lines = [line for path in sorted(system.rglob("scores.jsonl")) for line in read(path)]
    durations = {path.stem: soundfile.info(path).duration for path in corpus.rglob("*.wav")}
    assert {line["id"]: line["seconds"] for line in lines} == {
        line["id"]: pytest.approx(durations[str(line["id"])], abs=1e-6) for line in lines
    }
    row, *_ = [line for line in cli("compare", system).stdout.splitlines() if line.startswith("| mini-cnn |")]
    (pooled,) = [line for line in (system / "RESULTS.md").read_text().splitlines() if line.startswith("| pooled |")]
    wa, ua = (cell.strip() for cell in pooled.split("|")[4:6])
    assert row.startswith(f"| mini-cnn | {wa} | {ua} | {ua} ({len(lines)}) | – (0) | / |")


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_shards_together_are_the_whole(work: Path, tmp_path: Path) -> None:
    model, data = run(work) / "model", [str(work / "data/ravdess")]
    whole = read(run(work) / "scores.jsonl")
    parts = []
    for k in (1, 2, 3):
        score(model, data, tmp_path / f"{k}.jsonl", shard=f"{k}/3", batch=5)
        parts += read(tmp_path / f"{k}.jsonl")
    assert [(line["id"], line["label"], line["decision"]) for line in parts] == [
        (line["id"], line["label"], line["decision"]) for line in whole
    ]
    for ours, theirs in zip(parts, whole, strict=True):
        assert ours["posterior"] == pytest.approx(theirs["posterior"], abs=1e-4)
    assert not list(tmp_path.glob("*metrics*"))  # a shard's metrics are nobody's


def test_the_slurm_array_script_scores_a_shard_a_task_and_one_task_again(
    work: Path, corpus: Path, tmp_path: Path
) -> None:
    waves = sorted(corpus.rglob("*.wav"))[:5]
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    (tmp_path / "wav.scp").write_text("".join(f"{path.stem} {path}\n" for path in [*waves, bad]))
    for task in (1, 2, 2):  # the second again, alone: its count is of another array
        slurm = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "1"}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        script, out = ROOT / "egs/mini/score_array.sh", tmp_path / "out"
        words = [script, run(work) / "model", tmp_path / "wav.scp", out, 2, "--allow-failed"]
        subprocess.run(
            list(map(str, words)), env={**os.environ, **slurm, "PATH": path}, check=True, capture_output=True
        )
    parts = [read(out / f"scores.000{task}.jsonl") for task in (1, 2)]
    assert [line["id"] for part in parts for line in part] == [path.stem for path in waves]
    done = CliRunner().invoke(
        app, ["score", "--merge", *map(str, out.glob("*.jsonl")), "--out", f"{tmp_path}/all.jsonl"]
    )
    assert done.exit_code == 3, done.output  # bad.wav
    assert read(tmp_path / "all.jsonl") == [*parts[0], *parts[1]]
    assert [line["id"] for line in read(tmp_path / "all.failed.jsonl")] == ["bad"]


def test_a_folder_files_a_manifest_and_standard_input_are_scored_alike(
    work: Path, corpus: Path, tmp_path: Path
) -> None:
    model, folder = run(work) / "model", corpus / "Actor_01"
    files = sorted(map(str, folder.rglob("*.wav")))
    score(model, [str(folder)], tmp_path / "folder.jsonl")
    score(model, files, tmp_path / "files.jsonl")
    assert (tmp_path / "folder.jsonl").read_text() == (tmp_path / "files.jsonl").read_text()
    piped = CliRunner().invoke(app, ["score", str(model), "-"], input="\n".join(files))
    assert piped.stdout == (tmp_path / "files.jsonl").read_text()
    score(model, [str(work / "data/ravdess/manifest.jsonl")], tmp_path / "manifest.jsonl")
    by_id = {line["id"]: line["posterior"] for line in read(tmp_path / "manifest.jsonl")}
    for line in read(tmp_path / "files.jsonl"):
        assert by_id[Path(str(line["id"])).stem] == pytest.approx(line["posterior"], abs=1e-4)


def test_the_flagship_command_trains_segments_and_triplets_beside_the_systems_own_loss(
    work: Path, recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    options = ("--stage", 3, "--stop-stage", 4, "--fold", 1, "--loss", "triplet", "--segments", "3:2", "--alpha", 0.2)
    shutil.copytree(work / "data", tmp_path / "data")
    done = cli("recipe", recipe, "--root", corpus, "--work", tmp_path, *options)
    assert done.exit_code == 0, done.output
    (out,) = (tmp_path / "exp/emobox").glob("mini-cnn+*/fold=1/seed=0")
    saved = merge.read(out / "config.yaml")
    assert [loss["name"] for loss in saved["losses"]] == ["ce", "triplet"]
    components = json.loads((out / "model/bundle.json").read_text())["components"]
    assert components["segments"] == "3:2:keep"
    assert components["decision"] == {"name": "max_probability", "at": "segments"}
    terms = read(out / "log.jsonl")[0]["terms"]
    assert set(terms) == {"ce", "triplet"}  # type: ignore[call-overload]


def test_pairs_mixup_a_cosine_head_and_noise_copies_train(data: Path, tmp_path: Path) -> None:
    more = {"protocol": "emobox", "fold": "1", "train.epochs": 1, "on_augment": "recompute", "train.refit": True}
    augment = [{"name": "noise", "copies": 2}, {"name": "eam", "probability": 1.0}]
    document = merge.load("mini-cnn", None, {**more, "augment": augment, "crop": {"length": 0.25, "score": "all"}})
    train(document, Data(data), tmp_path / "run", [LossTerm("arcface"), LossTerm("contrastive", weight=0.1)])
    content = json.loads((tmp_path / "run/model/bundle.json").read_text())
    assert content["heads"]["emotion"]["kind"] == "cosine"
    assert content["training"]["refit"] is True
    assert score(tmp_path / "run/model", [str(data)], tmp_path / "scores.jsonl") == 0


def test_an_augmentation_before_a_cached_feature_is_refused(data: Path, tmp_path: Path) -> None:
    document = merge.load("mini-cnn", None, {"protocol": "emobox", "fold": "1", "augment": [{"name": "noise"}]})
    with pytest.raises(UsageError, match=r"'noise' changes the wave, .* Set on_augment: recompute"):
        train(document, Data(data), tmp_path / "run")


def test_an_interrupted_redo_does_not_pass_old_models_off_as_new(
    work: Path, recipe: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Path(shutil.copytree(work, tmp_path / "work"))
    monkeypatch.setattr("sertk.recipe.freshness._versions", lambda: "99")  # everything was upgraded
    monkeypatch.setattr("sertk.builtin.launchers.Local._run", lambda self, commands: [130] * len(commands))
    words = ("recipe", recipe, "--root", corpus, "--work", mine, "--stage", 3, "--stop-stage", 3)
    assert cli(*words).exit_code == 130
    commands = cli(*words, "--dry-run").stdout.splitlines()
    assert len(commands) == 2
    assert all(line.endswith("--force") for line in commands)


@pytest.mark.parametrize(
    "wrong",
    [
        ("--fold", "9"),
        ("--tag", "../x"),
        ("--tag", "a/b"),
        ("--loss", "tripelt"),
        ("--precision", "fp61"),
        ("--seed", "x"),
    ],
)
def test_what_is_wrong_is_told_before_any_stage_runs(
    recipe: Path, corpus: Path, tmp_path: Path, wrong: tuple[str, str]
) -> None:
    done = cli("recipe", recipe, "--root", corpus, "--work", tmp_path, "--dry-run", *wrong)
    assert done.exit_code == 2
    assert not done.stdout


@pytest.mark.parametrize(
    "same",
    ["jobs=4", "score.batch=8", "seeds=[0]", "seeds=0", "train.checkpoint_steps=3", "protocol=emobox", "train.batch=8"],
)
def test_a_setting_that_is_no_part_of_a_run_or_no_other_than_before_opens_no_new_system(
    work: Path, recipe: Path, corpus: Path, same: str
) -> None:
    words = ("recipe", recipe, "--root", corpus, "--work", work, "--stage", 2, "--stop-stage", 4, "--dry-run")
    done = cli(*words, "--set", same)
    assert done.exit_code == 0
    assert not done.stdout
    assert "up to date" in done.stderr


def test_another_system_has_a_tag_and_a_chosen_fold_is_a_fold(work: Path, recipe: Path, corpus: Path) -> None:
    words = ("recipe", recipe, "--root", corpus, "--work", work, "--stage", 3, "--stop-stage", 3, "--dry-run")
    found = [cli(*words, "--set", text).stdout for text in ("train.batch=4", "pooling=max", "pooling={name: max}")]
    folders = [{line.partition("/exp/emobox/")[2].partition("/")[0] for line in text.splitlines()} for text in found]
    assert all(len(names) == 1 and next(iter(names)).startswith("mini-cnn+") for names in folders)
    assert folders[0] != folders[1] == folders[2]
    chosen = cli(*words, "--set", "train.batch=4", "--set", "folds=6").stdout.splitlines()
    assert len(chosen) == 1
    assert "/fold=6/" in chosen[0]
    assert cli(*words, "--set", "folds=12").exit_code == 2  # fold 12, which is not there, and not folds 1 and 2


def test_a_dry_run_prints_what_the_run_would_do_and_no_more(work: Path, recipe: Path, corpus: Path) -> None:
    done = cli("recipe", recipe, "--root", corpus, "--work", work, "--seed", "0-1", "--dry-run")
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [line[1] for line in lines] == ["train", "train", "score", "score", "report"]
    assert all(line[line.index("--seed") + 1] == "1" and "--force" not in line for line in lines[:4])
    assert "score: 2 of 4 up to date, skipped" in done.stderr
    assert "done again" not in done.stderr


def test_the_device_makes_no_other_run(work: Path, recipe: Path, corpus: Path) -> None:
    words = ("recipe", recipe, "--root", corpus, "--work", work, "--stage", 3, "--stop-stage", 3, "--dry-run")
    assert not cli(*words, "--device", "cpu").stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_recipe_alone_stops_its_children_too(
    recipe: Path, corpus: Path, work: Path, tmp_path: Path, number: int
) -> None:
    shutil.copytree(work / "data", tmp_path / "data")
    options = ["--stage", "3", "--fold", "1", "--set", "train.epochs=500"]
    words = [sys.executable, "-m", "sertk", "recipe", recipe, "--root", corpus, "--work", tmp_path, *options]
    if number == signal.SIGTERM:  # as in the background of a script
        words = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *words]
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # these tests may be in one themselves
    process = subprocess.Popen(list(map(str, words)), stderr=subprocess.PIPE, text=True, start_new_session=True)
    signal.signal(signal.SIGINT, previous)
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 1 " in line:
                break
        process.send_signal(number)
        process.stderr.read()  # ends when the last of the group let go of it
        assert process.wait(30) == 130


def test_an_interrupt_is_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sertk.stages.report.report", stop)
    done = cli("report", "x")
    assert done.exit_code == 130
    assert "run the same command again to go on" in done.stderr


def test_the_version_is_told() -> None:
    assert cli("--version").output == f"sertk {sertk.__version__}\n"


def test_an_installed_recipe_writes_where_it_is_run_and_ones_own_beside_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sertk.recipe.find.__file__", str(tmp_path / "site/sertk/recipe/folder.py"))
    inside = tmp_path / "site/sertk/egs/mini"
    inside.mkdir(parents=True)
    assert home(inside) == Path()
    assert home(tmp_path) == tmp_path


def published(stdout: str) -> tuple[list[str], list[str]]:
    """The words of the command that made the results, and those after --publish, of a report's command line."""
    (line,) = [shlex.split(line) for line in stdout.splitlines() if line.startswith("sertk report ")]
    publish = line[line.index("--publish") + 1 :] if "--publish" in line else []
    return shlex.split(line[line.index("--command") + 1]), publish


def test_results_are_published_beside_the_recipe_that_ran_and_name_no_place_of_this_machine(
    work: Path, recipe: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, ours = Path(shutil.copytree(recipe, tmp_path / "mine")), Path(shutil.copytree(work, tmp_path / "work"))
    done = cli("recipe", mine, "--root", corpus, "--work", ours, "--stage", "report", "--publish")
    assert done.exit_code == 0, done.output
    for path in (mine / "RESULTS.md", ours / "exp/emobox/mini-cnn/RESULTS.md"):
        text = path.read_text()
        assert "- command: `sertk recipe recipe.yaml --root FOLDER --system mini-cnn`" in text
        assert not [place for place in (tmp_path, corpus, recipe, ROOT) if str(place) in text]
    assert (mine / "RESULTS.md").read_text().startswith("# ravdess: results\n\n## emobox / mini-cnn\n")
    # the command runs where the recipe lies
    monkeypatch.chdir(mine)
    again = cli("recipe", "recipe.yaml", "--root", corpus, "--system", "mini-cnn", "--work", ours, "--dry-run")
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("whisper:source={0}/encoder,freeze=conv", "whisper:source=FOLDER,freeze=conv"),
        ("{{name: whisper, source: {0}/encoder, freeze: conv}}", "{name: whisper, source: FOLDER, freeze: conv}"),
        ("whisper:source={0}/my models/tiny.pt", "whisper:source=tiny.pt"),
        ("whisper:source=openai/whisper-tiny.en", "whisper:source=openai/whisper-tiny.en"),
        ("corpus=table:list={0}/list.csv", "corpus=table:list=list.csv"),
        ("backbone.source=https://a.b/c", "backbone.source=https://a.b/c"),
        ("2.8s:1.4s", "2.8s:1.4s"),
    ],
)
def test_no_setting_of_the_published_command_leads_to_a_place_of_this_machine(
    tmp_path: Path, value: str, shown: str
) -> None:
    (tmp_path / "encoder").mkdir()
    assert anywhere(value.format(tmp_path)) == shown


def test_files_of_the_published_command_are_named_as_the_recipes_folder_sees_them(
    recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(recipe, tmp_path / "mine"))
    (mine / "systems").mkdir()
    shutil.copy(ROOT / "sertk/settings/conf/systems/mini-cnn.yaml", mine / "systems/own.yaml")
    for place in (mine / "metric.py", tmp_path / "far.py"):
        place.write_text("from sertk.hookspecs import hookimpl\n@hookimpl\ndef sertk_metrics():\n    return {}\n")
    files = ("--system", mine / "systems/own.yaml", "--plugin", mine / "metric.py", "--plugin", tmp_path / "far.py")
    done = cli("recipe", mine, "--root", corpus, "--work", tmp_path / "w", "--dry-run", *files)
    assert done.exit_code == 0, done.output
    command, _ = published(done.stdout)
    assert command == shlex.split(
        "sertk recipe recipe.yaml --root FOLDER --system systems/own.yaml --plugin metric.py --plugin far.py"
    )


def test_recipes_that_come_with_sertk_say_their_run_script_and_installed_ones_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("recipe", "mini", "--work", tmp_path / "w", "--dry-run", "--publish")
    assert published(cli(*words).stdout) == (
        ["egs/mini/run.sh", "--system", "mini-cnn"],
        [str(ROOT / "egs/mini/RESULTS.md")],
    )
    monkeypatch.setattr("sertk.recipe.plan.home", lambda folder: Path())
    command, folder = published(cli(*words).stdout)
    assert (command, folder) == (["sertk", "recipe", "mini", "--system", "mini-cnn"], [str(tmp_path / "w/RESULTS.md")])


def test_a_changed_metric_of_a_plugin_file_is_scored_and_reported_again(
    work: Path, recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    ours, file = Path(shutil.copytree(work, tmp_path / "work")), tmp_path / "metric.py"
    body = "from sertk.core import Metric\nfrom sertk.hookspecs import hookimpl\n\n\nclass Half(Metric):\n"
    body += "    def __call__(self, scores):\n        return {}\n\n\n@hookimpl\ndef sertk_metrics():\n"
    body += "    return {{'half': Half}}\n"
    words = ("recipe", recipe, "--root", corpus, "--work", ours, "--stage", "score", "--plugin", file)
    for value in ("0.5", "0.25"):
        file.write_text(body.format(value))
        done = cli(*words)
        assert done.exit_code == 0, done.output
        text = (ours / "exp/emobox/mini-cnn/RESULTS.md").read_text()
        assert f"| {100 * float(value):.2f} |\n" in text


def test_help_imports_neither_torch_nor_a_plugin() -> None:
    code = (
        "import sys\nsys.argv = ['sertk', '--help']\nimport sertk.cli\ntry:\n    sertk.cli.main()\nexcept SystemExit:\n"
        "    pass\nprint([name for name in ('torch', 'numpy', 'sertk.core', 'sertk.builtin') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_looks_for_guests_commands_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def none(group: str) -> list[object]:
        asked.append(group)
        return []

    monkeypatch.setattr("sertk.cli.group.entry_points", none)
    assert cli("--help").exit_code == 0
    assert asked == ["sertk.commands"]


def test_a_recipe_is_found_by_name_copied_and_a_wrong_one_gets_the_nearest(tmp_path: Path) -> None:
    assert cli("recipe", "mini", "--copy", tmp_path / "mine").exit_code == 0
    assert (tmp_path / "mine/recipe.yaml").exists()
    assert not (tmp_path / "mine/run.sh").exists()  # it would look for tools/ beside the copy
    wrong = cli("recipe", "ravdes")
    assert wrong.exit_code == 2
    assert "did you mean 'ravdess'?" in wrong.stderr


def test_every_recipe_names_what_exists_and_its_run_script_is_the_same_few_lines() -> None:
    plugins, scripts = Plugins(), set()
    for path in sorted((ROOT / "egs").glob("*/recipe.yaml")):
        document = merge.load(None, path)
        assert document.corpus
        corpus = readers.reader(plugins, document.corpus, path.parent)
        assert document.protocol in corpus.protocols or (path.parent / str(document.protocol)).is_file()
        assert document.system in merge.systems()
        scripts.add((path.parent / "run.sh").read_text())
        assert (path.parent / "README.md").exists()
    assert len(scripts) == 1


def test_every_system_is_complete() -> None:
    for name in merge.systems():
        assert merge.load(name).inputs, name
