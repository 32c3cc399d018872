"""What a command line says of a run, said again, and the tag that it makes."""

from pathlib import Path

from typer.testing import CliRunner

from sertk.cli.app import app
from sertk.settings.merge import load
from sertk.settings.overrides import Choices, tag_of


def test_the_options_can_be_said_again() -> None:
    choices = Choices(loss=["triplet"], segments="140:70", alpha="0.2", set=["train.batch=4"], device="cpu")
    again = ["--loss", "triplet", "--set", "train.batch=4", "--segments", "140:70", "--alpha", "0.2", "--device", "cpu"]
    assert choices.words() == again
    assert Choices(init=Path("model")).words() == ["--init", "model"]


def test_a_tag_is_made_of_what_differs_from_the_system_however_it_was_typed() -> None:
    base = load("mini-cnn")

    def tag(**options: object) -> str:
        return tag_of(Choices(system="mini-cnn", **options).load(None), base)  # type: ignore[arg-type]

    assert tag() == tag(device="cpu", set=["jobs=4", "score.batch=8", "train.checkpoint_steps=1"]) == ""
    assert tag(set=["train.batch=16", "pooling=mean"]) == ""  # the system's own
    assert len({tag(alpha="0.1"), tag(alpha="0.2"), tag(alpha="learned"), tag(segments="8:4"), ""}) == 5
    assert tag(alpha="0.5") == tag(set=["alpha=0.5"])
    assert tag(pooling="max:project=8") == tag(set=["pooling={name: max, project: 8}"])
    assert tag(segments="8:4") == tag(set=["segments={length: 8, hop: 4}"]) != tag(segments="8:4:drop")


def test_what_an_augmentation_of_the_command_line_takes_the_place_of_is_named(tmp_path: Path) -> None:
    words = ["train", str(tmp_path), "--system", "p1-ce", "--out", str(tmp_path / "run"), "--augment", "gain"]
    said = "the system's: noise is left out. Name it too to keep it"
    gone = CliRunner().invoke(app, words)
    assert gone.exit_code != 0  # there is no corpus
    assert said in " ".join(gone.stderr.split())
    kept = CliRunner().invoke(app, [*words, "--augment", "noise:copies=3"])
    assert said not in " ".join(kept.stderr.split())
