"""The folders of a recipe's runs."""

from pathlib import Path

from sertk.training.run_folder import bundles_beside


def test_the_bundles_of_a_recipe_are_those_of_one_protocol(tmp_path: Path) -> None:
    runs = ["p/s/fold=1/seed=0", "p/s/fold=2/seed=0", "p/s+tag/fold=1/seed=1", "q/s/fold=1/seed=0", "p/s/mine/seed=0"]
    for run in runs:
        (tmp_path / run / "model").mkdir(parents=True)
    found = bundles_beside(tmp_path / "p/s/fold=3/seed=0")
    assert [str(path.relative_to(tmp_path)) for path in found] == [f"{runs[place]}/model" for place in (0, 1, 2)]
    assert bundles_beside(tmp_path / "run") == bundles_beside(tmp_path / "p/s/mine/seed=0") == []
