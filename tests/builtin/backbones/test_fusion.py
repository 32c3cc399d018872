"""Backbones side by side: columns, what an utterance lacks, what is cached, and what is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from torch import Tensor

from sertk.builtin.backbones.fusion import Fusion
from sertk.core import WHOLE, Backbone, Crop, HeadSpec, InputSpec, Padded, UsageError
from sertk.modeling import build
from sertk.modeling.build import about_frozen, with_frozen
from sertk.plugins import Plugins
from sertk.settings.check import settings_of
from sertk.settings.schema import Component, Settings

PLUGINS = Plugins()
INPUTS = {"mel": InputSpec(3, 0.01, 6), "words": InputSpec(2, math.inf, optional=True)}
BRANCHES = {"speech": {"name": "frames", "reads": "mel"}, "text": {"name": "frames", "reads": "words"}}


def fusion(**settings: object) -> Fusion:
    made: Fusion = PLUGINS.make("backbone", {"name": "fusion", "branches": BRANCHES, **settings}, INPUTS)
    return made


def rows(*words: int) -> dict[str, Padded]:
    """Rows of 6 speech frames, and as many words as said."""
    generator = torch.Generator().manual_seed(3)
    mel = torch.randn(len(words), 6, 3, generator=generator)
    text = torch.randn(len(words), max(words), 2, generator=generator)
    lengths = torch.tensor(words)
    return {"mel": Padded(mel, torch.full_like(lengths, 6)), "words": Padded(text, lengths)}


def test_an_utterance_is_one_frame_the_means_of_the_branches_side_by_side() -> None:
    made = fusion().eval()
    mel = Padded(torch.tensor([[[1.0, 2, 3], [3, 6, 5], [9, 9, 9]]]), torch.tensor([2]))  # the third frame is padding
    words = Padded(torch.tensor([[[4.0, 8.0]]]), torch.tensor([1]))
    found = made({"mel": mel, "words": words})
    assert found.data.tolist() == [[[2, 4, 4, 4, 8]]]
    assert found.length.tolist() == [1]
    assert (made.width, made.frames, made.frame_seconds) == (5, 1, math.inf)
    assert made.branches == {"speech": slice(0, 3), "text": slice(3, 5)}


def test_a_row_without_text_has_the_learned_vector_and_the_branch_does_not_see_it() -> None:
    made = fusion().eval()
    with torch.no_grad():
        made.lacking["text"].copy_(torch.tensor([7.0, -7.0]))
    assert list(made.lacking) == ["text"]  # speech cannot be lacking
    given = rows(2, 0, 1)
    given["words"].data[1] = math.nan  # nothing of it may be read
    found = made(given).data[:, 0, 3:]
    assert found[1].tolist() == [7, -7]
    alone = made({name: x.take(torch.tensor([2])) for name, x in given.items()}).data[:, 0, 3:]
    assert torch.allclose(found[2:], alone, atol=1e-6)


def test_where_no_row_has_a_text_every_part_still_has_a_gradient() -> None:
    branches = {
        **BRANCHES,
        "text": {"name": "cnn_transformer", "reads": "words", "layers": 0, "channels": [2], "pools": [[2, 2]]},
    }
    wide = {**INPUTS, "words": InputSpec(8, 0.01, optional=True)}
    made: Fusion = PLUGINS.make("backbone", {"name": "fusion", "branches": branches}, wide)
    given = {"mel": rows(1, 1)["mel"], "words": Padded(torch.zeros(2, 0, 8), torch.zeros(2, dtype=torch.int64))}
    made(given).data.sum().backward()
    gradients = {name: one.grad for name, one in made.named_parameters()}
    assert all(grad is not None for grad in gradients.values())  # ranks would wait for each other otherwise
    assert gradients["lacking.text"].tolist() == [2.0] * len(made.lacking["text"])  # type: ignore[union-attr]
    assert all(not grad.any() for name, grad in gradients.items() if name.startswith("parts.") and grad is not None)


def test_branches_are_dropped_as_often_as_asked_and_never_all() -> None:
    made = fusion(drop=0.4).train()
    with torch.no_grad():
        for vector in made.lacking.values():
            vector.fill_(99.0)
    assert list(made.lacking) == ["speech", "text"]
    torch.manual_seed(0)
    n = 4000
    given = {
        "mel": Padded(torch.zeros(n, 2, 3), torch.full((n,), 2)),
        "words": Padded(torch.zeros(n, 1, 2), torch.ones(n, dtype=torch.int64)),
    }
    dropped = made(given).data[:, 0] == 99
    speech, text = dropped[:, 0], dropped[:, 3]
    assert not (speech & text).any()
    # each is dropped with 0.4, and both with 0.16: those keep what there is
    assert speech.float().mean().item() == pytest.approx(0.4 - 0.16, abs=0.03)
    assert text.float().mean().item() == pytest.approx(0.24, abs=0.03)
    assert not (made.eval()(given).data == 99).any()
    made.train()
    given["words"] = Padded(given["words"].data, torch.zeros(n, dtype=torch.int64))
    assert not (made(given).data[:, 0, :3] == 99).any()  # the text is lacking: speech stays


def test_under_every_pooling_a_head_reads_the_columns_of_its_branch() -> None:
    names = [n for n in PLUGINS.names("pooling") if not n.startswith("lab")]
    assert len(names) > 4
    for name in names:
        pooling: object = {"name": name, "heads": 1} if name == "flam" else name
        wide = {"a": InputSpec(4, 0.01, 6), "b": InputSpec(7, 0.02, 5)}
        branches = {one: {"name": "frames", "reads": one} for one in "ab"}
        spec = {"name": "fusion", "branches": branches, "poolings": dict.fromkeys("ab", pooling)}
        backbone: Fusion = PLUGINS.make("backbone", spec, wide)
        body = _body(backbone)
        assert body.dims.branches == backbone.branches
        assert body.dims.embedding == backbone.width
        specs = {"emotion": HeadSpec("linear", 4, ("b",)), "gender": HeadSpec("linear", 2, ("a",))}
        model = build.make_model(PLUGINS, Settings(normalize="none"), body, specs).eval()
        given = {"a": torch.randn(2, 6, 4), "b": torch.randn(2, 5, 7)}
        first, other = (
            _heads(model, x) for x in (given, {**given, "a": given["a"] * 1.5 + torch.rand_like(given["a"])})
        )
        assert torch.equal(first["emotion"], other["emotion"]), name
        assert not torch.isclose(first["gender"], other["gender"]).any(), name


def _body(backbone: Backbone) -> build.Body:
    pooling, slices = build._make_pooling(PLUGINS, Component("mean"), backbone, backbone.frames)
    dims = build.Dims(backbone.width, pooling.out, backbone.frames, slices)

    class Front:
        def inputs(self) -> dict[str, InputSpec]:
            return {}

    return build.Body(Front(), backbone, pooling, dims)  # type: ignore[arg-type]


def _heads(model: build.Model, given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    inputs = {name: Padded(x, torch.full((len(x),), x.shape[1])) for name, x in given.items()}
    return model(inputs, (WHOLE,))[WHOLE].heads


def test_groups_of_layers_stand_side_by_side_from_the_output() -> None:
    class Two(Backbone):
        def __init__(self, depth: int) -> None:
            super().__init__()
            self.inputs, self.width, self.frame_seconds = ("mel",), 1, 0.01
            values = [torch.tensor(10.0 * depth + k) for k in range(depth)]
            self.layers_ = torch.nn.ParameterList(map(torch.nn.Parameter, values))

        def groups(self) -> list[list[torch.nn.Parameter]]:
            return [[one] for one in self.layers_]

        def forward(self, inputs: Mapping[str, Padded]) -> Padded:
            return inputs["mel"]

    made = Fusion(INPUTS, {"a": Two(3), "b": Two(1)})
    assert [[one.item() for one in group] for group in made.groups()] == [[30], [31], [32, 10]]


# --- what is frozen ------------------------------------------------------------------------------------------------

WHISPER = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 8}
WHISPER |= {"max_source_positions": 150}
FUSED = Settings(
    inputs={"mel": Component("mel"), "wave": Component("wave")},
    normalize={"mel": "scalar", "wave": "dimension"},
    crop=Crop(2.0, inputs=("mel",)),
    backbone=Component(
        "fusion",
        {
            "branches": {
                "image": {"name": "cnn_transformer", "reads": "mel", "layers": 0},
                "speech": {"name": "whisper", "reads": "wave", "config": WHISPER, "freeze": "all"},
            }
        },
    ),
)


def test_a_branch_that_is_frozen_whole_is_a_feature_of_the_input_that_it_read() -> None:
    found = with_frozen(PLUGINS, FUSED)
    whisper = {"name": "whisper", "config": WHISPER}
    assert found.inputs == {"mel": Component("mel"), "speech_frozen": Component("frozen", {"backbone": whisper})}
    branches = found.backbone.settings["branches"]
    assert isinstance(branches, dict)
    assert branches["speech"] == {"name": "frames", "layers": "keep", "reads": "speech_frozen"}
    assert branches["image"] == FUSED.backbone.settings["branches"]["image"]  # type: ignore[index]
    assert [found.statistics(name) for name in found.inputs] == ["scalar", "dimension"]
    assert about_frozen(PLUGINS, FUSED) == ""
    assert build.make_body(PLUGINS, found).frontend.inputs()["speech_frozen"].frames is None  # not cut


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"crop": Crop(2.0)}, "crop cuts its input 'wave'"),
        (
            {"inputs": {"mel": Component("mel"), "wave": Component("mel")}},
            "its input 'wave' is not the wave or the text as it is",
        ),
    ],
)
def test_a_frozen_branch_that_cannot_be_cached_is_said_to_be_computed_every_epoch(
    changed: dict[str, object], says: str
) -> None:
    settings = replace(FUSED, **changed)  # type: ignore[arg-type]
    assert with_frozen(PLUGINS, settings) == settings
    assert says in about_frozen(PLUGINS, settings)


def test_a_part_of_a_branch_is_never_cached() -> None:
    branches = FUSED.backbone.settings["branches"]
    assert isinstance(branches, dict)
    speech = {**branches["speech"], "freeze": "conv"}
    settings = replace(FUSED, backbone=Component("fusion", {"branches": {**branches, "speech": speech}}))
    assert with_frozen(PLUGINS, settings) == settings
    assert "only the whole is cached" in about_frozen(PLUGINS, settings)


def test_a_wave_that_another_branch_reads_stays_an_input() -> None:
    branches = FUSED.backbone.settings["branches"]
    assert isinstance(branches, dict)
    more = {**branches, "again": {**branches["speech"], "freeze": "none"}}
    found = with_frozen(PLUGINS, replace(FUSED, backbone=Component("fusion", {"branches": more})))
    assert list(found.inputs) == ["mel", "wave", "speech_frozen"]


def test_the_bundle_has_each_branch_without_the_place_of_its_weights() -> None:
    body = build.make_body(PLUGINS, replace(FUSED, crop=Crop(2.0)))
    speech = build.portable_settings(replace(FUSED, crop=Crop(2.0)), body).backbone.settings["branches"]["speech"]  # type: ignore[index]
    assert speech["source"] is None
    assert speech["config"]["d_model"] == 16
    assert speech["reads"] == "wave"


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"branches": {}}, "no branches; give"),
        ({"branches": {"a.b": BRANCHES["text"]}}, "'a.b' is no name of a branch"),
        ({"branches": {"keys": BRANCHES["text"]}}, "'keys' is no name of a branch; torch has something else"),
        ({"branches": {"a": {"name": "frames", "reads": ["mel"]}}}, "reads must be text"),
        ({"poolings": {"txt": "mean"}}, "poolings has the branch 'txt'.*'text'"),
        ({"drop": 1.0}, "drop is 1.0"),
        ({"branches": {"a": {"name": "frames"}}}, "reads None, but the inputs are mel, words"),
        ({"branches": {"a": {"name": "fames"}}}, "no backbone named 'fames'; did you mean 'frames'"),
    ],
)
def test_settings_that_make_no_fusion_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        fusion(**settings)


def test_a_pooling_of_the_run_is_refused_for_the_branches_have_their_own() -> None:
    with pytest.raises(UsageError, match=r"pools each branch by itself.*backbone.poolings"):
        build.make_body(PLUGINS, replace(FUSED, crop=None, pooling=Component("max")))


def test_segments_of_a_fusion_are_refused() -> None:
    from sertk.settings.schema import Segments

    with pytest.raises(UsageError, match="gives one frame an utterance"):
        build.make_body(PLUGINS, replace(FUSED, crop=None, segments=Segments(4, 2)))


def test_a_frozen_encoder_is_never_given_what_it_does_not_read() -> None:
    text = Component("text")
    wrong = (
        {"name": "whisper", "reads": "text", "config": WHISPER, "freeze": "all"},
        {"name": "bert", "reads": "wave", "config": {"vocab_size": 260}, "freeze": "all"},
        {"name": "bert", "reads": "pieces", "config": {"vocab_size": 260}, "freeze": "all"},
    )
    inputs = {"wave": Component("wave"), "text": text, "pieces": Component("sentencepiece")}
    for branch in wrong:
        settings = Settings(inputs=inputs, backbone=Component("fusion", {"branches": {"a": branch}}))
        assert with_frozen(PLUGINS, settings) == settings
        with pytest.raises(UsageError, match="reads"):
            build.make_body(PLUGINS, settings)
    alone = Settings(inputs={"text": text}, backbone=Component("whisper", {"config": WHISPER, "freeze": "all"}))
    assert with_frozen(PLUGINS, alone) == alone


def test_a_branch_that_names_no_input_reads_the_only_one() -> None:
    branches = FUSED.backbone.settings["branches"]
    assert isinstance(branches, dict)
    speech = {word: value for word, value in branches["speech"].items() if word != "reads"}
    trained = {**speech, "freeze": "none"}
    settings = Settings(
        inputs={"wave": Component("wave")},
        normalize="none",
        backbone=Component("fusion", {"branches": {"a": speech, "b": trained}}),
    )
    found = with_frozen(PLUGINS, settings)
    assert list(found.inputs) == ["wave", "a_frozen"]
    assert found.backbone.settings["branches"]["b"]["reads"] == "wave"  # type: ignore[index]


def test_a_name_that_a_stored_branch_would_take_is_refused() -> None:
    inputs = {**FUSED.inputs, "speech_frozen": Component("mel")}
    with pytest.raises(UsageError, match="inputs has 'speech_frozen', which branch 'speech' would be stored as"):
        with_frozen(PLUGINS, replace(FUSED, inputs=inputs))


def test_statistics_of_an_input_that_there_is_not_are_refused() -> None:
    settings = replace(FUSED, normalize={"mle": "scalar"})
    for see in (with_frozen, build.make_body):
        with pytest.raises(UsageError, match="normalize names the input 'mle'; did you mean 'mel'"):
            see(PLUGINS, settings)


def test_statistics_by_name_go_with_an_encoder_that_is_frozen_whole() -> None:
    alone = Component("whisper", {"config": WHISPER, "freeze": "all"})
    settings = Settings(inputs={"wave": Component("wave")}, normalize={"wave": "scalar"}, backbone=alone)
    assert with_frozen(PLUGINS, settings).statistics("frozen") == "scalar"


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (("mel", "text"), "crop cuts the input 'text', which does not run in time. Set those that do: mel, wave"),
        ((), "crop cuts nothing. Set those that do: mel, wave"),
        (("mle",), "crop cuts the input 'mle'; did you mean 'mel'"),
    ],
)
def test_a_crop_of_what_cannot_be_cut_is_refused(inputs: tuple[str, ...], says: str) -> None:
    settings = replace(FUSED, inputs={**FUSED.inputs, "text": Component("text")}, crop=Crop(2.0, inputs=inputs))
    with pytest.raises(UsageError, match=says):
        build.make_body(PLUGINS, settings)


@pytest.mark.parametrize(
    ("augment", "says"),
    [
        ("eam", "mixes two utterances and their labels, and a text cannot be mixed"),
        ("gain", "changes the input 'wave'"),
    ],
)
def test_augmentations_that_do_not_go_with_texts_are_refused(augment: str, says: str) -> None:
    settings = Settings(
        inputs={"text": Component("sentencepiece")},
        augment=(Component(augment),),
        backbone=Component("text_transformer"),
    )
    with pytest.raises(UsageError, match=says):
        build.make_body(PLUGINS, settings, train=True)


def test_the_weights_of_every_branch_are_told() -> None:
    made = fusion()
    assert made.weights == ""
    made.parts["speech"].weights = "abc"
    assert Fusion(INPUTS, dict(made.parts)).weights == "speech abc"


# --- as documented -------------------------------------------------------------------------------------------------

EXAMPLES = re.findall(r"```yaml\n(.*?)```", (Path(__file__).parents[3] / "docs/fusion.md").read_text(), re.DOTALL)
HERE = {  # sizes in the place of checkpoints, and a feature in the place of a guest's
    "source: google-bert/bert-base-uncased": "config: {vocab_size: 260, num_hidden_layers: 1}",
    "source: openai/whisper-tiny.en": "config: {encoder_layers: 1}",
    "source: microsoft/wavlm-base": "config: {num_hidden_layers: 9}",
    "{name: opensmile, set: eGeMAPSv02}": "{name: mfcc}",
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_documented_examples_can_be_made(example: str) -> None:
    for there, here in HERE.items():
        example = example.replace(there, here)
    settings = settings_of(YAML(typ="safe", pure=True).load(example))
    with torch.device("meta"):
        body = build.make_body(PLUGINS, with_frozen(PLUGINS, settings))
    assert list(body.backbone.branches) == list(settings.backbone.settings["branches"])  # type: ignore[call-overload]


def test_each_use_has_an_example() -> None:
    assert len(EXAMPLES) == 3  # speech and text, two encoders, frames and functionals
