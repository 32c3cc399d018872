"""Settings checked by the schema: types, ranges, choices, names, each with the file and line that gave it."""

import math
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import sertk
from sertk.core import Crop, UsageError
from sertk.settings import merge
from sertk.settings.check import settings_of
from sertk.settings.plain import difference, flat, identity, plain
from sertk.settings.reference import base_yaml
from sertk.settings.schema import Component, DecisionSpec, Settings, fields_of, note
from sertk.settings.values import component_of, component_text, value_of


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("train.batch", "four", "train.batch is 'four'. It must be a whole number."),
        ("train.batch", True, "train.batch is True. It must be a whole number."),
        ("train.epochs", 4.7, "train.epochs is 4.7. It must be a whole number."),
        ("train.refit", 1, "train.refit is 1. It must be true or false."),
        ("train.batch", 0, "train.batch is 0; it is at least 1."),
        ("train.clip", 0, "train.clip is 0; it is above 0."),
        ("train.clip", math.nan, "train.clip is nan. It must be a number."),
        ("train.precision", "fp8", "train.precision is 'fp8'. It must be fp32 | bf16 | fp16."),
        ("train", 5, "train is 5. It must be settings, as KEY: VALUE."),
        ("audio.min_seconds", "0.1", "audio.min_seconds is '0.1'. It must be a number."),
        ("audio.rate", None, "audio.rate is None. It must be a whole number."),
        ("alpha", 7, "alpha is 7; it is at least 0 and at most 1, or null."),
        ("alpha", "lerned", "alpha is 'lerned'. It must be a number or learned or null."),
        ("pilot", 0, "pilot is 0; it is at least 1, or null."),
        ("pilot", 2.5, "pilot is 2.5. It must be a whole number or null."),
        ("normalize", "z", "normalize is 'z'. It must be dimension | scalar | speaker | none or a mapping of names"),
        ("crop", {"lenght": 3}, "unknown setting 'crop.lenght'; did you mean 'length'?"),
        ("crop", {"hop": 3}, "crop needs length"),
        ("crop", {"length": 0}, "crop has length 0.0 s and hop None s. Both must be above 0, and 3600.0 s at most."),
        ("crop", {"length": 1, "train": "last"}, "crop.train is 'last'. It must be first | all | center | random."),
        ("crop", "3", "crop is '3'. It must be settings"),
        ("segments", "140", "segments '140' is not LENGTH:HOP"),
        ("segments", {"length": 140}, "segments needs hop"),
        ("segments", {"length": 140, "hop": 0}, "is not LENGTH:HOP"),
        (
            "decision",
            {"name": "mean", "at": "windows"},
            "decision.at is 'windows'. It must be auto | whole | segments.",
        ),
        ("decision.temperature", 0, "decision.temperature is 0; it is above 0."),
        ("decision.temperature", math.inf, "decision.temperature is inf. It must be a number or fitted."),
        ("decision.temperature", "dev", "decision.temperature is 'dev'. It must be a number or fitted."),
        ("losses", [{"name": "ce", "weight": "x"}], "losses.weight is 'x'. It must be a number."),
        ("losses", [{"name": "ce", "weight": -1}], "losses.weight is -1; it is at least 0."),
        ("losses", [{"weight": 1}], "losses is {'weight': 1}. It must be a name"),
        ("train.optimizer", {"name": "adam", "lr": -1}, "train.optimizer.lr is -1; it is at least 0, or null."),
        ("train.select", "last", "train.select last takes the last epoch"),
        ("inputs", "mel", "inputs is 'mel'. It must be a mapping of"),
        ("seeds", [], "seeds is empty, so nothing would be run."),
        ("folds", [], "folds is empty, so nothing would be run."),
        ("seeds", ["a"], "seeds is 'a'. It must be a whole number."),
        ("bakcbone", "x", "unknown setting 'bakcbone'; did you mean 'backbone'?"),
        ("train.optimiser", "x", "unknown setting 'train.optimiser'; did you mean 'optimizer'?"),
        ("places", {}, "unknown setting 'places'"),
    ],
)
def test_wrong_types_values_and_names_are_refused(key: str, value: object, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        merge.load(None, None, {key: value})
    assert str(caught.value).startswith("the command line: ")
    assert says in str(caught.value)


def test_an_error_names_the_file_and_line_of_the_layer_that_gave_the_value(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("system: mini-cnn\n\ntrain:\n  epochs: 3\n  clip: -1\n")
    with pytest.raises(UsageError, match=r"recipe\.yaml:5: train\.clip is -1; it is above 0\."):
        merge.load(None, path)
    path.write_text("system: p3-seg-tri-s\ntrain:\n  refit: true\n  schedule: plateau\n")
    with pytest.raises(UsageError, match=r"recipe\.yaml:3: train\.refit has no dev loss for schedule plateau"):
        merge.load(None, path)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"train.unfreeze": 3, "train.epochs": 3}, r"train\.unfreeze 3 of 3 epochs: no layer of the backbone would"),
    ],
)
def test_settings_that_undo_or_repeat_each_other_are_refused(given: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        merge.load(None, None, given)
    for name, value in given.items():
        merge.load(None, None, {name: value})


def test_folds_and_seeds_are_given_alone_or_listed() -> None:
    assert merge.load(None, None, {"folds": "12"}).folds == ("12",)  # and not 1 and 2
    assert merge.load(None, None, {"folds": 12}).folds == ("12",)
    assert merge.load(None, None, {"folds": ["1a", 2]}).folds == ("1a", "2")
    assert merge.load(None, None, {"seeds": 3, "fold": 1}).seeds == (3,)
    assert merge.load(None, None, {"fold": 1}).fold == "1"


def test_a_single_component_stands_for_a_list_of_one() -> None:
    assert merge.load(None, None, {"augment": "noise:copies=3"}).augment == (Component("noise", {"copies": 3}),)


def test_every_kind_of_component_is_given_alike() -> None:
    read = merge.load(
        None,
        None,
        {
            "decision": "random:at=whole,tries=3",
            "sampler": "shuffle:jitter=0.5",
            "head": "linear:dropout=0.2",
            "train.schedule": "linear:warmup=0.2",
            "train.metric": "wa",
        },
    )
    assert read.decision == DecisionSpec("random", {"tries": 3}, at="whole")
    assert read.sampler == Component("shuffle", {"jitter": 0.5})
    assert read.head == Component("linear", {"dropout": 0.2})
    assert (read.train.schedule, read.train.metric) == (Component("linear", {"warmup": 0.2}), Component("wa"))


def test_a_whole_number_is_a_number_and_equal_to_it() -> None:
    assert merge.load(None, None, {"train.clip": 5}) == merge.load(None, None, {"train.clip": 5.0})
    assert isinstance(merge.load(None, None, {"train.clip": 5}).train.clip, float)


def test_settings_say_themselves_again() -> None:
    read = merge.load("p1-ce", None, {"segments": "2.8s:1.4s:drop", "losses": [{"name": "ce", "weight": 0.5}]})
    assert settings_of(plain(read)) == read
    assert read.crop == Crop(3.5, None, "first", "first", "silence")


def test_how_and_where_a_run_is_made_is_no_part_of_what_it_is() -> None:
    base = merge.load("mini-cnn")
    same = {
        "jobs": 4, "score.batch": 8, "seeds": [1, 2], "folds": ["1"], "root": "/x", "train.checkpoint_steps": 7,
        "train.device": "cpu", "train.workers": 2, "train.threads": 1, "train.tensorboard": True,
        "train.batch": 16,  # the system's own
    }  # fmt: skip
    assert difference(merge.load("mini-cnn", None, same), base) == {}
    assert identity(merge.load("mini-cnn", None, same)) == identity(base)
    other = merge.load("mini-cnn", None, {"train.batch": 8, "pooling": "max"})
    assert difference(other, base) == {"train.batch": 8, "pooling.name": "max"}
    assert "fold" in identity(base, "which")
    assert "fold" not in identity(base)


def test_every_setting_has_a_phrase_and_every_number_of_ours_its_range() -> None:
    def look(group: type, prefix: str) -> None:
        for name, field in fields_of(group).items():
            assert note(field).about, f"{prefix}{name} says nothing"
            if field.type in ("int", "float", "int | None", "float | None"):
                assert note(field).low is not None or note(field).above is not None, f"{prefix}{name} has no range"
            if is_dataclass(field.default) and not isinstance(field.default, Component):
                look(type(field.default), f"{prefix}{name}.")

    look(Settings, "")
    assert {field.name for field in fields(Settings)} - set(fields_of(Settings)) == {"places"}


def test_the_reference_is_generated_and_is_the_defaults() -> None:
    path = Path(sertk.__file__).parent / "settings/conf/base.yaml"
    assert path.read_text() == base_yaml(), "run `python tools/docs.py`"
    assert merge.load(None, path) == Settings()
    assert flat(plain(Settings())).keys() == flat(plain(merge.load(None, path))).keys()


def test_the_command_lines_components_are_read_as_yaml_reads_values() -> None:
    made = component_of("triplet:margin=1e-1,at=whole,x=[1,2]")
    assert made == {"name": "triplet", "margin": 0.1, "at": "whole", "x": [1, 2]}
    assert component_of(component_text("triplet", {"margin": 0.1, "at": "1e3", "x": [1, 2]})) == {
        "name": "triplet", "margin": 0.1, "at": "1e3", "x": [1, 2],
    }  # fmt: skip
    with pytest.raises(UsageError, match="'margin' has no '='"):
        component_of("triplet:margin")


@pytest.mark.parametrize(
    "value", ["[b", "@x", "a: b: c", "a,b=c", ["x:a=1,b=2"], "it's", "", "null", 'say "a,b=1"', 3, None]
)
def test_a_component_is_read_back_as_it_was_typed(value: object) -> None:
    assert component_of(component_text("x", {"k": value, "l": 1})) == {"name": "x", "k": value, "l": 1}


def test_odd_values_of_the_command_line_are_refused() -> None:
    with pytest.raises(UsageError, match="is not a value"):
        value_of("!!python/name:os.system")
