"""Layers of settings merged, references resolved, tags and plugin files that are not trusted refused."""

from dataclasses import replace
from pathlib import Path

import pytest

import sertk
from sertk.core import SertkError, UsageError
from sertk.settings import merge
from sertk.settings.overrides import Choices
from sertk.settings.schema import Component, LossTerm, OptimizerSpec, Segments, Settings


def settings(tmp_path: Path, text: str, **overrides: object) -> Settings:
    """The settings of a recipe with this text."""
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return merge.load(None, path, overrides)


def test_sizes_and_exponents_are_not_read_as_pyyaml_does(tmp_path: Path) -> None:
    # PyYAML reads 140:50 as 8450 (base 60) and 1e-4 as text
    read = settings(tmp_path, "segments: 140:50\ntrain: {optimizer: {name: adam, lr: 1e-4}, clip: 1e9}\n")
    assert str(read.segments) == "140:50:keep"
    assert read.train.optimizer == OptimizerSpec("adam", lr=1e-4)
    assert read.train.clip == 1e9


def test_values_are_the_same_however_a_number_is_spelled_and_beside_a_reference(tmp_path: Path) -> None:
    text = "train: {batch: 1_6}\ninputs: {x: {name: mel, f_max: 65e2, n_mels: 6_4}}\n"
    read = settings(tmp_path, f"{text}seed: 7\n")
    assert read == settings(tmp_path, f"{text}seed: !ref <train[batch]> - 9\n")  # this one HyperPyYAML reads
    assert (read.train.batch, read.inputs["x"]) == (16, Component("mel", {"f_max": 6500.0, "n_mels": 64}))
    merge.dump(read, tmp_path / "saved.yaml")
    saved = (tmp_path / "saved.yaml").read_text()
    assert all(f"{one}\n" in saved for one in ("f_max: 6500.0", "n_mels: 64"))  # not as it was written


def test_what_is_done_to_a_document_is_not_seen_where_it_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("train: {epochs: 3}\n")
    merge.read(tmp_path / "recipe.yaml")["train"]["epochs"] = 4
    assert merge.read(tmp_path / "recipe.yaml") == {"train": {"epochs": 3}}


def test_references_are_resolved_and_their_values_saved(tmp_path: Path) -> None:
    read = settings(tmp_path, "seed: 7\ntrain:\n  batch: !ref <seed>\n  epochs: !ref <train[batch]> * 2 + 1\n")
    assert (read.train.batch, read.train.epochs) == (7, 15)
    merge.dump(read, tmp_path / "saved.yaml")
    assert "!ref" not in (tmp_path / "saved.yaml").read_text()
    assert merge.load(None, tmp_path / "saved.yaml") == read


def test_a_reference_follows_what_a_later_layer_says(tmp_path: Path) -> None:
    assert merge.load("p3-seg").segments == Segments("140", "70")
    assert str(settings(tmp_path, "segments: {length: 80}\n", system="p3-seg").segments) == "80:40:keep"
    halves = settings(tmp_path, "system: p3-seg\nsegments: {length: 80}\n", **{"segments.hop": 20})
    assert str(halves.segments) == "80:20:keep"


def test_a_reference_that_leads_nowhere_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"recipe\.yaml:2: a !ref cannot be resolved: .*sed.* is not valid"):
        settings(tmp_path, "seed: 7\npilot: !ref <sed>\n")


def test_a_component_with_a_name_replaces_and_other_mappings_merge(tmp_path: Path) -> None:
    text = "train: {epochs: 3, optimizer: {name: sgd, lr: 0.1}}\ninputs: {b: mel}\n"
    read = settings(tmp_path, text, **{"train.optimizer.momentum": 0.9, "inputs.a": "mfcc:n_mfcc=20"})
    assert read.train.optimizer == OptimizerSpec("sgd", {"momentum": 0.9}, lr=0.1)  # nothing of the default's
    assert (read.train.epochs, read.train.batch) == (3, 32)
    assert read.inputs == {"b": Component("mel"), "a": Component("mfcc", {"n_mfcc": 20})}


def test_layers_win_in_order(tmp_path: Path) -> None:
    read = settings(tmp_path, "system: mini-cnn\ntrain: {batch: 5, epochs: 6}\n", **{"train.epochs": 7})
    assert read.train.schedule == Component("linear")  # the system's
    assert (read.train.batch, read.train.epochs) == (5, 7)  # the recipe's, the command line's


def test_the_line_is_that_of_the_value_itself_at_any_depth(tmp_path: Path) -> None:
    text = "jobs: 1\ncrop:\n  length: 3\n  hop: no\n"
    with pytest.raises(UsageError, match=r"recipe\.yaml:4: crop\.hop is 'no'\. It must be a number or null\."):
        settings(tmp_path, text)
    with pytest.raises(UsageError, match=r"^the command line: crop\.hop is 'x'"):  # and not line 4
        settings(tmp_path, text, crop={"length": 3, "hop": "x"})
    text = "train:\n  optimizer:\n    name: adam\n    lr: 0.1\n"
    with pytest.raises(
        UsageError, match=r"^the command line: train\.optimizer\.lr is -1"
    ):  # what it replaced had line 4
        settings(tmp_path, text, **{"train.optimizer": {"name": "sgd", "lr": -1}})


def test_a_saved_config_does_not_need_its_system(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("train: {batch: 5}\n")
    merge.dump(replace(merge.load(str(mine)), fold="1"), tmp_path / "saved.yaml")
    mine.unlink()
    assert merge.load(None, tmp_path / "saved.yaml").train.batch == 5


def test_the_first_saved_configs_are_whole_for_ever(tmp_path: Path) -> None:
    first = Path(__file__).with_name("saved") / "first.yaml"  # of a run before there were samplers, heads, plugin files
    text = first.read_text().replace("system: mini-cnn", "system: gone")
    (tmp_path / "config.yaml").write_text(text)
    read = merge.load(None, tmp_path / "config.yaml")
    assert (read.system, read.fold, read.train.batch) == ("gone", "1", 16)
    assert read.sampler == Settings().sampler


def test_what_a_saved_config_has_at_its_default_was_not_chosen(tmp_path: Path) -> None:
    merge.dump(merge.load("mini-cnn", None, {"head": "linear:dropout=0.1", "fold": "1"}), tmp_path / "saved.yaml")
    read = merge.load(None, tmp_path / "saved.yaml")
    assert not read.at("sampler")
    assert read.at("head")


def test_a_fold_in_a_recipe_does_not_make_it_a_saved_config(tmp_path: Path) -> None:
    read = settings(tmp_path, "system: mini-cnn\nfold: 1\ninputs: {mel: 'mel:n_mels=40'}\n")
    assert read.train.batch == 16  # the system's


def test_a_copy_of_the_reference_is_a_recipe_and_no_saved_config(tmp_path: Path) -> None:
    base = Path(sertk.__file__).parent / "settings/conf/base.yaml"
    mine = (
        base.read_text()
        .replace("system: null", "system: mini-cnn")
        .replace("systems: {}", "systems: {mini*: {jobs: 7}}")
    )
    (tmp_path / "recipe.yaml").write_text(mine)
    assert merge.load(None, tmp_path / "recipe.yaml").jobs == 7
    assert merge.load(None, tmp_path / "recipe.yaml") == merge.load("mini-cnn", tmp_path / "recipe.yaml")


def test_an_input_that_is_text_has_settings_too(tmp_path: Path) -> None:
    for text in ("mel", "'mel:n_mels=40'"):
        read = settings(tmp_path, f"inputs: {{mel: {text}}}\n", **{"inputs.mel.n_mels": 20})
        assert read.inputs == {"mel": Component("mel", {"n_mels": 20})}


def test_a_component_and_its_setting_go_together_in_any_order() -> None:
    read = Choices(system="mini-cnn", pooling="max", set=["pooling.project=8", "train.batch=4"]).load(None)
    assert read.pooling == Component("max", {"project": 8})
    with pytest.raises(UsageError, match=r"train\.batch cannot be set: train is given as 5"):
        Choices(set=["train=5", "train.batch=4"]).load(None)


def test_a_setting_of_a_component_that_a_file_gives_by_name_alone(tmp_path: Path) -> None:
    read = settings(tmp_path, "pooling: flam\n", **{"pooling.heads": 8})
    assert read.pooling == Component("flam", {"heads": 8})


def test_a_recipe_has_settings_for_some_systems_alone(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("train: {batch: 7}\nsystems:\n  p3-*: {train: {epochs: 3}}\n  p3-seg*: {segments: '80:40'}\n")
    for name, expected in (("p3-baseline", (7, 3, None)), ("p3-seg", (7, 3, "80:40:keep")), ("p1-ce", (7, 20, None))):
        read = merge.load(name, path)
        assert (read.train.batch, read.train.epochs, read.segments and str(read.segments)) == expected
        assert not read.systems  # what is saved beside a run is of one system
    assert merge.load("p3-seg", path, {"segments": "10:5"}).segments == Segments("10", "5")
    path.write_text("systems:\n  p3-*: {trian: {epochs: 3}}\n")
    with pytest.raises(UsageError, match=r"recipe\.yaml:2: unknown setting 'trian'; did you mean 'train'"):
        merge.load("p3-seg", path)
    path.write_text("systems:\n  p3-*: 3\n")
    with pytest.raises(UsageError, match=r":2: systems\.p3-\* is 3; it takes settings"):
        merge.load("p3-seg", path)


def test_the_recipes_give_the_papers_segments_and_alphas() -> None:
    egs = Path(sertk.__file__).parents[1] / "egs"

    def row(corpus: str, system: str) -> tuple[object, object]:
        read = merge.load(system, egs / corpus / "recipe.yaml")
        return read.segments and str(read.segments), read.alpha

    assert [row("ravdess", f"p3-{name}") for name in ("baseline", "seg", "tri-w", "seg-tri-s", "seg-tri-w")] == [
        (None, None),
        ("80:40:keep", None),
        (None, 0.7),
        ("80:40:keep", 0.1),
        ("80:40:keep", 0.2),
    ]
    assert row("iemocap", "p3-seg-tri-s") == ("140:70:keep", None)
    assert row("fesc", "p3-seg-tri-w") == ("120:60:keep", None)
    assert merge.load("p3-seg", egs / "fesc" / "recipe.yaml").backbone.settings["layers"] == 23


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("systems: {p3*: {losses: [{weight: 2}]}}", r":1: losses is \{'weight': 2\}\. It must be a name"),
        ("2020-01-01: 3", r":1: 2020-01-01 cannot be the name"),
        ("systems: 3", r":1: systems is 3\. A recipe has it, as \{SYSTEM: \{KEY: VALUE\}\}"),
        ("systems: [a]", r":1: systems is \['a'\]\. A recipe has it"),
        ("systems: {p1-ce: {train: {bach: 3}}}", r":1: unknown setting 'train\.bach'; did you mean 'batch'"),  # not run
        ("systems: {3: {alpha: 7}}", r":1: alpha is 7"),
        ("? {a: b}\n: 3", "cannot be the name of a setting"),
        ("alpha: !ref <alpha>", r":1: a !ref cannot be resolved"),
        ("!ref x: 1", "cannot be"),
        (f"train: {{clip: {'9' * 400}}}", r":1: train\.clip is 9+\. It must be a number"),
        (f"train: {{epochs: {'9' * 40}}}", r":1: train\.epochs is 9+; it is at least 1 and at most"),
        ("losses: [{name: ce, weight: !ref <nope>}]", r":1: a !ref cannot be resolved"),
        ("folds: !ref [a]", "a !ref cannot be resolved"),
        ("pilot: !ref <jobs>\nseed: !ref <sed>", r":2: a !ref cannot be resolved"),
        ("jobs: 1\njobs: 2", "is not YAML"),
        ("plugins: 3", r":1: plugins is 3\. It must be a list of files"),
        ("train:", r":1: train is null\. It must be settings"),
        ("seeds:", r":1: seeds is null\. It must be a list of whole numbers"),
        ("losses: [ce, {name: focal, weight: -1}]", r":1: losses\[1\]\.weight is -1"),
        ("segments: 0.5s:x", r"segments 0\.5s:x:keep is not LENGTH:HOP"),
    ],
)
def test_odd_documents_are_refused_as_wrong_use(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        settings(tmp_path, f"{text}\n")
    assert "1e-09" not in str(caught.value)


def test_only_a_recipe_has_settings_for_some_systems(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("jobs: 2\nsystems: {p1-ce: {jobs: 3}}\n")
    with pytest.raises(UsageError, match=r"mine\.yaml:2: systems is .*A recipe has it"):
        merge.load(str(tmp_path / "mine.yaml"))
    with pytest.raises(UsageError, match="the command line: systems is 3"):
        merge.load("mini-cnn", None, {"systems": 3})


# --- recipes are data ----------------------------------------------------------------------------------------------

CODE = (
    "seed: !apply:os.system ['touch {mark}']",
    "backbone: !new:subprocess.Popen [['touch', '{mark}']]",
    "backbone: !name:os.system",
    "inputs: {{x: !!python/object/apply:os.system ['touch {mark}']}}",
    "inputs: {{x: {{name: mel, n_mels: !applyref:os.system ['touch {mark}']}}}}",
    "losses: [ce, !include:other.yaml]",
    "? !apply:os.system ['touch {mark}']\n: 1",
    "seed: !!int 3",
    "a: &x !apply:os.system ['touch {mark}']\nb: *x",
)


@pytest.mark.parametrize("text", CODE)
def test_a_tag_that_could_run_code_is_refused_with_file_and_line_before_anything_acts_on_it(
    text: str, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    with pytest.raises(UsageError, match=r"recipe\.yaml:2: the tag .* is refused: settings are data") as caught:
        settings(tmp_path, f"jobs: 1\n{text.format(mark=mark)}\n")
    assert caught.value.exit_code == 2
    assert not mark.exists()


def test_text_that_looks_like_a_tag_is_text(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    read = settings(tmp_path, f'root: "!apply:os.system [\'touch {mark}\']"\nprotocol: "!ref <root>"\n')
    assert read.root == f"!apply:os.system ['touch {mark}']"
    assert read.protocol == "!ref <root>"
    assert not mark.exists()


def test_what_a_reference_makes_is_text_and_no_tag(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    text = (
        f"root: \"!apply:os.system ['touch {mark}']\"\nprotocol: !ref <root>\nsystems: {{x: {{seed: !copy <jobs>}}}}\n"
    )
    assert settings(tmp_path, text).protocol == f"!apply:os.system ['touch {mark}']"
    assert not mark.exists()


def test_plugin_files_of_a_document_need_trust(tmp_path: Path) -> None:
    text, file = "jobs: 2\nplugins: [net.py]\n", tmp_path / "net.py"
    file.write_text("raise SystemExit('it ran')\n")
    with pytest.raises(UsageError, match=r"recipe\.yaml:2: this names the plugin file .*net\.py.*--trust.*--plugin"):
        settings(tmp_path, text)
    recipe = tmp_path / "recipe.yaml"
    assert merge.load(None, recipe, trust=True).plugins == (str(file),)
    assert merge.load(None, None, {}, plugins=[file, file]).plugins == (str(file),)
    assert merge.load(None, recipe, plugins=[file]).plugins == (str(file),)  # named on the command line: consent
    with pytest.raises(UsageError, match="--trust"):
        merge.load(None, recipe, plugins=[tmp_path / "other.py"])
    assert merge.load(None, None, {"plugins": ["net.py"]}).plugins == (str(Path("net.py").resolve()),)  # the user's own
    for text in ("a: &x {plugins: [net.py]}\n<<: *x\n", "systems:\n  mini-*: {plugins: [net.py]}\n"):
        recipe.write_text(text)  # however it is said
        with pytest.raises(UsageError, match="--trust"):
            merge.load("mini-cnn", recipe)
    recipe.write_text("jobs: 2\nplugins: [net.py]\n")
    merge.dump(replace(merge.load(None, recipe, trust=True), fold="1"), tmp_path / "config.yaml")
    with pytest.raises(UsageError, match=r"config\.yaml:.*--trust"):  # somebody's run
        merge.load(None, tmp_path / "config.yaml")


def test_only_a_recipe_that_comes_with_sertk_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sertk.settings.merge.egs", lambda: tmp_path / "egs")
    ours, run, linked = tmp_path / "egs/mini", tmp_path / "egs/mini/exp/somebodys", tmp_path / "egs/linked"
    for folder in (ours, run, tmp_path / "theirs"):
        folder.mkdir(parents=True)
        for name in ("recipe.yaml", "config.yaml"):
            (folder / name).write_text("plugins: [net.py]\n")
    linked.symlink_to(tmp_path / "theirs")
    assert merge.load(None, ours / "recipe.yaml").plugins == (str(ours / "net.py"),)
    for path in (ours / "config.yaml", run / "config.yaml", run / "recipe.yaml", linked / "recipe.yaml"):
        with pytest.raises(UsageError, match="--trust"):
            merge.load(None, path)


def test_a_system_of_ones_own_needs_trust_for_its_plugin_files_too(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("plugins: [net.py]\n")
    with pytest.raises(UsageError, match=r"mine\.yaml:1: this names the plugin file .*net\.py"):
        merge.load(str(tmp_path / "mine.yaml"), None)
    assert merge.load(str(tmp_path / "mine.yaml"), None, trust=True).plugins == (str(tmp_path / "net.py"),)


def test_plugin_files_on_the_command_line_come_after_the_documents(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("plugins: sub/net.py\n")
    found = merge.load(None, tmp_path / "recipe.yaml", plugins=[tmp_path / "mine.py"], trust=True).plugins
    assert found == (str(tmp_path / "sub/net.py"), str(tmp_path / "mine.py"))


def test_what_is_no_settings_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SertkError, match=r"cannot read settings: .*absent\.yaml is missing"):
        merge.load(None, tmp_path / "absent.yaml")
    with pytest.raises(SertkError, match="holds a list, and not KEY: VALUE lines"):
        settings(tmp_path, "- 1\n")
    with pytest.raises(SertkError, match="is not YAML"):
        settings(tmp_path, "a: [\n")
    (tmp_path / "recipe.yaml").write_bytes(b"root: \xff\xfe\n")
    with pytest.raises(SertkError, match=r"recipe\.yaml is not YAML"):
        merge.load(None, tmp_path / "recipe.yaml")
    with pytest.raises(UsageError, match="no system named 'p1-cc'; did you mean 'p1-ce'"):
        merge.load("p1-cc")


def test_every_system_is_read_and_says_itself_again(tmp_path: Path) -> None:  # over the recipes: tests/recipe
    for name in merge.systems():
        read = replace(merge.load(name), fold="1")
        merge.dump(read, tmp_path / "saved.yaml")
        assert merge.load(None, tmp_path / "saved.yaml") == read


def test_a_loss_is_given_alike_in_files_and_on_the_command_line(tmp_path: Path) -> None:
    terms = (LossTerm("ce", {"smoothing": 0.1}, weight=0.3), LossTerm("triplet"))
    assert settings(tmp_path, "losses: [{name: ce, smoothing: 0.1, weight: 0.3}, triplet]\n").losses == terms
    assert settings(tmp_path, "losses: ['ce:smoothing=0.1,weight=0.3', triplet]\n").losses == terms
    assert Choices(loss=["ce:smoothing=0.1,weight=0.3", "triplet"]).losses() == terms


@pytest.mark.parametrize(("name", "loss"), [("p1-l1", "l1"), ("p1-smooth-l1", "smooth_l1"), ("p1-bce", "bce")])
def test_the_systems_of_p1_differ_in_their_loss_alone(name: str, loss: str) -> None:
    own, ce = merge.load(name), merge.load("p1-ce")
    assert [one.name for one in own.losses] == [loss]
    assert replace(own, losses=ce.losses, system=ce.system) == ce
    assert own.train.precision == "bf16"
