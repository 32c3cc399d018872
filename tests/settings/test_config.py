"""Settings merged and read, components made from them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pluggy
import pytest
import torch

import sertk
from sertk import hookspecs
from sertk.core import Feature, Padded, SertkError, UsageError, Utterance
from sertk.hookspecs import hookimpl
from sertk.modeling.build import make_features, resolve_losses
from sertk.plugins import BUILTINS, Plugins
from sertk.settings import merge as config
from sertk.settings.overrides import Choices
from sertk.stages.featurize import cached

PLUGINS = Plugins()


def settings(tmp_path: Path, text: str, **overrides: object) -> config.Settings:
    """The settings of a recipe with this text."""
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return config.resolve(config.load(None, path, overrides))


def test_sizes_and_exponents_are_not_read_as_pyyaml_does(tmp_path: Path) -> None:
    # PyYAML, behind HyperPyYAML, reads 140:50 as 8450 (base 60) and 1e-4 as text
    read = settings(tmp_path, "segments: 140:50\ntrain: {optimizer: {name: adam, lr: 1e-4}, clip: 1e9}\n")
    assert read["segments"] == "140:50"
    assert read["train"]["optimizer"]["lr"] == 1e-4
    assert read["train"]["clip"] == 1e9


def test_references_are_resolved_and_survive_being_saved(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("seed: 7\ntrain: {batch: !ref <seed>}\n")
    document = config.load(None, path)
    assert config.resolve(document)["train"]["batch"] == 7
    config.dump(document, tmp_path / "saved.yaml")
    assert config.resolve(config.read(tmp_path / "saved.yaml")) == config.resolve(document)


def test_a_component_with_a_name_replaces_and_other_mappings_merge(tmp_path: Path) -> None:
    text = "train: {epochs: 3, optimizer: {name: sgd, lr: 0.1}}\ninputs: {b: mel}\n"
    read = settings(tmp_path, text, **{"train.optimizer.momentum": 0.9, "inputs.a": "mfcc"})
    assert read["train"]["optimizer"] == {"name": "sgd", "lr": 0.1, "momentum": 0.9}  # nothing of the default's
    assert (read["train"]["epochs"], read["train"]["batch"]) == (3, 32)
    assert read["inputs"] == {"b": "mel", "a": "mfcc"}


def test_layers_win_in_order(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("system: mini-cnn\ntrain: {batch: 5, epochs: 6}\n")
    read = config.resolve(config.load(None, path, {"train.epochs": 7}))
    assert read["train"]["schedule"] == {"name": "linear"}  # the system's
    assert (read["train"]["batch"], read["train"]["epochs"]) == (5, 7)  # the recipe's, the command line's


def test_a_saved_config_does_not_need_its_system(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("train: {batch: 5}\n")
    config.dump(config.load(str(mine)), tmp_path / "saved.yaml")
    mine.unlink()
    assert config.resolve(config.load(None, tmp_path / "saved.yaml"))["train"]["batch"] == 5


def test_a_component_and_its_setting_go_together_in_any_order() -> None:
    choices = Choices(pooling="max", set=["pooling.project=8", "train.batch=4"])
    read = config.resolve(config.load("mini-cnn", None, choices.overrides()))
    assert read["pooling"] == {"name": "max", "project": 8}
    with pytest.raises(UsageError, match=r"train\.batch cannot be set: train is given as 5"):
        config.load(None, None, Choices(set=["train=5", "train.batch=4"]).overrides())


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("train.batch", "four", "train.batch must be int, got 'four'"),
        ("train.batch", True, "train.batch must be int, got True"),
        ("train.refit", 1, "train.refit must be bool, got 1"),
        ("augment", "eam", "augment must be list, got 'eam'"),
        ("bakcbone", "x", "unknown setting 'bakcbone'; did you mean 'backbone'?"),
    ],
)
def test_wrong_types_and_names_are_refused(key: str, value: object, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        config.load(None, None, {key: value})
    assert says in str(caught.value)


def test_the_command_lines_components_are_read_as_yaml_reads_values() -> None:
    made = config.component_of("triplet:margin=1e-1,at=whole,x=[1,2]")
    assert made == {"name": "triplet", "margin": 0.1, "at": "whole", "x": [1, 2]}
    with pytest.raises(UsageError, match="'margin' has no '='"):
        config.component_of("triplet:margin")


def test_the_options_can_be_said_again_and_their_tag_tells_variants_apart() -> None:
    choices = Choices(loss=["triplet"], segments="140:70", alpha=0.2, set=["train.batch=4"], device="cpu")
    again = ["--loss", "triplet", "--set", "train.batch=4", "--segments", "140:70", "--alpha", "0.2", "--device", "cpu"]
    assert choices.words() == again
    assert Choices(init=Path("model")).words() == ["--init", "model"]
    assert Choices(device="cpu", set=["train.tensorboard=true"]).tag() == Choices().tag() == ""
    assert len({Choices(alpha=0.1).tag(), Choices(alpha=0.2).tag(), choices.tag()}) == 3


def test_named_losses_keep_the_systems_own_only_where_none_of_them_classifies() -> None:
    own = [{"name": "ce", "smoothing": 0.1}, {"name": "contrastive"}]
    assert resolve_losses(PLUGINS, own, []) == (own, [])
    assert resolve_losses(PLUGINS, own, [{"name": "triplet"}]) == ([own[0], {"name": "triplet"}], ["ce"])
    assert resolve_losses(PLUGINS, own, [{"name": "arcface"}]) == ([{"name": "arcface"}], [])


def test_a_component_inside_a_component_is_made_from_its_settings() -> None:
    made = PLUGINS.make("feature", {"name": "mfcc", "mel": {"name": "mel", "n_mels": 40}}, 16_000)
    assert made._mel.width == 40
    with pytest.raises(UsageError, match=r"feature 'mel' takes no 'n_mel'; did you mean 'n_mels'\?"):
        PLUGINS.make("feature", {"name": "mfcc", "mel": {"name": "mel", "n_mel": 40}}, 16_000)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (
            "tripelt",
            "no loss named 'tripelt'; did you mean 'triplet'? "
            "Known: arcface, ce, center, contrastive, focal, frame_supcon, kl, triplet",
        ),
        (
            {"name": "triplet", "margn": 1},
            "takes no 'margn'; did you mean 'margin'? it takes margin, at",
        ),
        ({"name": "triplet", "margin": "x"}, "loss 'triplet': margin must be float, got 'x'"),
        ({"name": "triplet", "negatives": "all"}, "negatives must be set | batch, got 'all'"),
        ({"margin": 1}, "has no name"),
    ],
)
def test_what_cannot_be_made_says_why_and_what_can(spec: object, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        PLUGINS.make("loss", spec, None, None)
    assert says in str(caught.value)


class Loudest(Feature):
    """A fitted feature: the wave in units of what `fit` saw."""

    width, frame_seconds = 1, 1 / 16_000

    def __init__(self, rate: int) -> None:
        self.seen = 0

    def __call__(self, inputs: Padded) -> Padded:
        return Padded(inputs.data[..., None] * self.seen, inputs.length)

    def fit(self, utterances: Sequence[Utterance]) -> None:
        self.seen = len(utterances)

    def files(self) -> dict[str, bytes]:
        return {"seen": str(self.seen).encode()}

    def restore(self, files: Mapping[str, bytes]) -> None:
        self.seen = int(files["seen"])


class Guest:
    """A plugin as an object."""

    @hookimpl
    def sertk_features(self) -> Mapping[str, type[Feature]]:
        """One feature."""
        return {"loudest": Loudest}


def registry(*guests: object) -> Plugins:
    manager = pluggy.PluginManager("sertk")
    manager.add_hookspecs(hookspecs)
    for plugin in (*(__import__(name, fromlist=["_"]) for name in BUILTINS), *guests):
        manager.register(plugin)
    return Plugins(manager)


def test_a_fitted_feature_is_never_cached() -> None:
    plugins = registry(Guest())
    read = config.resolve(config.load("mini-cnn"))
    assert cached(read, plugins) == ("mel",)
    assert not cached({**read, "inputs": {"x": "loudest"}}, plugins)


def test_what_a_feature_learned_comes_back_from_its_files() -> None:
    plugins, read = registry(Guest()), {"audio": {"rate": 16_000}, "inputs": {"x": "loudest"}}
    first, second = (make_features(plugins, read)["x"] for _ in range(2))
    first.fit([Utterance(str(i), "p", "s", None) for i in range(3)])
    second.restore(first.files())
    wave = Padded(torch.ones(1, 4), torch.tensor([4]))
    assert torch.equal(second(wave).data, first(wave).data)
    assert second(wave).data.max() == 3


def test_a_name_that_two_plugins_offer_ends_the_run() -> None:
    with pytest.raises(SertkError, match=r"feature 'loudest' is offered by both"):
        registry(Guest(), Guest())


def test_a_recipe_has_settings_for_some_systems_alone(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("train: {batch: 7}\nsystems:\n  p3-*: {train: {epochs: 3}}\n  p3-seg*: {segments: '80:40'}\n")
    for name, expected in (("p3-baseline", (7, 3, None)), ("p3-seg", (7, 3, "80:40")), ("p1-ce", (7, 20, None))):
        merged = config.load(name, path)
        found = (merged["train"]["batch"], merged["train"]["epochs"], merged["segments"])
        assert found[0::2] == expected[0::2]
        assert (found[1] == 3) == (expected[1] == 3)
        assert not merged["systems"]  # what is saved beside a run is of one system
    assert config.load("p3-seg", path, {"segments": "10:5"})["segments"] == "10:5"
    path.write_text("systems:\n  p3-*: {trian: {epochs: 3}}\n")
    with pytest.raises(UsageError, match="unknown setting 'trian'; did you mean 'train'"):
        config.load("p3-seg", path)
    path.write_text("systems:\n  p3-*: 3\n")
    with pytest.raises(UsageError, match=r":2: systems\.p3-\* is 3; it takes settings"):
        config.load("p3-seg", path)


def test_the_recipes_give_the_papers_segments_and_alphas() -> None:
    egs = Path(sertk.__file__).parents[1] / "egs"

    def row(corpus: str, system: str) -> tuple[object, object]:
        merged = config.load(system, egs / corpus / "recipe.yaml")
        return merged["segments"], merged["alpha"]

    assert [row("ravdess", f"p3-{name}") for name in ("baseline", "seg", "tri-w", "seg-tri-s", "seg-tri-w")] == [
        (None, None),
        ("80:40", None),
        (None, 0.7),
        ("80:40", 0.1),
        ("80:40", 0.2),
    ]
    assert row("iemocap", "p3-seg-tri-s") == ("140:70", None)
    assert row("fesc", "p3-seg-tri-w") == ("120:60", None)
    assert config.load("p3-seg", egs / "fesc" / "recipe.yaml")["backbone"]["layers"] == 23
