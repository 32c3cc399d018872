"""The statistics of tools/bench on workloads that take no time, and its training loops on tiny ones; none is timed."""

import importlib.util
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import sertk
from sertk.core import SertkError, UsageError
from sertk.corpus.prepared import Data
from sertk.testing.trees.audio import clip

SOURCE = Path(sertk.__file__).parents[1] / "tools" / "bench"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", SOURCE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def harness() -> ModuleType:
    return load("harness")


class Clock:
    """Time that passes only when a workload says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def work(self, seconds: list[float], log: list[str], name: str) -> Callable[[Path], None]:
        """A workload that takes each of these times in turn."""
        left = iter(seconds)

        def run(folder: Path) -> None:
            assert not any(folder.iterdir())
            (folder / "made").touch()
            self.now += next(left)
            log.append(name)

        return run


def ones(folder: Path) -> dict[str, np.ndarray]:
    return {"x": np.ones(3, np.float32)}


def test_pairs_alternate_after_a_warm_up_that_does_not_count(
    harness: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, log = Clock(), []
    monkeypatch.setattr(harness, "time", clock)
    monkeypatch.setattr(harness, "_cpu", lambda: 8 * clock.now)
    a = harness.Way("a", clock.work([99.0, 1, 2, 4, 1, 2, 4], log, "a"), ones)
    b = harness.Way("b", clock.work([99.0, 3, 4, 4, 2, 10, 16], log, "b"), ones)
    result = harness.compare(a, b, 6, 0.0)
    assert "".join(log) == "ab" + "abba" * 3
    assert [cost.wall for cost in result.a] == [1, 2, 4, 1, 2, 4]
    assert result.ratios == [3, 2, 1, 2, 5, 4]
    assert "| 6 | 2.00 (1.00–4.00) | 4.00 (2.00–16.00) | **2.50** | 1.00–5.00 (96.9 %) | 2.50 | 0 |" in result.row(
        "w", "a", "b"
    )


def test_what_is_made_ready_is_not_timed(harness: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(harness, "time", clock)
    monkeypatch.setattr(harness, "_cpu", lambda: 8 * clock.now)

    def slow(folder: Path) -> None:
        clock.now += 50.0

    def run(folder: Path) -> None:
        clock.now += 1.0

    way = harness.Way("a", run, ones, ready=slow)
    assert [cost.wall for cost in harness.compare(way, way, 6, 0.0).a] == [1.0] * 6


def test_a_row_of_work_that_took_no_processor_time_has_no_ratio_of_it(harness: ModuleType) -> None:
    a = [harness.Cost(1.0, 0.0), *[harness.Cost(1.0, 0.01)] * 5]
    row = harness.Result(a, [harness.Cost(3.0, 0.02)] * 6, 0.0).row("w", "a", "b")
    assert "| **3.00** | 3.00–3.00 (96.9 %) | – | 0 |" in row


def test_processor_time_is_counted_finer_than_the_ticks_of_the_kernel(harness: ModuleType) -> None:
    before, steps = harness._cpu(), set()
    while len(steps) < 5:
        steps.add(round(1e6 * (harness._cpu() - before)))
    assert any(step % 10_000 for step in steps)


@pytest.mark.parametrize(
    (
        "n",
        "k",
        "coverage",
    ),  # table A.1 of Conover's sign test: 6: [1, 6], 7: [1, 7], 9: [2, 8], 10: [2, 9], 15: [4, 12]
    [(6, 1, 1 - 2 / 64), (7, 1, 1 - 2 / 128), (9, 2, 1 - 20 / 512), (10, 2, 1 - 22 / 1024), (15, 4, 1 - 1152 / 32768)],
)
def test_the_interval_is_that_of_order_statistics(harness: ModuleType, n: int, k: int, coverage: float) -> None:
    values = [float(i) for i in range(n, 0, -1)]
    assert harness.interval(values) == pytest.approx((k, n + 1 - k, coverage))


def test_the_interval_holds_the_median_as_often_as_it_says(harness: ModuleType) -> None:
    draws = np.random.default_rng(0).lognormal(size=(4000, 9))  # median 1
    inside = [low <= 1 <= high for low, high, _ in map(harness.interval, draws.tolist())]
    expected = 1 - 20 / 512
    assert abs(np.mean(inside) - expected) < 4 * math.sqrt(expected * (1 - expected) / 4000)


def test_too_few_pairs_are_refused_before_any_work(harness: ModuleType) -> None:
    def run(folder: Path) -> None:
        pytest.fail("worked")

    way = harness.Way("a", run, ones)
    with pytest.raises(UsageError, match=r"5 pairs .* give at least 6"):
        harness.compare(way, way, 5, 0.0)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"x": np.full(3, 1.01)}, r"x: A and B differ by 0.01, allowed are 0.001"),
        ({"x": np.array([1, 1, np.nan])}, r"differ by nan"),
        ({"x": np.ones(4)}, r"A made \(3,\), B \(4,\)"),
        ({"y": np.ones(3)}, r"not in both: \['x', 'y'\]"),
        ({}, r"1 of A, 0 of B"),
    ],
)
def test_unequal_outputs_are_refused_and_nothing_is_timed(
    harness: ModuleType, other: dict[str, np.ndarray], message: str
) -> None:
    runs = []
    a = harness.Way("a", runs.append, ones)
    b = harness.Way("b", runs.append, lambda folder: other)
    with pytest.raises(SertkError, match=message):
        harness.compare(a, b, 6, 1e-3)
    assert len(runs) == 2
    assert not any(folder.exists() for folder in runs)


def test_equal_outputs_tell_how_far_they_are_apart(harness: ModuleType) -> None:
    assert harness.difference({"x": np.zeros(2)}, {"x": np.array([0.0, -5e-4])}, 1e-3) == 5e-4


def test_the_machine_is_told_with_versions(harness: ModuleType) -> None:
    assert f"numpy {np.__version__}" in harness.machine("numpy")


# --- training --------------------------------------------------------------------------------------------------------

ENCODER = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SOURCE))  # it imports harness
    return load("train")


@pytest.fixture
def work(train: ModuleType, tmp_path: Path) -> object:
    """Twelve files of 0.1 s to 0.65 s, two batches of which are trained on."""
    for n in range(12):
        clip(tmp_path / "corpus" / "ab"[n % 2] / f"s{n % 6}" / f"{n}.wav", n, 0.1 + 0.05 * n)
    data = Data(train.harness.prepared("folder:speaker=(s[0-9])/", tmp_path / "corpus", tmp_path / "data"))
    source = train.checkpoint(tmp_path / "encoder", **ENCODER)
    return train.Work(data, source, train.planned(data, 4, 8), 4, "cpu", "fp32")


def test_both_training_loops_are_fed_the_same_audio_and_start_alike(
    train: ModuleType,
    work: Any,  # noqa: ANN401
    tmp_path: Path,
) -> None:
    fed = train.Fed(), train.Fed()
    ways = train.sertk_way(work, tmp_path / "run", fed[0]), train.recipe_way(work, tmp_path / "saved", fed[1])
    assert train.harness.difference(*(way.read(tmp_path) for way in ways), 1e-4) > 0
    for way in ways:
        way.run(tmp_path)
    seconds = [[list(work.data.utterances.values())[row].duration for row in plan.rows] for plan in work.plans]
    assert fed[0].real == fed[1].real == round(16_000 * sum(map(sum, seconds)))
    assert fed[0].samples == round(16_000 * sum(4 * max(batch) for batch in seconds))
    assert fed[1].samples >= fed[0].samples


def test_the_training_bench_tells_rates_and_padding(train: ModuleType, work: object, tmp_path: Path) -> None:
    *_, row, ours, theirs = train.measured(work, 6, tmp_path)
    assert row.startswith("| training on 8 files, 3 s | sertk, fp32 | recipe, fp32 | 6 |")
    for name, line in (("sertk", ours), ("recipe", theirs)):
        assert re.fullmatch(rf"{name}, fp32: [0-9.]+ utterances/s, [0-9.]+ % of the samples padding", line)


def test_training_above_cached_layers_is_compared_with_training_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SOURCE))  # it imports harness
    bench = load("frozen")
    for n in range(6):
        clip(tmp_path / "corpus" / f"s{n % 3}" / f"{n}.wav", n, 0.1 + 0.05 * n)
    data = Data(bench.harness.prepared("folder:speaker=(s[0-9])/", tmp_path / "corpus", tmp_path / "data"))
    sizes = {name: value for name, value in ENCODER.items() if name != "num_hidden_layers"}
    source = bench.checkpoint(tmp_path / "encoder", **sizes, num_hidden_layers=3)
    settings = bench.frozen(bench.merge.load("p3-baseline", overrides={"backbone.source": source}), 2)
    for other, name in ((2, "computed in every epoch"), ("none", "all layers trained")):
        row = bench.measured(data, settings, other, 4, 6, "x")
        assert row.startswith(f"| an epoch of 6 files: x | read from the store | {name} | 6 |")
    with pytest.raises(SertkError, match="no two of a kind"):  # another layer is frozen
        bench.measured(data, settings, 3, 4, 6, "x")


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SOURCE))  # it imports harness
    return load("grid")


def test_half_of_the_folds_are_a_command_and_all_of_them_are_in_one_table(
    grid: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[tuple[object, ...]] = []
    monkeypatch.setattr(grid, "command", lambda checkout, *words: said.append((checkout, *map(str, words))))
    work = grid.Work(Path("data"), ["--system", "s"], ["1", "2", "3"], Path("older"))
    grid.together(work, 5, grid.mean_ua).run(tmp_path)
    system = str(tmp_path / "system")
    for folds in ("1,2", "3"):
        which = ("--fold", folds, "--seed", "0-4")
        begun = said.index((None, "train", "data", "--system", "s", "--protocol", "emobox", *which, "--out", system))
        assert begun < said.index((None, "score", system, "data", *which, "--device", "cpu"))
    assert said[4:] == [(None, "report", system)]
    said.clear()
    grid.alone(work, 2).run(tmp_path)
    assert {one[0] for one in said} == {Path("older")}
    assert [sum(one[1] == word for one in said) for word in ("train", "score", "report")] == [6, 6, 1]
    assert not any("--from" in one for one in said)  # which an older one does not know
    said.clear()
    grid.alone(work._replace(before=None), 1).run(tmp_path)
    assert sum(one[-2:] == ("--from", "audio") for one in said) == 3


def test_probes_are_compared_by_their_bits_and_their_logits(grid: ModuleType, tmp_path: Path) -> None:
    run = tmp_path / "system/fold=1/seed=0"
    (run / "model").mkdir(parents=True)
    (run / "scores.jsonl").write_text('{"id": "a", "logits": [1.5, 2.0]}\n')
    (run / "metrics.json").write_text('{"metrics": {"ua": 0.75}}')
    save_file({"w": np.array([1.0, 2.0], np.float32)}, run / "model/model.safetensors")
    assert {name: value.tolist() for name, value in grid.mean_ua(tmp_path).items()} == {"runs": 1, "UA": 0.75}
    before = grid.logits(tmp_path)
    assert before["fold=1 seed=0 a"].tolist() == [1.5, 2.0]
    next_to_2 = np.nextafter(np.float32(2), np.float32(3))
    save_file({"w": np.array([1.0, next_to_2], np.float32)}, run / "model/model.safetensors")
    assert (grid.logits(tmp_path)["fold=1 seed=0 w"] - before["fold=1 seed=0 w"]).tolist() == [0.0, 1.0]


def test_a_regression_is_fitted_and_applied_for_each_run(
    grid: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    x = np.array([[0.0], [1.0], [10.0], [11.0]], np.float32)
    fold = grid.Matrices(x, ["a", "a", "b", "b"], np.array([[0.5], [9.0], [10.0]]), ["a", "a", "b"])
    monkeypatch.setattr(grid, "matrices", lambda *_: fold)
    way = grid.fits(grid.Work(Path("data"), [], ["1", "2"], None), "whisper", 3)
    way.run(tmp_path)
    # one of two of class a, and the one of class b
    assert {name: value.tolist() for name, value in way.read(tmp_path).items()} == {"runs": 6, "UA": 0.75}


# --- windows of a recording -------------------------------------------------------------------------------------------


def test_the_cost_of_windows_is_counted_by_window_and_by_run(harness: ModuleType, tmp_path: Path) -> None:
    from sertk.scoring.scorer import Scorer
    from sertk.scoring.windows import Cutting, Windows

    sys.modules["harness"] = harness
    windows = load("windows")
    clip(tmp_path / "a.flac", 0, 0.4)
    made = windows.recording(tmp_path, 1.1)
    assert len(made) == 17_600
    np.testing.assert_array_equal(made[:6_400], made[6_400:12_800])
    windows.soundfile.write(tmp_path / "long.wav", made, 16_000)
    bundle = Path(__file__).parents[1] / "modeling/bundles/schema-1/mini-cnn"
    scorer = Scorer(bundle, cutting=Cutting(Windows(0.5, 0.25)))
    found = windows.cost(scorer, tmp_path / "long.wav", 2)
    assert (len(found.latency), len(found.factor)) == (2 * 4, 2)  # at 0, 0.25, 0.5 and 0.6 s
    assert windows.row("m", "w", windows.Cost([0.02, 0.01, 0.03], [0.5, 0.25])).startswith(
        "| m | w | 2 | 20.0 | 29.0 | **0.375** | 0.25–0.5 |"
    )
