"""Every bad input gets one sentence: what, what was given, what is allowed, and the next step."""

import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from sertk.cli.app import app
from sertk.core import InputError, SertkError, UsageError
from sertk.corpus import audio
from sertk.corpus.prepared import Data
from sertk.modeling import bundle
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.settings.schema import DecisionSpec, Settings
from sertk.stages.featurize import featurize
from sertk.stages.prepare import prepare
from sertk.stages.score import score
from sertk.testing import signed, tree

ONE = "Actor_01/03-01-05-01-01-01-01.wav"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path / "corpus", actors=(1, 3, 4, 8, 2, 6), emotions=("anger", "sadness", "happiness"))


def train(*words: object, **more: object) -> None:
    # late: speechbrain's lazy modules break hypothesis' look at what is imported when tests are collected
    from sertk.stages.train import train as stage

    stage(*words, **more)  # type: ignore[arg-type]


def failures(root: Path, out: Path) -> list[str]:
    """Prepares a corpus of which some files are bad; gives the reasons, and checks that the rest was kept."""
    before = len(list(root.rglob("*.wav")))
    failed = prepare("ravdess", root, out, [], 0.1, 2)
    reasons = [json.loads(line)["reason"] for line in (out / "failed.jsonl").read_text().splitlines()]
    assert len(reasons) == failed
    assert len((out / "manifest.jsonl").read_text().splitlines()) == before - failed
    return reasons


def noise(seconds: float, rate: int = 16_000) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * rate))


def test_an_empty_file_is_named(root: Path, tmp_path: Path) -> None:
    (root / ONE).write_bytes(b"")
    assert failures(root, tmp_path / "out") == [
        f"03-01-05-01-01-01-01: {root / ONE} is an empty file (0 bytes). Obtain it again."
    ]


def test_text_renamed_wav_is_named(root: Path, tmp_path: Path) -> None:
    (root / ONE).write_text("hello, this is no audio")
    (reason,) = failures(root, tmp_path / "out")
    assert reason.startswith(f"03-01-05-01-01-01-01: {root / ONE} is not audio that libsndfile reads")
    assert reason.endswith("Convert it (ffmpeg -i IN OUT.wav).")


def test_zero_samples_are_named(root: Path, tmp_path: Path) -> None:
    soundfile.write(root / ONE, np.zeros(0), 16_000)
    assert failures(root, tmp_path / "out") == [
        f"03-01-05-01-01-01-01: {root / ONE} holds no samples. Remove it or obtain it again."
    ]


def test_samples_that_are_no_numbers_are_named_with_the_first(root: Path, tmp_path: Path) -> None:
    wave = noise(0.5)
    wave[123] = np.nan
    soundfile.write(root / ONE, wave, 16_000, subtype="FLOAT")
    (reason,) = failures(root, tmp_path / "out")
    assert "has samples that are no numbers (first at 123). Encode it again." in reason


def test_ten_milliseconds_are_too_short(root: Path, tmp_path: Path) -> None:
    soundfile.write(root / ONE, noise(0.01), 16_000)
    assert failures(root, tmp_path / "out") == [
        "03-01-05-01-01-01-01: 0.010 s of audio, less than audio.min_seconds (0.1 s). "
        "Remove the utterance, or lower the setting."
    ]


def test_an_unknown_emotion_is_named_with_the_known(root: Path, tmp_path: Path) -> None:
    (root / ONE).rename(root / "Actor_01/03-01-09-01-01-01-01.wav")
    assert failures(root, tmp_path / "out") == [
        "unknown emotion '09' in '03-01-09-01-01-01-01.wav'; known: 01, 02, 03, 04, 05, 06, 07, 08"
    ]


def test_failed_files_make_exit_code_3(root: Path, tmp_path: Path) -> None:
    (root / ONE).write_bytes(b"")
    words = ["prepare", "ravdess", "--root", str(root), "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, words).exit_code == 3


def test_mending_the_file_clears_the_failures(root: Path, tmp_path: Path) -> None:
    good = (root / ONE).read_bytes()
    (root / ONE).write_bytes(b"")
    failures(root, tmp_path / "out")
    (root / ONE).write_bytes(good)
    assert prepare("ravdess", root, tmp_path / "out", [], 0.1, 2) == 0
    assert not (tmp_path / "out/failed.jsonl").exists()


def test_a_duplicate_id_names_both_files(root: Path, tmp_path: Path) -> None:
    (root / "copy").mkdir()
    shutil.copy(root / ONE, root / "copy")
    with pytest.raises(SertkError, match=r"id '03-01-05-01-01-01-01' comes twice: Actor_01/.* and copy/.*Keep one"):
        prepare("ravdess", root, tmp_path / "out", [], 0.1, 2)


def test_a_folder_that_is_not_the_corpus_is_told_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(
        SertkError, match=r"is not a folder\. Give the corpus folder with --root; expected there: Actor_01"
    ):
        prepare("ravdess", tmp_path / "nowhere", tmp_path / "out", [], 0.1, 2)
    with pytest.raises(SertkError, match=r"holds no \.wav or \.flac file"):
        prepare("ravdess", tmp_path, tmp_path / "out", [], 0.1, 2)


def prepared(root: Path, out: Path) -> Data:
    assert prepare("ravdess", root, out, [], 0.1, 2) == 0
    return Data(out)


def settings(**more: object) -> Settings:
    return merge.load("mini-cnn", None, {"protocol": "emobox", "fold": "1", "train.epochs": 1, **more})


def test_a_missing_file_is_named_with_its_utterance(root: Path, tmp_path: Path) -> None:
    data = prepared(root, tmp_path / "out")
    (root / ONE).unlink()
    with pytest.raises(
        InputError, match=rf"^03-01-05-01-01-01-01: {root / ONE} is missing\. Check the path and --root\."
    ):
        featurize(data, settings(), 1)


def test_a_file_changed_since_it_was_prepared_is_never_used(root: Path, tmp_path: Path) -> None:
    data = prepared(root, tmp_path / "out")
    soundfile.write(root / ONE, noise(0.7), 16_000)
    with pytest.raises(InputError, match=r"changed since it was prepared\. Run `sertk prepare` again\."):
        featurize(data, settings(), 1)


def test_a_copy_with_other_times_is_the_prepared_corpus_and_other_samples_are_not(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = prepared(root, tmp_path / "out")
    with monkeypatch.context() as patch:  # what looks as it did is not read
        patch.setattr(audio, "examine", None)
        Data(data.folder).select([*data.utterances])
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    for path in copy.rglob("*.wav"):
        os.utime(path, (1, 1))
    capsys.readouterr()
    assert len(Data(data.folder, copy).select([*data.utterances])) == len(data.utterances)
    assert " ".join(capsys.readouterr().err.split()).count("have other times than `sertk prepare` saw") == 1
    size = (copy / ONE).stat().st_size
    soundfile.write(copy / ONE, soundfile.read(copy / ONE)[0] / 2, 16_000)
    assert (copy / ONE).stat().st_size == size
    with pytest.raises(InputError, match=rf"^03-01-05-01-01-01-01: {copy / ONE} changed since it was prepared"):
        Data(data.folder, copy).select([*data.utterances])
    prepare("ravdess", copy, data.folder, [], 0.1, 1)  # writes the times down, so that nothing is read for them again
    monkeypatch.setattr(audio, "examine", None)
    again = Data(data.folder)
    assert len(again.select([*again.utterances])) == len(data.utterances)


def test_a_class_without_training_utterances_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "corpus", actors=(1, 3, 4, 8, 2, 6), emotions=("anger", "sadness"))
    data = prepared(root, tmp_path / "out")
    featurize(data, settings(), 1)
    with pytest.raises(SertkError, match=r"'emobox', fold 1: no training utterance is of class calm, disgust, fear"):
        train(settings(), data, tmp_path / "run")
    assert not (tmp_path / "run/model").exists()


def test_an_output_folder_that_cannot_be_written_is_named(root: Path, tmp_path: Path) -> None:
    shut = (
        Path("/sys/sertk-test") if os.geteuid() == 0 else tmp_path / "shut"
    )  # root may write wherever rights forbid it
    if os.geteuid():
        shut.mkdir(mode=0o500)
    with pytest.raises(
        SertkError, match=r"Cannot write .*Choose a writable folder \(--out, --work\) or change its rights"
    ):
        prepare("ravdess", root, shut / "out", [], 0.1, 2)


FULL = """
import resource, sys
from pathlib import Path
from sertk.training.checkpoint import Checkpoints
from sertk.core import SertkError
import torch
kept = Checkpoints(Path(sys.argv[1]))
kept.save({"a": torch.ones(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))  # a quota: no file may grow beyond it
try:
    kept.save({"a": torch.ones(100_000)})
except SertkError as error:
    print(error)
print(kept.latest()["a"].sum().item())
"""


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    message, value = done.stdout.splitlines()
    assert message.startswith(f"No room to write {tmp_path / '00000002.pt'}")
    assert message.endswith("Nothing written before is lost: free space and rerun.")
    assert value == "10.0"
    assert [path.name for path in tmp_path.iterdir()] == ["00000001.pt"]


def test_a_full_disk_in_prepare_leaves_no_half_file(root: Path, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(SertkError, match="No room to write"):
            prepare("ravdess", root, tmp_path / "out", [], 0.1, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_a_typo_names_line_and_nearest_key(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("corpus: mini\ntrain:\n  optimizer: {name: adam}\naudio:\n  rate: 16000\n  trimdb: 30\n")
    with pytest.raises(UsageError, match=rf"{recipe}:6: unknown setting 'audio\.trimdb'; did you mean 'trim_db'\?"):
        merge.load("mini-cnn", recipe)


def test_a_typo_at_depth_3_names_what_the_component_takes(data: Path, tmp_path: Path) -> None:
    document = merge.load("mini-cnn", None, {"protocol": "emobox", "fold": "1", "train.optimizer.learning_rate": 0.1})
    with pytest.raises(UsageError, match=r"optimizer 'adam' takes no 'learning_rate'; it takes lr, betas"):
        train(document, Data(data), tmp_path / "run")


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of one epoch."""
    out = tmp_path_factory.mktemp("run")
    train(settings(), Data(data), out)
    return out / "model"


@pytest.fixture
def mine(model: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(model, tmp_path / "model"))


def refusal(folder: Path) -> str:
    with pytest.raises(SertkError) as caught:
        bundle.read(folder, Plugins())
    return str(caught.value)


def edit(folder: Path, key: str, value: object) -> None:
    path = folder / "bundle.json"
    content = json.loads(path.read_text())
    content["components"][key] = value
    path.write_text(json.dumps(content))
    signed(folder)


def test_a_pickle_under_the_name_of_the_weights_is_not_loaded(mine: Path) -> None:
    torch.save({"a": torch.ones(1)}, mine / "model.safetensors")
    assert "model.safetensors is not what it was" in refusal(mine)
    signed(mine)
    assert "is not safetensors" in refusal(mine)


def test_a_file_that_is_no_part_of_a_bundle_is_never_looked_at(mine: Path) -> None:
    torch.save({"a": 1}, mine / "extra.pt")
    (mine / "files").mkdir(exist_ok=True)
    (mine / "files/evil.py").write_text("raise SystemExit\n")
    assert bundle.read(mine, Plugins()).classes


def test_a_name_that_looks_like_a_tag_is_a_name(mine: Path) -> None:
    edit(mine, "backbone", {"name": "!new:os.system"})
    assert "needs the backbone '!new:os.system', which no installed plugin offers" in refusal(mine)


def test_an_unknown_setting_in_a_bundle_is_refused(mine: Path) -> None:
    edit(mine, "backdoor", 1)
    assert "unknown key 'components.backdoor'" in refusal(mine)


def test_a_wrong_value_in_a_bundle_is_refused_as_in_any_settings(mine: Path) -> None:
    edit(mine, "normalize", "z")
    assert "normalize is 'z'. It must be dimension | scalar | speaker | none or a mapping" in refusal(mine)


def test_a_bundle_that_would_load_weights_from_elsewhere_is_refused(mine: Path) -> None:
    edit(mine, "backbone", {"name": "whisper", "source": "openai/whisper-tiny.en"})
    assert "backbone 'whisper' loads 'openai/whisper-tiny.en', and a bundle has its weights itself." in refusal(mine)
    edit(mine, "inputs", {"x": {"name": "frozen", "backbone": {"name": "wavlm", "source": "/somewhere"}}})
    edit(mine, "backbone", "frames")
    assert "feature 'frozen' loads '/somewhere'" in refusal(mine)


def test_what_an_older_bundle_lacks_has_its_default(mine: Path) -> None:
    now = bundle.read(mine, Plugins())
    path = mine / "bundle.json"
    content = json.loads(path.read_text())
    for key in ("decision", "crop", "segments"):
        del content["components"][key]
    for key in ("plugins", "versions", "training"):
        del content[key]
    del content["heads"]["emotion"]["output"]
    path.write_text(json.dumps(content))
    signed(mine)
    old = bundle.read(mine, Plugins())
    assert old.settings.decision == DecisionSpec("mean", at="whole")
    assert old.model.specs == now.model.specs


def test_a_missing_plugin_is_named_with_the_distribution_to_install(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mine / "bundle.json"
    content = json.loads(path.read_text())
    content["components"]["pooling"] = {"name": "clever"}
    content["plugins"]["pooling clever"] = "sertk-clever 1.2"
    path.write_text(json.dumps(content))
    signed(mine)
    text = refusal(mine)
    assert "needs the pooling 'clever', which no installed plugin offers." in text
    assert "pip install sertk-clever==1.2" in text
    monkeypatch.setenv("SERTK_PLUGINS", "-sertk-clever")
    assert "no installed plugin offers. SERTK_PLUGINS switches off: sertk-clever. Install" in refusal(mine)


def test_damaged_weights_are_refused(mine: Path) -> None:
    (mine / "model.safetensors").write_bytes(b"\x00" * 100)
    assert "model.safetensors is not what it was" in refusal(mine)
    signed(mine)
    assert "is not safetensors" in refusal(mine)


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("plugins", {"backbone cnn_transformer": 3, "pooling mean": [1]}, ""),
        ("training", {"seen": None}, ""),
        ("training", {"corpora": "ravdess"}, "seed, seen or corpora of training is wrong"),
        ("training", [], "training, plugins or versions is no dict"),
        ("plugins", "x", "training, plugins or versions is no dict"),
        ("heads.emotion", 3, "a head is no dict"),
        ("heads.emotion.reads", 3, "head 'emotion': reads is wrong"),
        ("heads.emotion.reads", ["x"], "head 'emotion' reads the branch 'x'"),
        ("heads.emotion.output", "foo", "head 'emotion': output is wrong"),
        ("classes", [1, 2], "classes are not different texts"),
        ("classes", ["a", "a"], "classes are not different texts"),
        ("components.inputs", {"x": {"nme": "mel"}}, "inputs.x is {'nme': 'mel'}. It must be a name"),
        ("components.pooling", {"name": "mean", "x": 1}, "pooling 'mean' takes no 'x'"),
    ],
)
def test_what_no_bundle_of_ours_can_hold_is_refused_with_its_file(
    mine: Path, place: str, value: object, says: str
) -> None:
    path = mine / "bundle.json"
    content = json.loads(path.read_text())
    inner = content
    *above, last = place.split(".")
    for word in above:
        inner = inner[word]
    inner[last] = value
    path.write_text(json.dumps(content))
    signed(mine)
    if not says:  # odd, and harmless
        assert bundle.seen(bundle.read(mine, Plugins()).about) is not None
        return
    assert says in refusal(mine)
    assert str(path) in refusal(mine)
    path.write_text(json.dumps({**content, "schema": 3}))
    signed(mine)
    assert "pip install -U sertk" in refusal(mine)


def test_an_old_bundle_that_does_not_say_what_it_has_seen_scores_a_corpus(
    mine: Path, data: Path, tmp_path: Path
) -> None:
    path = mine / "bundle.json"
    content = json.loads(path.read_text())
    del content["training"]
    path.write_text(json.dumps(content))
    signed(mine)
    assert score(mine, [str(data)], tmp_path / "scores.jsonl") == 0


def test_a_newer_schema_is_read_unless_it_says_what_is_not_known_here(mine: Path) -> None:
    path = mine / "bundle.json"
    newer = json.loads(path.read_text()) | {"schema": 3}
    path.write_text(json.dumps(newer))
    signed(mine)
    assert bundle.read(mine, Plugins()).classes
    inside = {
        "components.audio": "'audio.tempo'",
        "components.backbone": "'tempo'",
        "heads.emotion.settings": "'tempo'",
    }
    for place in ("", "components", "heads.emotion", *inside):
        content = json.loads(json.dumps(newer))
        inner = content
        for word in filter(None, place.split(".")):
            inner = inner[word]
        inner["tempo"] = 3
        path.write_text(json.dumps(content))
        signed(mine)
        name = inside.get(place, f"'{place}.tempo'".replace("'.", "'"))
        assert "was written by a newer sertk (schema 3, this one reads 2)" in refusal(mine)
        assert name in refusal(mine)
        assert "pip install -U sertk" in refusal(mine)


def test_scoring_goes_on_past_a_bad_file_and_lists_it(mine: Path, root: Path, tmp_path: Path) -> None:
    (root / ONE).write_bytes(b"")
    out = tmp_path / "scores.jsonl"
    assert score(mine, [str(root)], out) == 1
    assert len(out.read_text().splitlines()) == len(list(root.rglob("*.wav"))) - 1
    failed = json.loads((tmp_path / "failed.jsonl").read_text())
    assert failed["id"] == str(root / ONE)
    assert "is an empty file" in failed["reason"]


def test_a_pipe_in_a_wav_scp_is_not_run(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_text("a touch owned |\n")
    with pytest.raises(SertkError, match=r"wav\.scp:1: a pipe, which would run a command"):
        score(mine, [str(tmp_path / "wav.scp")], None)


def test_a_shard_of_standard_input_is_refused(mine: Path) -> None:
    with pytest.raises(UsageError, match=r"standard input \('-'\) cannot be shared out"):
        score(mine, ["-"], None, shard="1/2")


def test_the_test_fold_of_another_bundle_is_not_scored(mine: Path, data: Path) -> None:
    with pytest.raises(
        SertkError, match=r"trained on fold 1 of emobox .* these are fold 2 .*what it trained on may be in"
    ):
        score(mine, [str(data)], None, fold="2")


def test_another_runs_folder_is_refused_and_the_first_difference_named(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(settings(), Data(data), out)
    with pytest.raises(SertkError, match=r"other settings \(train\.batch: 16 there, 4 now\).*--force"):
        train(settings(**{"train.batch": 4}), Data(data), out)


def test_a_start_that_failed_claims_no_folder(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no metric named 'uaa'; did you mean"):
        train(settings(**{"train.metric": "uaa"}), Data(data), tmp_path / "run")
    train(settings(), Data(data), tmp_path / "run")


def test_force_deletes_run_folders_only(data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"is no run folder .*so --force deletes nothing"):
        train(settings(), Data(data), tmp_path, force=True)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"alpha": 2, "losses": [{"name": "ce"}, {"name": "triplet"}]}, r"alpha is 2; it is at least 0 and at most 1"),
        ({"segments": 140}, r"segments is 140\. It must be settings"),
        ({"crop": {"length": 0.001}}, r"crop: length is 0\.001 s; it is at least one frame, 0\.01 s\."),
        ({"crop": {"length": -1.0}}, r"Both must be above 0"),
        ({"losses": [5]}, r"losses is 5\. It must be a name"),
        ({"losses": [{"name": "ce", "weight": "abc"}]}, r"losses\.weight is 'abc'\. It must be a number"),
        ({"train.clip": 0}, r"train\.clip is 0; it is above 0"),
        ({"train.device": "cpux"}, r"Unknown device 'cpux'\. Use auto, cpu, cuda or cuda:N"),
        ({"train.precision": "fp16"}, r"fp16 needs a GPU"),
        ({"train.optimizer.lr": -1}, r"train\.optimizer\.lr is -1; it is at least 0"),
        ({"train.optimizer.betas": [2, 2]}, r"optimizer 'adam': Invalid beta"),
        ({"backbone": {"name": "cnn_transformer", "layers": -1}}, r"layers is -1; it is at least 0"),
        ({"audio.rate": 0}, r"audio\.rate is 0; it is at least 1"),
        ({"train.optimizer": {"name": "adm", "lr": 1}}, r"no optimizer named 'adm'; did you mean 'adam'\?"),
        ({"train.schedule": {"name": "plateau"}, "train.refit": True}, r"train\.refit has no dev loss"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused_before_training(
    data: Path, tmp_path: Path, more: dict[str, object], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        train(settings(**more), Data(data), tmp_path / "run")


def test_equal_samples_at_another_rate_are_another_sound(root: Path, tmp_path: Path) -> None:
    first = prepared(root, tmp_path / "out").facts["03-01-05-01-01-01-01"]
    samples, rate = soundfile.read(root / ONE, dtype="int16")
    soundfile.write(root / ONE, samples, rate // 2)
    assert prepared(root, tmp_path / "out").facts["03-01-05-01-01-01-01"].sha256 != first.sha256


def test_equal_settings_in_another_spelling_are_the_same_run(data: Path, tmp_path: Path) -> None:
    train(settings(**{"train.clip": 5}), Data(data), tmp_path / "run")
    train(settings(**{"train.clip": 5.0, "train.device": "cpu"}), Data(data), tmp_path / "run")


def test_a_run_folder_is_one_processes(data: Path, tmp_path: Path) -> None:
    with (tmp_path / ".run.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SertkError, match=r"is being trained by another process\. Wait for it"):
            train(settings(), Data(data), tmp_path / "run")


def test_a_corpus_root_without_its_files_is_told_what_belongs_there(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "note.wav", noise(0.5), 16_000)
    with pytest.raises(
        SertkError, match=r"No audio of ravdess was found in .*\. The first of 1: 'note\.wav' is not .*Zenodo"
    ):
        prepare("ravdess", tmp_path, tmp_path / "out", [], 0.1, 2)


def test_a_list_whose_audio_lies_further_down_asks_for_that_folder(tmp_path: Path) -> None:
    (tmp_path / "samples" / "ann").mkdir(parents=True)
    (tmp_path / "samples" / "bob").mkdir()
    for name in ("ann/1.wav", "bob/2.wav", "bob/3.wav"):
        soundfile.write(tmp_path / "samples" / name, noise(0.5), 16_000)
    (tmp_path / "list.csv").write_text("path,speaker,label\nann/1.wav,ann,anger\nbob/2.wav,bob,neutral\n")
    says = rf"No audio of .* was found in {tmp_path}\. The first of 2: .*3 audio files are in (.*): is --root \1\?"
    with pytest.raises(SertkError, match=says) as caught:
        prepare(f"table:list={tmp_path / 'list.csv'}", tmp_path, tmp_path / "out", [], 0.1, 2)
    assert str(caught.value).endswith(f"is --root {tmp_path / 'samples'}?")


def test_an_empty_input_is_not_the_working_folder(mine: Path) -> None:
    with pytest.raises(UsageError, match=r"an input is empty text \(an unset variable\?\)"):
        score(mine, [""], None)


def test_nothing_scored_is_a_failure_and_not_a_partial_one(mine: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_text("hello, this is no audio")
    with pytest.raises(SertkError) as caught:
        score(mine, [str(path)], None)
    said = str(caught.value)
    assert said.startswith(
        f"none of the 1 inputs could be scored; the first: {path} is not audio that libsndfile reads"
    )
    assert said.count(str(path)) == 1


def test_a_list_in_the_place_of_what_it_lists_is_told_how_it_is_given(mine: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("files/plain.wav\nfiles/a.flac\n")
    with pytest.raises(
        SertkError, match=rf"list\.txt is a text by its name.*: `sertk score MODEL - < {path}`\. .*\.scp"
    ):
        score(mine, [str(path)], None)


def test_where_nothing_can_be_scored_the_scores_of_before_stay(mine: Path, root: Path, tmp_path: Path) -> None:
    out, paths = tmp_path / "out" / "scores.jsonl", [tmp_path / "a.wav", tmp_path / "b.wav"]
    paths[0].write_bytes((root / ONE).read_bytes())
    paths[1].write_text("hello, this is no audio")
    assert score(mine, [*map(str, paths)], out) == 1
    before = {one: one.read_bytes() for one in out.parent.iterdir()}
    paths[0].write_text("nor is this")
    with pytest.raises(
        SertkError,
        match=r"^none of the 2 inputs could be scored, so the earlier .*\.jsonl stays; why is in .*/unscored\.jsonl",
    ):
        score(mine, [*map(str, paths)], out)
    listed = out.with_name("unscored.jsonl")
    assert [json.loads(line)["id"] for line in listed.read_text().splitlines()] == [*map(str, paths)]
    assert {one: one.read_bytes() for one in out.parent.iterdir() if one != listed} == before
    paths[0].write_bytes((root / ONE).read_bytes())
    assert score(mine, [*map(str, paths)], out) == 1
    assert not listed.exists()


def test_a_wrong_path_leaves_the_scores_of_before(mine: Path, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    assert score(mine, [str(root / ONE)], out) == 0
    before = out.read_bytes()
    with pytest.raises(SertkError, match=r"^no such file or folder: recordins, b\.wav\. Check the path and --root\.$"):
        score(mine, ["recordins", "b.wav"], out)
    assert out.read_bytes() == before
    assert score(mine, [ONE], out, root=root) == 0  # a path below --root is there


def test_a_run_in_place_of_its_model_is_told_where_that_is(mine: Path) -> None:
    with pytest.raises(SertkError, match=rf"^{mine.parent} is a run, and its model is in it\. Give {mine}\.$"):
        score(mine.parent, ["a.wav"], None)


def test_a_wav_scp_may_separate_by_tabs(mine: Path, root: Path, tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_text(f"a\t{root / ONE}\n")
    assert score(mine, [str(tmp_path / "wav.scp")], tmp_path / "scores.jsonl") == 0
    assert json.loads((tmp_path / "scores.jsonl").read_text())["id"] == "a"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (None, r"has several protocols\. Choose one with --protocol: .*emobox, .*speech"),
        ("emobx", r"has no protocol 'emobx'; did you mean 'emobox'\? Known: .*\. Run `sertk prepare CORPUS"),
    ],
)
def test_a_protocol_that_is_not_clear_is_asked_for_with_what_there_is(data: Path, name: str | None, says: str) -> None:
    with pytest.raises(SertkError, match=says):
        Data(data).protocol(name)


def test_training_before_featurize_names_the_command(data: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(data, tmp_path / "data", ignore=shutil.ignore_patterns("feats")))
    says = (
        rf"mel: \d+ utterances have no feature in .*: run `sertk featurize {mine}` first, with the system and settings"
    )
    with pytest.raises(SertkError, match=says):
        train(settings(), Data(mine), tmp_path / "run")


def test_edited_folds_are_refused(data: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(data, tmp_path / "data"))
    path = mine / "protocols/emobox.json"
    content = json.loads(path.read_text())
    content["folds"]["1"]["dev"] += content["folds"]["1"]["test"][:1]
    path.write_text(json.dumps(content))
    with pytest.raises(SertkError, match=r"was edited: its folds hash to .* Prepare again"):
        Data(mine).protocol("emobox")
