"""The CNN-Transformer, poolings, heads, normalisation, and the views that the model gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from sertk.builtin.backbones.cnn_transformer import CNNTransformer
from sertk.builtin.backbones.common import sinusoids
from sertk.builtin.heads import Cosine, Linear
from sertk.builtin.poolings import Max, Mean
from sertk.core import WHOLE, Backbone, Batch, Crop, Feature, FrameSpec, HeadSpec, InputSpec, Padded, Span, UsageError
from sertk.modeling import build
from sertk.modeling.frontend import Frontend
from sertk.modeling.model import Model, Normalize
from sertk.plugins import Plugins
from sertk.settings.schema import Component, Segments, Settings

Tail = Literal["keep", "drop"]


def frames(*sizes: int, width: int = 128, seed: int = 0) -> Padded:
    generator = torch.Generator().manual_seed(seed)
    return Padded.stack([torch.randn(size, width, generator=generator) for size in sizes])


def backbone(
    tail: Tail = "keep",
    fixed: int | None = None,
    layers: int = 4,
    width: int = 128,
    **settings: Any,  # noqa: ANN401 - any setting of the backbone
) -> CNNTransformer:
    """In eval mode, its batch norms as if they had seen data: padding does not come out as zero by chance."""
    torch.manual_seed(0)
    made = CNNTransformer({"mel": InputSpec(width, 0.01, fixed)}, tail=tail, layers=layers, **settings).eval()
    for name, buffer in [*made.named_parameters(), *made.named_buffers()]:
        if "blocks" in name and name.endswith(("bias", "running_mean", "running_var")):
            buffer.data.uniform_(0.2, 0.8)
    return made


# --- CNN-Transformer -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tail", "before", "tokens"),
    [
        # time 657 -> 328 -> 164 -> 82 -> 20 -> 5; frequency 128 -> 64 -> 32 -> 16 -> 4 -> 2
        ("drop", (64, 4, 20), 10),
        # time 657 -> 329 -> 165 -> 83 -> 21 -> 6
        ("keep", (64, 4, 21), 12),
    ],
)
def test_sizes_are_the_papers_where_the_tail_is_dropped(tail: Tail, before: tuple[int, ...], tokens: int) -> None:
    made, seen = backbone(tail), []
    made.pools[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    out = made({"mel": frames(657)})
    assert seen == [(1, *before)]
    assert out.data.shape == (1, tokens, 64)
    assert out.length.tolist() == [tokens]


def test_channels_and_transformer_are_the_papers() -> None:
    made = CNNTransformer({"mel": InputSpec(128, 0.01)})
    assert [tuple(p.shape[:2]) for n, p in made.blocks.named_parameters() if p.dim() == 4] == [
        (16, 1),
        (32, 16),
        (64, 32),
        (64, 64),
    ]
    assert made.encoder is not None
    assert len(made.encoder.layers) == 4
    layer = made.encoder.layers[0]
    assert (layer.self_attn.num_heads, layer.self_attn.embed_dim, layer.linear1.out_features) == (4, 64, 512)
    assert layer.activation is torch.nn.functional.gelu
    assert not layer.norm_first
    assert made.width == 64
    # pools of 2 x 2 x 2 x 4 x 4 = 128 frames of 10 ms, two tokens in each
    assert made.frame_seconds == pytest.approx(0.64)


OTHERS: list[dict[str, Any]] = [{"layout": "parallel", "norm": "pre"}, {"positions": "sinusoidal"}]


@pytest.mark.parametrize("settings", [{}, *OTHERS], ids=str)
@pytest.mark.parametrize("tail", ["keep", "drop"])
@pytest.mark.parametrize("size", [1, 5, 127, 128, 129, 300])
def test_neither_padding_nor_companions_change_a_rows_tokens(
    tail: Tail, size: int, settings: Mapping[str, Any]
) -> None:
    made = backbone(tail, **settings)
    row, longer = frames(size), frames(500, seed=1)
    both = Padded.stack([row.data[0], longer.data[0]]).fill(1000.0)  # rubbish in the padding
    with torch.inference_mode():
        alone, together = made({"mel": row}), made({"mel": both})
    assert together.length[0] == alone.length[0] == alone.data.shape[1]
    torch.testing.assert_close(together.data[0, : alone.length[0]], alone.data[0], atol=1e-4, rtol=0)


def as_printed(made: CNNTransformer, x: Padded) -> Tensor:
    """(B, channels, rows, T') of the blocks of `tail: keep` as P1 has them: the ReLU in front of the pool."""
    maps, length = x.fill(0.0).data.transpose(1, 2)[:, None], x.length
    for block, pool, stride in zip(made.blocks, made.pools, (2, 2, 2, 4), strict=False):
        maps = block(maps).relu()
        beyond = torch.arange(maps.shape[3]) >= length[:, None]
        maps, length = pool(maps.masked_fill(beyond[:, None, None], 0.0)), -(-length // stride)
    return maps


@pytest.mark.parametrize("training", [False, True])
def test_the_relu_behind_the_pool_gives_what_the_paper_has_in_front_of_it(*, training: bool) -> None:
    x = Padded.stack([frames(size, seed=size).data[0] for size in (300, 33, 1, 131)])  # of which windows hang over
    found = []
    for printed in (False, True):
        made = backbone(layers=0, dropout=0.0).double().train(training)
        double = Padded(x.fill(0.0).data.double(), x.length)
        maps = as_printed(made, double) if printed else made._convolve(double.data.mT[:, None], x.length)[0]
        maps.square().sum().backward()
        found.append([maps.detach(), *(p.grad for p in made.blocks.parameters())])
    assert torch.equal(found[0][0], found[1][0])
    for one, wanted in zip(*found, strict=True):
        torch.testing.assert_close(one, wanted)


def test_old_bundles_name_the_weights_of_a_block_as_ever() -> None:
    names = {name.rpartition(".")[0] for name, _ in backbone().blocks.named_parameters()}
    assert names == {f"{block}.{part}" for block in range(4) for part in (0, 1)}


# --- CNN-Transformer: what the predecessor of P1 has otherwise -------------------------------------------------------


@pytest.mark.parametrize(("tail", "steps"), [("drop", 20), ("keep", 21)])
def test_branches_side_by_side_have_the_frames_of_the_blocks(tail: Tail, steps: int) -> None:
    made = backbone(tail, layout="parallel")
    out = made({"mel": frames(657)})
    # 128 bands -> 4 rows of 64 channels; 128 / 2 = 64 bands are the Transformer's width, so nothing is projected
    assert out.data.shape == (1, steps, 4 * 64 + 64)
    assert out.length.tolist() == [steps]
    assert made.width == 320
    assert made.branches == {"cnn": slice(0, 256), "transformer": slice(256, 320)}
    assert made.frame_seconds == pytest.approx(0.32)  # 2 x 2 x 2 x 4 frames of 10 ms
    assert not list(made.project.parameters())
    fixed = backbone(tail, fixed=657, layout="parallel")
    assert fixed.frames == fixed({"mel": frames(657)}).data.shape[1] == steps


def test_other_bands_are_projected_to_the_width_of_the_transformer() -> None:
    made = backbone(width=80, layout="parallel")
    assert [tuple(one.shape) for one in made.project.parameters()] == [(64, 40), (64,)]
    # 80 -> 40 -> 20 -> 10 -> 3 rows
    assert made({"mel": frames(100, width=80)}).data.shape == (1, 4, 3 * 64 + 64)


@pytest.mark.parametrize(("tail", "counts"), [("keep", [8, 8, 1]), ("drop", [8, 8])])
def test_the_transformers_branch_is_the_mean_of_the_steps_of_a_frame(tail: Tail, counts: list[int]) -> None:
    made = backbone(tail, layout="parallel")
    x = frames(67)  # 67 / 4 = 16 steps, or 17; 8 to a frame of 32
    pooled = torch.nn.functional.max_pool2d(x.data.transpose(1, 2)[:, None], (2, 4), ceil_mode=tail == "keep")
    assert made.encoder is not None
    with torch.inference_mode():
        seen = made.encoder(pooled[0].transpose(1, 2))[0]
        wanted = torch.stack([one.mean(0) for one in seen.split(counts)])
        found = made({"mel": x}).data[0, :, made.branches["transformer"]]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_padding_does_not_win_the_pool_of_an_input_below_zero() -> None:
    made = backbone(layout="parallel")
    low = Padded(frames(5).data - 50, torch.tensor([5]))
    seen: list[Tensor] = []
    made.project.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    made({"mel": low})
    assert seen[0].shape == (1, 2, 64)
    assert (seen[0] < -40).all()


def test_sinusoids_tell_the_transformer_the_order_of_tokens() -> None:
    table = sinusoids(torch.zeros(1, 3, 5))
    # position 2: sin 2, cos 2, then a rate of 10000^(-2/5) = 0.025119, then 10000^(-4/5) = 0.000631
    wanted = [0.909297, -0.416147, 0.050217, 0.998738, 0.001262]
    assert table[2].tolist() == pytest.approx(wanted, abs=1e-5)
    x = frames(512)
    pieces = Padded(x.data.view(1, 4, 128, 128).flip(1).flatten(1, 2), x.length)
    for positions, same in (("none", True), ("sinusoidal", False)):
        # one token of 128 x 128 each, and convolutions that see no other token
        made = backbone(positions=positions, channels=(8,), pools=((64, 64),), token_pool=(2, 2), heads=2)
        for parameter in made.blocks.parameters():
            if parameter.dim() == 4:
                parameter.data[..., [0, 2]] = 0.0
        with torch.inference_mode():
            ordered, flipped = made({"mel": x}).data.flip(1), made({"mel": pieces}).data
        assert torch.allclose(ordered, flipped, atol=1e-4) is same


def test_layer_norm_in_front_has_one_behind_the_last_layer() -> None:
    made = backbone(norm="pre")
    assert made.encoder is not None
    assert made.encoder.layers[0].norm_first
    assert isinstance(made.encoder.norm, torch.nn.LayerNorm)
    assert backbone().encoder.norm is None  # type: ignore[union-attr]


def test_an_input_shorter_than_a_token_is_one_step_of_tokens() -> None:
    for tail in ("keep", "drop"):
        out = backbone(tail)({"mel": frames(5)})
        assert out.length.tolist() == [2]
        assert out.data.isfinite().all()


@pytest.mark.parametrize(("bands", "time", "token"), [(20, 20, 0), (90, 20, 1), (20, 150, 2), (90, 150, 3)])
def test_tokens_are_ordered_by_time_then_frequency(bands: int, time: int, token: int) -> None:
    # a token sees 64 bands x 128 frames and 15 more around them; the Transformer, which mixes them, is left out
    made, x = backbone("drop", layers=0), frames(300)
    changed = x.data.clone()
    changed[:, time : time + 80, bands : bands + 20] += 5
    with torch.inference_mode():
        before, after = made({"mel": x}).data, made({"mel": Padded(changed, x.length)}).data
    assert (before != after).any(2)[0].nonzero()[:, 0].tolist() == [token]


def test_the_transformer_mixes_tokens() -> None:
    made, x = backbone(), frames(300)
    changed = x.data.clone()
    changed[:, :50] += 5
    with torch.inference_mode():
        assert (made({"mel": x}).data != made({"mel": Padded(changed, x.length)}).data).any(2).all()


@pytest.mark.parametrize(("tail", "size"), [("keep", 300), ("drop", 300), ("keep", 5), ("drop", 5)])
def test_a_fixed_input_says_how_many_frames_come_of_it(tail: Tail, size: int) -> None:
    made = backbone(tail, fixed=size, layers=0)
    assert made.frames == made({"mel": frames(size)}).data.shape[1]
    assert backbone(tail).frames is None


def test_padding_is_signal_where_the_input_is_a_fixed_crop() -> None:
    made, x = backbone("drop", fixed=300), Padded(frames(300).data, torch.tensor([150]))
    assert made.fixed == 300
    other = x.data.clone()
    other[:, 200:] = 3.0
    with torch.inference_mode():
        out, changed = made({"mel": x}), made({"mel": Padded(other, x.length)})
    assert out.length.tolist() == [4]
    assert not torch.allclose(out.data, changed.data, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"channels": (16, 32)}, "pools has 4 entries; it has as many as channels, 2"),
        ({"reads": "mfcc"}, "'mfcc'"),
        ({"layout": "parallel", "layers": 0}, "layers is 0; it is at least 1"),
        ({"layout": "parallel", "token_pool": (2, 3)}, "token_pool takes 3 steps together, the pools of the blocks 32"),
        ({"pools": ((4, 2), (4, 2), (4, 2), (4, 4)), "tail": "drop"}, "leave"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: Mapping[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        CNNTransformer({"mel": InputSpec(128, 0.01)}, **settings)


def test_the_only_input_is_read_and_one_of_several_must_be_named() -> None:
    inputs = {"mel": InputSpec(128, 0.01), "mfcc": InputSpec(16, 0.01)}
    assert CNNTransformer({"mel": inputs["mel"]}).inputs == ("mel",)
    assert CNNTransformer(inputs, reads="mfcc").inputs == ("mfcc",)
    with pytest.raises(UsageError, match="name one"):
        CNNTransformer(inputs)


class Steps(Feature):
    """A feature that is only asked for its width and its step."""

    width, frame_seconds = 32, 0.01

    def __call__(self, inputs: Padded) -> Padded:
        raise AssertionError("the inputs are features already")


def test_a_crop_padded_by_the_mean_does_not_depend_on_companions_without_normalisation() -> None:
    x = Padded.stack([frames(200, width=32).data[0], frames(20, width=32, seed=1).data[0]])
    ids, rows = ("a", "b"), torch.arange(2)
    batch = Batch(ids, {"mel": x}, None, rows * 0, rows)
    alone = Batch(ids[1:], {"mel": frames(20, width=32, seed=1)}, None, rows[:1], rows[:1])
    frontend = Frontend({"mel": Steps()}, Crop(1.5, pad="mean"))
    made = backbone(fixed=150, width=32)
    with torch.inference_mode():
        together, one = (made(frontend(each).inputs).data[-1] for each in (batch, alone))
    torch.testing.assert_close(together, one, atol=1e-4, rtol=0)


# --- poolings and heads --------------------------------------------------------------------------------------------

# two windows of 3 and 2 real frames; the padding holds rubbish that would win or tilt
POOLED = torch.tensor([[[1.0, -10], [3, -20], [5, -60]], [[-1, 2], [-3, 4], [99, 99]]])
MASK = torch.tensor([[True, True, True], [True, True, False]])


@pytest.mark.parametrize(("pooling", "expected"), [(Mean, [[3, -30], [-2, 3]]), (Max, [[5, -10], [-1, 4]])])
def test_poolings_look_at_real_frames_only(pooling: type[Mean] | type[Max], expected: list[list[float]]) -> None:
    made = pooling(FrameSpec(2))(POOLED, MASK)
    torch.testing.assert_close(made.embedding, torch.tensor(expected, dtype=torch.float32))
    assert made.frames is POOLED  # neither refines them


@pytest.mark.parametrize("pooling", [Mean, Max])
def test_poolings_project_where_they_are_told_to(pooling: type[Mean] | type[Max]) -> None:
    made = pooling(FrameSpec(2), 3)
    assert (pooling(FrameSpec(2)).out, made.out) == (2, 3)
    assert isinstance(made.projection, torch.nn.Linear)
    with torch.no_grad():
        made.projection.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [1, 1]]))
        made.projection.bias.copy_(torch.tensor([0.0, 0, 100]))
    point = pooling(FrameSpec(2))(POOLED, MASK).embedding
    expected = torch.stack([point[:, 0], point[:, 1], point.sum(1) + 100], 1)
    torch.testing.assert_close(made(POOLED, MASK).embedding, expected)


def test_a_linear_head_is_affine() -> None:
    head = Linear(2, 2)
    with torch.no_grad():
        head.layer[1].weight.copy_(torch.tensor([[1.0, 2], [0, -1]]))
        head.layer[1].bias.copy_(torch.tensor([10.0, 0]))
    torch.testing.assert_close(head(torch.tensor([[3.0, 4.0]])), torch.tensor([[21.0, -4.0]]))


def test_a_linear_head_drops_out_while_it_trains() -> None:
    head, x = Linear(200, 1, dropout=0.5), torch.ones(1, 200)
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head(x))


def test_a_cosine_head_knows_directions_and_no_lengths() -> None:
    head = Cosine(2, 3, scale=10.0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[7.0, 0], [0, -0.1], [-3, -4]]))
    # (3, 4) / 5 against (1, 0), (0, -1), (-3, -4) / 5: cosines 0.6, -0.8, -1
    for length in (1e-3, 1.0, 1e3):
        point = length * torch.tensor([[3.0, 4.0]])
        torch.testing.assert_close(head(point), torch.tensor([[6.0, -8.0, -10.0]]))


# --- normalisation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scalar", [False, True])
def test_normalisation_has_the_statistics_of_the_real_frames(scalar: bool) -> None:
    scale, shift = torch.tensor([1.0, 10.0, 0.1]), torch.tensor([-500.0, 0.0, 3.0])
    batches = [frames(50, 20, width=3), frames(70, 5, 33, width=3, seed=1)]
    batches = [Padded(x.data * scale + shift, x.length).fill(1e4) for x in batches]
    normalize = Normalize(3)
    normalize.fit(batches, scalar=scalar)
    real = torch.cat([x.data[x.mask] for x in batches]).double().numpy()
    axis = None if scalar else 0
    np.testing.assert_allclose(normalize.mean.numpy(), np.broadcast_to(real.mean(axis), 3), rtol=1e-5)
    np.testing.assert_allclose(normalize.scale.numpy(), np.broadcast_to(real.std(axis), 3), rtol=1e-4)


def test_normalised_frames_are_standard_and_their_padding_zero() -> None:
    x = frames(50, 20, width=3).fill(77.0)
    normalize = Normalize(3)
    normalize.fit([x], scalar=False)
    made = normalize(x)
    real = made.data[made.mask]
    torch.testing.assert_close(real.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(real.std(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    assert made.data[~made.mask].unique().tolist() == [0]


def test_a_dimension_that_never_varied_in_training_does_not_blow_up_what_is_new() -> None:
    normalize = Normalize(2)
    normalize.fit([Padded(torch.full((1, 10, 2), -100.0), torch.tensor([10]))], scalar=False)
    new = Padded(torch.full((1, 10, 2), -99.99), torch.tensor([10]))
    assert normalize(new).data.abs().max() < 1000


# --- the model -----------------------------------------------------------------------------------------------------


class Passing(Backbone):
    """Gives its input and counts how often it was asked."""

    inputs, width, frame_seconds = ("x",), 2, 0.01

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        self.calls += 1
        return inputs["x"]


class Plain(Linear):
    """A linear head without chance: the sum of what it reads, in every output."""

    def forward(self, embedding: Tensor) -> Tensor:
        return embedding.sum(1, keepdim=True).expand(-1, self.layer[1].out_features)


def model(specs: Mapping[str, HeadSpec], normalize: Sequence[str] = ()) -> tuple[Model, Passing]:
    body, branches = Passing(), {"left": slice(0, 1), "right": slice(1, 2)}
    statistics = {name: Normalize(2) for name in normalize}
    heads = {name: Plain(2, spec.out) for name, spec in specs.items()}
    return Model(statistics, body, Mean(FrameSpec(2)), heads, specs, branches), body


X = Padded(torch.tensor([[[1.0, 10], [3, 30], [5, 50]], [[7, 70], [9, 90], [99, 99]]]), torch.tensor([3, 2]))


def test_the_model_runs_its_backbone_once_and_looks_at_it_through_every_span() -> None:
    made, body = model({"emotion": HeadSpec("linear", 3)})
    views = made({"x": X}, (WHOLE, Span(2, 1)))
    assert body.calls == 1
    whole, pieces = views[WHOLE], views[Span(2, 1)]
    torch.testing.assert_close(whole.embedding, torch.tensor([[3.0, 30], [8, 80]]))
    torch.testing.assert_close(pieces.embedding, torch.tensor([[2.0, 20], [4, 40], [8, 80]]))
    assert (pieces.owner.tolist(), pieces.count.tolist()) == ([0, 0, 1], [2, 2, 1])
    assert (whole.owner.tolist(), whole.count.tolist()) == ([0, 1], [1, 1])
    assert pieces.frames.length.tolist() == [2, 2, 2]
    torch.testing.assert_close(pieces.frames.data[1], torch.tensor([[3.0, 30], [5, 50]]))
    torch.testing.assert_close(pieces.logits, torch.tensor([[22.0], [44], [88]]).expand(-1, 3))


def test_a_head_reads_the_branches_that_it_names() -> None:
    made, _ = model(
        {
            "emotion": HeadSpec("linear", 1),
            "gender": HeadSpec("linear", 1, reads=("right",)),
            "age": HeadSpec("linear", 1, reads=("left", "right")),
        }
    )
    heads = made({"x": X}, (WHOLE,))[WHOLE].heads
    assert {name: values[:, 0].tolist() for name, values in heads.items()} == {
        "emotion": [33, 88],
        "gender": [30, 80],
        "age": [33, 88],
    }


# a fusion of two branches, 2 and 3 columns wide, as a guest would offer it
FUSION = """
from sertk.core import Backbone
from sertk.hookspecs import hookimpl


class Fusion(Backbone):
    def __init__(self, inputs, right: int = 5):
        super().__init__()
        self.inputs, self.width, self.frame_seconds = tuple(inputs), 5, 0.01
        self.fixed = self.frames = next(iter(inputs.values())).frames
        self.branches = {"mel.left": slice(0, 2), "values": slice(2, right)}

    def forward(self, inputs):
        return next(iter(inputs.values()))


@hookimpl
def sertk_backbones():
    return {"two_views": Fusion}
"""


def fused(folder: Path, crop: Crop | None = None, **parts: object) -> build.Body:
    (folder / "lab.py").write_text(FUSION)
    inputs = {"mel": Component("mel", {"n_mels": 5})}
    settings = Settings(inputs=inputs, backbone=Component("two_views"), crop=crop, plugins=(str(folder / "lab.py"),))
    return build.make_body(Plugins(files=settings.plugins), replace(settings, **parts))


@pytest.mark.parametrize(
    ("pooling", "left", "right"),
    [
        (Component("mean_std"), slice(0, 4), slice(4, 10)),
        (Component("mean", {"project": 3}), slice(0, 3), slice(3, 6)),
        (Component("flam", {"heads": 1}), slice(0, 2), slice(2, 5)),
    ],
)
def test_each_branch_is_pooled_by_itself(tmp_path: Path, pooling: Component, left: slice, right: slice) -> None:
    body = fused(tmp_path, pooling=pooling)
    assert body.dims.branches == {"mel.left": left, "values": right}
    assert body.dims.embedding == right.stop
    specs = {"emotion": HeadSpec("linear", 4, ("values",)), "gender": HeadSpec("linear", 2, ("mel.left",))}
    made = build.make_model(Plugins(), Settings(), body, specs).eval()
    frames = torch.randn(1, 7, 5)
    other = frames.clone()
    other[..., :2] += 1.0 + torch.rand(7, 2)
    heads, changed = (made({"mel": Padded(x, torch.tensor([7]))}, (WHOLE,))[WHOLE].heads for x in (frames, other))
    assert torch.equal(heads["emotion"], changed["emotion"])
    assert not torch.isclose(heads["gender"], changed["gender"]).any()


def test_a_head_reads_the_statistics_of_its_branch(tmp_path: Path) -> None:
    body = fused(tmp_path, pooling=Component("mean_std"))
    frames = Padded(torch.tensor([[[1.0, 2, 3, 4, 5], [3.0, 6, 3, 8, 7]]]), torch.tensor([2]))
    embedding = body.pooling(frames.data, frames.mask).embedding[0]
    assert embedding[body.dims.branches["mel.left"]].tolist() == pytest.approx([2, 4, 1, 2])  # means, deviations
    assert embedding[body.dims.branches["values"]].tolist() == pytest.approx([3, 6, 6, 0, 2, 1], abs=1e-3)


@pytest.mark.parametrize(("right", "says"), [(4, "end at column 4; its frames are 5 wide"), (2, "next column .* is 2")])
def test_branches_that_do_not_make_the_frames_are_refused(tmp_path: Path, right: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        fused(tmp_path, backbone=Component("two_views", {"right": right}))


def test_a_pooling_is_told_how_many_frames_there_are_where_crops_fix_them(tmp_path: Path) -> None:
    body = fused(tmp_path, Crop(0.5), pooling=Component("flatten"))
    assert body.dims.frames == 50
    assert body.dims.branches == {"mel.left": slice(0, 100), "values": slice(100, 250)}
    cut = fused(tmp_path, Crop(0.5), segments=Segments(10, 5))
    assert cut.dims.frames is None


def test_the_emotion_heads_output_map_goes_with_its_view() -> None:
    made, _ = model({"emotion": HeadSpec("linear", 3, output="sigmoid")})
    assert made({"x": X}, (WHOLE,))[WHOLE].output == "sigmoid"


def test_inputs_with_statistics_are_standardised_before_the_backbone() -> None:
    made, _ = model({"emotion": HeadSpec("linear", 3)}, normalize=["x"])
    made.normalize["x"].fit([X], scalar=False)  # column 0: 1 3 5 7 9, mean 5, variance 8; column 1 ten times that
    view = made({"x": X}, (WHOLE,))[WHOLE]
    expected = torch.tensor([[-2.0, -2], [3, 3]]) / 8**0.5
    torch.testing.assert_close(view.embedding, expected)
