"""What is wrong with a run is said before its first stage: exit code 2, nothing written, no weights, no network."""

import json
import shutil
from pathlib import Path

import pytest
import soundfile
import torch
from typer.testing import CliRunner, Result

from sertk.cli.app import app
from sertk.core import WHOLE, Dims, Padded, Task, UsageError
from sertk.modeling.build import Body, make_body, with_frozen
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.training.assemble import make_parts, rehearse
from sertk.training.loss import chosen_heads, chosen_sampler, make_mixture, resolve_losses, with_losses

WRONG = [
    ("train.metric=uar", r"no metric named 'uar'"),
    ("train.optimizer={name: adm}", "no optimizer named 'adm'; did you mean 'adam'"),
    ("train.optimizer={name: adam, betta: 1}", "optimizer 'adam' takes no 'betta'"),
    ("train.schedule={name: linaer}", "no schedule named 'linaer'; did you mean 'linear'"),
    ("train.schedule=linear:warmpu=0.1", "schedule 'linear' takes no 'warmpu'"),
    ("alpha=7", "alpha is 7; it is at least 0 and at most 1"),
    ("alpha=0.5", "alpha needs a second loss. Add one, for example --loss triplet."),
    ("crop={length: 1, hop: 0.001}", "the command line: crop: hop is 0.001 s; it is at least one frame, 0.01 s."),
    ("crop={lenght: 3}", "unknown setting 'crop.lenght'; did you mean 'length'"),
    ("decision=meen", "no decision named 'meen'; did you mean 'mean'"),
    ("decision=mean:power=2", "decision 'mean' takes no 'power'"),
    ("decision=mean:at=segments", "at: segments needs windows, and the run has none"),
    ("decision.temperature=-1", "decision.temperature is -1; it is above 0"),
    ("backbone={name: cnn_transformer, chanels: [1]}", "takes no 'chanels'; did you mean 'channels'"),
    ("backbone=cnn_transformer:channels=[16,32]", "channels"),
    ("backbone=cnn_transformer:dropout=.nan", "dropout must be a number, got nan"),
    ("head=linear:dropout=.nan", "dropout must be a number, got nan"),
    ("head=linear:dropuot=0.1", "head 'linear' takes no 'dropuot'"),
    ("pooling=flam:heads=7", "heads"),
    ("audio.min_seconds='\"0.1\"'", "audio.min_seconds"),
    ("inputs.mel.n_mel=3", "feature 'mel' takes no 'n_mel'; did you mean 'n_mels'"),
    ("augment=[eam:probability=2]", "probability is 2"),
    ("augment=[eam]", "augmentation 'eam' changes the wave, and the features are cached before it"),
    ("augment=[specaugment:on=mfcc]", "changes the input 'mfcc', and the run's are mel; give it one of them"),
    ("train.optimizer={name: adam, betas: [0.9]}", "optimizer 'adam'"),
    ("train.schedule=exponential:gamma=-3", "gamma is -3.0; it is above 0"),
    ("train.schedule=linear:warmup=7", "warmup is 7.0; it is at least 0 and at most 1"),
    ("train.schedule=plateau:patience=-7", "patience is -7; it is at least 0"),
    ("audio.rate=999999999999", "audio.rate is 999999999999; it is at least 1 and at most 384000 Hz"),
    ("fold=1", "fold is a setting of one run, and a recipe makes many. Give --fold, or folds."),
    ("seed=4", "seed is a setting of one run, and a recipe makes many. Give --seed, or seeds."),
    ("losses=[ce:smoothing=1.5]", "smoothing is 1.5"),
    ("losses=[ce,ce]", "loss 'ce' is named twice"),
    ("losses=[triplet]", "trains the emotion head"),
    ("losses=[]", "losses is empty, so nothing would be trained."),
    ("sampler=shufle", "no sampler named 'shufle'; did you mean 'shuffle'"),
    ("sampler=shuffle:jitter=-3", "jitter is -3"),
    ("normalize=z", "normalize is 'z'"),
    ("train.epochs=0", "train.epochs is 0; it is at least 1"),
    ("train.init=/nowhere/model", "there is no /nowhere/model/bundle.json"),
    ("train.precision=fp16", "fp16 needs a GPU"),
    ("train.device=cpux", "Unknown device 'cpux'. Use auto, cpu, cuda or cuda:N."),
]


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe") / "tones"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(
        "corpus: ravdess\nprotocol: emobox\nsystem: mini-cnn\nfolds: ['1']\ntrain: {epochs: 1, device: cpu}\n"
    )
    return folder


@pytest.mark.parametrize(("wrong", "says"), WRONG, ids=[wrong for wrong, _ in WRONG])
def test_what_is_wrong_is_said_before_the_first_stage(
    recipe: Path, corpus: Path, tmp_path: Path, wrong: str, says: str
) -> None:
    # the mixup's own settings are looked at where it is computed behind no cache
    more = ("--set", "on_augment=recompute") if "probability" in wrong else ()
    done = cli("recipe", recipe, "--root", corpus, "--work", tmp_path / "work", *more, "--set", wrong)
    assert done.exit_code == 2, done.output
    assert says in " ".join(done.stderr.split())
    assert not done.stdout
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("stage", ["featurize", "train"])
@pytest.mark.parametrize("wrong", ["train.metric=uar", "backbone=cnn_transformer:chanels=[1]", "alpha=0.5"])
def test_a_stage_that_runs_alone_says_it_before_it_begins(data: Path, tmp_path: Path, stage: str, wrong: str) -> None:
    out = ["--protocol", "emobox", "--fold", "1", "--out", tmp_path / "run"] if stage == "train" else []
    done = cli(stage, data, "--system", "mini-cnn", *out, "--set", wrong)
    assert done.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_an_error_of_a_part_names_the_file_and_line_that_gave_it(corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "corpus: ravdess\nprotocol: emobox\nsystem: mini-cnn\nbackbone:\n  name: cnn_transformer\n  chanels: [1]\n"
    )
    done = cli("recipe", path, "--root", corpus, "--work", tmp_path / "work")
    assert f"{path}:4: backbone 'cnn_transformer' takes no 'chanels'" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("lines", "at", "says"),
    [
        ("inputs: {mel: mell}", 5, "no feature named 'mell'"),
        ("losses: [ce, ce]", 5, "loss 'ce' is named twice"),
        ("losses: [triplet]", 5, "trains the emotion head"),
        ("alpha: 0.5", 5, "alpha needs a second loss"),
        ("losses: ['ce:weight=2', triplet]\nalpha: 0.5", 6, "alpha sets the weights"),
        ("losses: [ce, triplet, contrastive]", 5, "these losses cannot share a batch"),
        ("losses: [ce, arcface]", 5, "wants the head 'emotion' as"),
        ("augment: [eam]", 5, "changes the wave"),
        ("train:\n  epochs: 2\n  precision: fp16", 7, "fp16 needs a GPU"),
        ("train:\n  init: nowhere", 6, "there is no nowhere/bundle.json"),
        ("train:\n  optimizer:\n    name: adm", 6, "no optimizer named 'adm'"),
        ("normalize: none\nsampler: pears", 6, "no sampler named 'pears'"),
    ],
)
def test_what_only_parts_together_show_names_the_line_too(
    corpus: Path, tmp_path: Path, lines: str, at: int, says: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"corpus: ravdess\nprotocol: emobox\nsystem: mini-cnn\nfolds: '1'\n{lines}\n")
    done = cli("recipe", path, "--root", corpus, "--work", tmp_path / "work")
    assert done.exit_code == 2, done.output
    assert f"{path}:{at}: " in " ".join(done.stderr.split())
    assert says in " ".join(done.stderr.split())
    assert not (tmp_path / "work").exists()


def test_a_loss_of_the_command_line_is_not_laid_at_the_systems_door(recipe: Path, corpus: Path, tmp_path: Path) -> None:
    for loss, says in (
        ("triplet:margn=2", "loss 'triplet' takes no 'margn'"),
        ("tripelt", "no loss named 'tripelt'"),
        ("triplet:weight=-1", "losses.weight is -1"),
    ):
        done = cli("recipe", recipe, "--root", corpus, "--work", tmp_path, "--loss", loss, "--dry-run")
        assert done.exit_code == 2
        assert f"error: the command line: {says}" in " ".join(done.stderr.split())


def test_a_bundle_that_does_not_fit_is_refused_before_the_first_stage(
    recipe: Path, data: Path, corpus: Path, tmp_path: Path
) -> None:
    from sertk.corpus.prepared import Data
    from sertk.stages.train import train

    settings = merge.load("mini-cnn", None, {"protocol": "emobox", "fold": "1", "train.epochs": 1})
    train(settings, Data(data), tmp_path / "run")
    words = ["recipe", recipe, "--root", corpus, "--work", tmp_path / "work", "--init", tmp_path / "run/model"]
    assert cli(*words, "--dry-run").exit_code == 0
    for option, says in (
        (["--set", "head=cosine"], "heads.emotion"),
        (["--set", "inputs.mel.n_mels=20"], "inputs.mel.n_mels = 40, this run has inputs.mel.n_mels = 20"),
        (["--set", "backbone.channels=[16,32,64]"], "= (32, 32, 3, 3), this run has "),
    ):
        done = cli(*words, *option)
        assert done.exit_code == 2
        assert says in " ".join(done.stderr.split())
        assert not (tmp_path / "work").exists()


def test_a_torn_bundle_to_begin_with_is_told(recipe: Path, corpus: Path, tmp_path: Path) -> None:
    kept = Path(__file__).parents[1] / "modeling/bundles/schema-1/mini-cnn"
    mine = Path(shutil.copytree(kept, tmp_path / "model"))
    (mine / "model.safetensors").write_bytes((mine / "model.safetensors").read_bytes()[:100])
    done = cli("recipe", recipe, "--root", corpus, "--work", tmp_path / "work", "--init", mine, "--dry-run")
    assert done.exit_code == 1
    assert "is not safetensors" in done.stderr


def checkpoint(folder: Path, model_type: str = "wav2vec2", **sizes: object) -> Path:
    """A folder with a configuration and not one weight."""
    folder.mkdir()
    content = {"model_type": model_type, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    content |= {"intermediate_size": 4096, "architectures": ["Wav2Vec2Model"]} | sizes
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    return folder


def look(system: str, **overrides: object) -> None:
    settings = merge.load(system, None, {"train.device": "cpu", **overrides})
    plugins = Plugins()
    rehearse(plugins, with_frozen(plugins, settings), ("anger", "sadness", "neutral"))


def test_a_large_encoder_is_looked_at_without_its_weights(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "large")
    look("p3-seg-tri-s", **{"backbone.source": str(source)})  # there are none to be read
    with pytest.raises(UsageError, match="layers is 25; it is from 0 to 24"):
        look("p3-seg-tri-s", **{"backbone.source": str(source), "backbone.layers": 25})
    with pytest.raises(UsageError, match="heads"):
        look("p3-seg-tri-s", **{"backbone.source": str(source), "pooling": "flam:heads=7"})


def test_a_frozen_encoder_is_looked_at_as_the_feature_that_it_becomes(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "large")
    look("p3-baseline", **{"backbone.source": str(source), "backbone.freeze": "all"})
    with pytest.raises(UsageError, match="layers is 25"):
        look("p3-baseline", **{"backbone.source": str(source), "backbone.freeze": "all", "backbone.layers": 25})


def test_a_checkpoint_that_is_not_here_is_looked_at_when_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    look("p3-baseline", **{"backbone.source": "nobody/nothing"})
    assert "'nobody/nothing' is not on this machine yet" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no metric named 'uar'"):  # the rest is looked at now
        look("p3-baseline", **{"backbone.source": "nobody/nothing", "train.metric": "uar"})
    for setting, says in (
        ({"backbone.leyers": 3}, "takes no 'leyers'"),
        ({"pooling": "flam:haeds=2"}, "pooling 'flam' takes no 'haeds'"),
        ({"head": "linear:dropuot=0.1"}, "head 'linear' takes no 'dropuot'"),
        ({"losses": ["ce:smoothing=x"]}, "loss 'ce': smoothing must be a number"),
        ({"sampler": "shuffel"}, "no sampler named 'shuffel'"),
        ({"losses": ["ce:smoothing=4"]}, "smoothing is 4"),
        ({"losses": ["triplet"]}, "no loss of triplet trains the emotion head"),
        ({"alpha": 0.5}, "alpha needs a second loss"),
        ({"losses": ["ce", "triplet"], "sampler": "pairs"}, "a loss wants sampler 'triplets'"),
        ({"losses": ["arcface"], "head": "linear:dropout=0.1"}, "a loss wants head 'cosine"),
    ):
        with pytest.raises(UsageError, match=says):
            look("p3-baseline", **{"backbone.source": "nobody/nothing", **setting})


def test_looking_leaves_the_random_numbers_of_the_run_alone() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    look("mini-cnn")
    assert torch.equal(torch.rand(3), wanted)


# --- the sampler and the head that a run may choose ----------------------------------------------------------------

PLUGINS, TASK = Plugins(), Task(("anger", "sadness"), torch.tensor([3, 3]))


def wanted(losses: list[str], **more: object) -> tuple[object, object]:
    """The sampler and the emotion head of a run with these losses."""
    settings = merge.load(None, None, {"losses": losses, **more})
    mixture = make_mixture(PLUGINS, settings, TASK, Dims(4, 4))
    return chosen_sampler(settings, mixture.sampler), chosen_heads(settings, mixture.heads)["emotion"]


def test_a_sampler_replaces_shuffle_and_gives_way_to_what_a_loss_asks_for() -> None:
    sampler, _ = wanted(["ce"], sampler="pairs")
    assert sampler.name == "pairs"  # type: ignore[attr-defined]
    sampler, _ = wanted(["ce"], sampler="shuffle:jitter=0.5")
    assert sampler.settings == {"jitter": 0.5}  # type: ignore[attr-defined]
    sampler, _ = wanted(["ce", "triplet"])
    assert sampler.name == "triplets"  # type: ignore[attr-defined]
    sampler, _ = wanted(["ce", "triplet"], sampler="triplets:jitter=0.5")
    assert sampler.settings == {"jitter": 0.5}  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="sampler is 'pairs', and a loss wants sampler 'triplets'"):
        wanted(["ce", "triplet"], sampler="pairs")
    for chosen in ("shuffle", "shuffle:jitter=0.5"):
        with pytest.raises(UsageError, match="sampler is 'shuffle', and a loss wants sampler 'triplets'"):
            wanted(["ce", "triplet"], sampler=chosen)


@pytest.mark.parametrize(
    ("losses", "sampler"), [("ce", "balanced"), ("ce", "balanced_pairs"), ("contrastive:pairs=balanced", None)]
)
def test_classes_are_not_made_equal_twice(losses: str, sampler: str | None) -> None:
    own = {"losses": ["ce", *([losses] if losses != "ce" else [])]} | ({"sampler": sampler} if sampler else {})
    look("mini-cnn", **own)
    with pytest.raises(UsageError, match=f"class_weights balanced and sampler {sampler or 'balanced_pairs'} both make"):
        look("mini-cnn", class_weights="balanced", **own)
    look("mini-cnn", losses=["ce", "contrastive"], class_weights="balanced")


def test_a_head_replaces_linear_and_is_refused_where_a_loss_asks_for_its_own() -> None:
    _, head = wanted(["ce"], head="linear:dropout=0.2")
    assert (head.kind, head.settings, head.out) == ("linear", {"dropout": 0.2}, 2)  # type: ignore[attr-defined]
    _, head = wanted(["ce"], head="cosine:scale=5")
    assert (head.kind, head.settings) == ("cosine", {"scale": 5})  # type: ignore[attr-defined]
    _, head = wanted(["arcface"])
    assert head.kind == "cosine"  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"head is 'linear:dropout=0\.2', and a loss wants head 'cosine:scale=10\.0'"):
        wanted(["arcface"], head="linear:dropout=0.2")
    with pytest.raises(UsageError, match="head is 'linear', and a loss wants head"):  # chosen, if only as it would be
        wanted(["arcface"], head="linear")
    _, head = wanted(["arcface"], head="cosine")
    assert head.settings == {"scale": 10.0}  # type: ignore[attr-defined]
    _, head = wanted(["arcface:scale=30"], head="cosine:scale=30")  # 30.0 for the loss
    assert head.settings == {"scale": 30.0}  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"head is 'cosine:scale=3', and a loss wants head 'cosine:scale=10\.0'"):
        wanted(["arcface"], head="cosine:scale=3")


def test_the_chosen_head_is_in_the_model() -> None:
    settings = merge.load("mini-cnn", None, {"head": "linear:dropout=0.25"})
    model = make_parts(PLUGINS, settings, TASK).model
    assert model.heads["emotion"].layer[0].p == 0.25
    frames = Padded(torch.randn(2, 30, 40), torch.tensor([30, 20]))
    assert model.eval()({"mel": frames}, [WHOLE])[WHOLE].logits.shape == (2, 2)


def test_named_losses_keep_the_systems_own_only_where_none_of_them_classifies() -> None:
    own = merge.load(None, None, {"losses": ["ce:smoothing=0.1", "contrastive"]}).losses
    triplet, arcface = merge.load(None, None, {"losses": ["triplet", "arcface"]}).losses
    assert resolve_losses(PLUGINS, own, []) == (own, [])
    assert resolve_losses(PLUGINS, own, [triplet]) == ((own[0], triplet), ["ce"])
    assert resolve_losses(PLUGINS, own, [arcface]) == ((arcface,), [])


def test_what_the_named_losses_leave_out_of_the_system_is_said() -> None:
    def said(*losses: str, **given: object) -> list[str]:
        settings = merge.load("p5-siamese-cosine", None, given)
        return with_losses(PLUGINS, settings, merge.load(None, None, {"losses": list(losses)}).losses)[1]

    ce, gone, alpha = said("aux:task=gender")
    assert ce == "none of the named losses trains the emotion head: the system's own ce stays beside them"
    assert gone == "the named losses take the place of the system's: contrastive is left out. Name it too to keep it"
    assert alpha == "alpha 0.7 is the system's, and weighs aux now"
    assert said("aux:task=gender", alpha=0.04) == [ce, gone]
    assert said("arcface") == [gone, "alpha 0.7 is the system's, and weighs arcface now"]
    assert said("ce", "contrastive") == []


@pytest.mark.parametrize("name", ["noise_folder", "reverb"])
def test_recordings_of_another_rate_than_that_of_the_run_are_refused(name: str, tmp_path: Path) -> None:
    def body(audio: int, **own: object) -> Body:
        augment = [{"name": name, "folder": str(tmp_path), **own}]
        return make_body(PLUGINS, merge.load("mini-cnn", None, {"audio.rate": audio, "augment": augment}), train=True)

    soundfile.write(tmp_path / "a.wav", [0.5] * 100, 16_000)
    with pytest.raises(UsageError, match=r"is made for waves of 16000 Hz, and those of the run have 8000 .* rate=8000"):
        body(8000)
    assert body(8000, rate=8000).frontend.augment[0].sample_rate == 8000
