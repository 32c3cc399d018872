"""The audit as users meet it: undeclared overlaps, stamps on scores and reports, anybody's lists."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner, Result

from sertk.cli.app import app
from sertk.core import PAIRS, SertkError, UsageError, Utterance
from sertk.core.files import read_json
from sertk.core.utterance import words
from sertk.corpus.audio import read_facts
from sertk.corpus.audit import audit_folds, duplicates, overlap_in_words, recordings, shares, undeclared
from sertk.corpus.audit_page import page
from sertk.corpus.folding import Fold
from sertk.corpus.protocol_files import OverlapError
from sertk.corpus.protocols import Folds, load
from sertk.stages.prepare import prepare
from sertk.testing import tree
from sertk.testing.trees.audio import clip as clip_of

MIXED = """
about: six random folds, speakers in all parts
labels: {neutral: calm, calm: calm, happiness: happiness, sadness: sadness}
test: {rule: stratified, k: 3}
dev: {rule: share, percent: 25}
overlaps: {speaker: [train+dev, train+test, dev+test], text: [train+dev, train+test, dev+test]}
"""


SENTENCES = [("p", None), ("q", None), ("r", "Will you tell me why?")]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return tree(tmp_path / "corpus", per_class=2, seconds=0.1)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A protocol of one's own that shares speakers."""
    (tmp_path / "mixed.yaml").write_text(MIXED)
    return tmp_path / "mixed.yaml"


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def clip(corpus: Path, name: str) -> Path:
    return corpus / f"Actor_{name[-2:]}" / f"{name}.wav"


def scored_ua(run: Path) -> float:
    return float(read_json(run / "fold=1" / "seed=0" / "metrics.json", "")["metrics"]["ua"])


# --- overlaps that no protocol declares ------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_copy_under_another_speakers_name_fails_prepare_and_loses_nothing(
    tmp_path: Path, corpus: Path, suffix: str
) -> None:
    out = tmp_path / "data"
    assert prepare("ravdess", corpus, out, [], 0.05, 1) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    samples, rate = soundfile.read(clip(corpus, "03-01-05-01-01-01-01"), dtype="int16")
    target = clip(corpus, "03-01-05-01-01-01-08").with_suffix(suffix)
    clip(corpus, "03-01-05-01-01-01-08").unlink()
    soundfile.write(target, samples, rate, subtype="PCM_16")  # re-encoded, of another actor and fold
    with pytest.raises(OverlapError) as caught:
        prepare("ravdess", corpus, out, [], 0.05, 1)
    text = str(caught.value)
    assert "protocol 'emobox' of ravdess" in text
    assert "share 1 recording in fold" in text
    assert "03-01-05-01-01-01-01 = 03-01-05-01-01-01-08" in text
    assert "`overlaps`" in text
    assert [path.read_bytes() for path in before] == [*before.values()]
    kept, shared = sorted(path for path in out.rglob("*") if path.is_file() and path not in before)
    assert text.endswith(f"All that they share: {shared}.")
    assert [*read_facts(kept)] == ["03-01-05-01-01-01-08"]  # what was read now need not be read again


@pytest.mark.parametrize(
    ("how", "says", "which"),
    [
        (
            "duplicates: keep_first",
            "a copy of a recording that is kept (keep_first)",
            "03-01-05-01-01-01-01 = 03-01-05-01-01-01-08",
        ),
        ("drop: [03-01-05-01-01-01-08]", "the protocol drops it by its id", "03-01-05-01-01-01-08"),
    ],
)
def test_a_corpus_with_copies_under_other_speakers_is_used_by_a_protocol_that_drops_them(
    tmp_path: Path, corpus: Path, how: str, says: str, which: str
) -> None:
    shutil.copy(clip(corpus, "03-01-05-01-01-01-01"), clip(corpus, "03-01-05-01-01-01-08"))
    rules = (
        "labels: {anger: anger, calm: calm}\ntest: {rule: leave_one_out}\n"
        "overlaps: {text: [train+dev, train+test, dev+test]}\n"
    )
    mine = tmp_path / "mine.yaml"
    words = ("prepare", "ravdess", "--root", corpus, "--out", tmp_path / "data", "--min-seconds", "0.05")
    mine.write_text(rules)
    done = cli(*words, "--protocol", mine)
    assert done.exit_code == 1
    assert "`duplicates: keep_first` or `drop: [ids]` leaves copies of a recording out" in done.stderr
    mine.write_text(f"{rules}{how}\n")
    done = cli(*words, "--protocol", mine)
    assert done.exit_code == 0, done.stderr
    assert f"  1 dropped: {says}, the first: {which}" in done.stderr
    content = read_json(tmp_path / "data" / "protocols" / "mine.json", "")
    assert [one["id"] for one in content["dropped"] if one["reason"] == says] == ["03-01-05-01-01-01-08"]
    assert f"| {says} | 1 | {which} |" in (tmp_path / "data" / "protocols" / "mine.md").read_text()
    mine.write_text(f"{rules}drop: [03-01-05-01-01-01-99]\n")
    done = cli(*words, "--protocol", mine)
    assert done.exit_code == 1
    assert "drops 1 ids that ravdess has not, the first '03-01-05-01-01-01-99'; did you mean" in done.stderr


def test_a_copy_within_a_part_is_told_and_kept(tmp_path: Path, corpus: Path) -> None:
    shutil.copy(clip(corpus, "03-01-05-01-01-01-01"), clip(corpus, "03-01-05-01-01-02-01"))
    done = cli("prepare", "ravdess", "--root", corpus, "--out", tmp_path / "data", "--min-seconds", "0.05")
    assert done.exit_code == 0
    assert "the same recording under several names: 03-01-05-01-01-01-01 = 03-01-05-01-01-02-01" in done.stderr
    twins = read_json(tmp_path / "data" / "corpus.json", "")["duplicates"]
    assert twins == [["03-01-05-01-01-01-01", "03-01-05-01-01-02-01"]]


def test_a_protocol_that_shares_speakers_without_saying_so_is_refused(
    tmp_path: Path, corpus: Path, mixed: Path
) -> None:
    mixed.write_text(MIXED.replace("speaker: [train+dev, train+test, dev+test], ", ""))
    with pytest.raises(
        OverlapError, match="train and dev share 7 speakers in fold 1 and 2 more, the first '01'; train and test"
    ):
        prepare("ravdess", corpus, tmp_path / "data", [str(mixed)], 0.05, 1)
    mixed.write_text(MIXED.replace("train+dev, train+test, dev+test], text", "train+dev, train+test], text"))
    with pytest.raises(OverlapError, match=r"what its parts share: dev and test share 7 speakers[^;]*\. Correct the"):
        prepare("ravdess", corpus, tmp_path / "data", [str(mixed)], 0.05, 1)


def test_cuts_of_one_recording_that_overlap_are_one_recording(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b", "c")):
        clip_of(tmp_path / "c" / f"{name}.wav", seed, 3.0)
    # of a.wav ann has 0 to 1.5 s, dora 0.01 to 1.51; the others' cuts meet at 1 s at most
    rows = ["id,path,speaker,label,start,duration", "1,a.wav,ann,joy,0,1.5", "2,a.wav,dora,joy,0.01,1.5"]
    rows += ["3,b.wav,ben,joy,0,1", "4,b.wav,cleo,joy,1,1", "5,c.wav,ben,joy,0,1.05", "6,c.wav,cleo,joy,1,1.5"]
    (tmp_path / "c" / "list.csv").write_text("\n".join(rows))
    with pytest.raises(OverlapError, match="share 1 recording") as caught:
        prepare("table:list=list.csv", tmp_path / "c", tmp_path / "data", ["speakers"], 0.05, 1)
    assert "'1 = 2'" in str(caught.value)
    assert "3 = 4" not in str(caught.value)
    assert "5 = 6" not in str(caught.value)


def test_all_that_parts_share_is_in_a_file_until_they_share_nothing(tmp_path: Path) -> None:
    for seed, name in enumerate(("ann", "ben", "cleo", "dora", "eve")):
        clip_of(tmp_path / "joy" / f"{name}.wav", seed, 0.2)
    for name in ("anna", "benn"):  # copies under other speakers' names
        shutil.copy(tmp_path / "joy" / f"{name[:-1]}.wav", tmp_path / "joy" / f"{name}.wav")
    words = ("folder:title=mine,speaker=/([a-z]+)", tmp_path, tmp_path / "data", ["speakers"], 0.05, 1)
    with pytest.raises(OverlapError, match=r"All that they share: .*data/overlap\.json\.$"):
        prepare(*words)
    found = read_json(tmp_path / "data" / "overlap.json", "")
    assert found["protocol"] == "speakers"
    by_parts = {(one["what"], one["parts"]): one["folds"] for one in found["overlaps"]}
    # a fold tests its speaker, and the next one is dev: ann, anna, ben, benn, cleo, dora, eve
    first, second = "joy/ann = joy/anna", "joy/ben = joy/benn"
    assert by_parts == {
        ("audio", "train+dev"): {"anna": [second], "eve": [first]},
        ("audio", "train+test"): {"anna": [first], "benn": [second]},
        ("audio", "dev+test"): {"ann": [first], "ben": [second]},
    }
    for name in ("anna", "benn"):
        (tmp_path / "joy" / f"{name}.wav").unlink()
    assert prepare(*words) == 0
    assert not (tmp_path / "data" / "overlap.json").exists()


# --- what is declared is stamped -------------------------------------------------------------------------------------


def test_a_declared_overlap_stamps_the_folds_the_scores_and_the_report(
    tmp_path: Path, corpus: Path, mixed: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "recipe"
    folder.mkdir()
    shutil.copy(mixed, folder / "mixed.yaml")
    (folder / "recipe.yaml").write_text(
        "corpus: ravdess\nprotocol: mixed.yaml\nsystem: mini-cnn\nfolds: ['1']\naudio: {min_seconds: 0.05}\n"
        "train: {epochs: 1, batch: 8, threads: 1}\n"
    )
    done = cli("recipe", folder, "--root", corpus, "--work", tmp_path / "w")
    assert done.exit_code == 0, done.stderr
    folds = load(tmp_path / "w" / "data" / "ravdess" / "protocols" / "mixed.json")
    assert folds.stamp == "SPEAKER-DEPENDENT"
    assert folds.shares == {"speaker": list(PAIRS), "text": list(PAIRS)}
    assert list(folds.folds) == ["1", "2", "3"]
    assert set(folds.labels.values()) == {"calm", "happiness", "sadness"}
    run = tmp_path / "w" / "exp" / "mixed" / "mini-cnn"
    scored = read_json(run / "fold=1" / "seed=0" / "metrics.json", "")["protocol"]
    assert (scored["stamp"], scored["shares"]) == ("SPEAKER-DEPENDENT", folds.shares)
    said = "SPEAKER-DEPENDENT (speaker shared by train+dev, train+test, dev+test; text shared by"
    (line,) = [one for one in capfd.readouterr().err.splitlines() if "scores.jsonl: " in one]
    assert f", UA {100 * scored_ua(run):.2f}, " in line
    assert said in line
    assert said in (run / "RESULTS.md").read_text()
    again = cli("recipe", folder, "--root", corpus, "--work", tmp_path / "w")
    assert "prepare: 1 of 1 up to date" in again.stderr
    (folder / "mixed.yaml").write_text(MIXED.replace("k: 3", "k: 4"))
    assert "prepare" in cli("recipe", folder, "--root", corpus, "--work", tmp_path / "w", "--dry-run").stdout


def test_scores_of_what_the_weights_have_seen_say_so_on_any_corpus(tmp_path: Path, corpus: Path) -> None:
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(
        "corpus: ravdess\nprotocol: emobox\nsystem: mini-cnn\nfolds: ['1']\naudio: {min_seconds: 0.05}\n"
        "train: {epochs: 1, batch: 8, threads: 1}\n"
    )
    assert cli("recipe", folder, "--root", corpus, "--work", tmp_path / "w", "--stop-stage", "train").exit_code == 0
    model = tmp_path / "w/exp/emobox/mini-cnn/fold=1/seed=0/model"
    data = tmp_path / "w/data/ravdess"

    def stamp(*words: object) -> tuple[str, object]:
        out = tmp_path / "scores.jsonl"
        done = cli("score", model, *words, "--out", out)
        assert done.exit_code == 0, done.stderr
        about = read_json(tmp_path / "metrics.json", "")["protocol"]
        (line,) = {json.loads(line)["stamp"] for line in out.read_text().splitlines()}
        assert line == about["stamp"]
        assert about["stamp"] in done.stderr
        return about["stamp"], about["shares"].get("audio")

    assert stamp(data) == ("speaker-independent", None)
    assert stamp(data, "--part", "train") == ("seen in training", None)
    assert stamp(data, "--part", "dev") == ("seen in training", None)
    # the same recordings under another title: a fold that tests an actor of train, and one that tests one of its own
    rows = ["path,speaker,label"]
    rows += [
        f"{path.relative_to(corpus)},a{path.stem[-2:]},{'anger' if '-05-0' in path.name[5:12] else 'joy'}"
        for path in sorted(corpus.rglob("*.wav"))
    ]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    other = tmp_path / "other"
    assert prepare(f"table:title=other,list={tmp_path / 'list.csv'}", corpus, other, ["speakers"], 0.05, 1) == 0
    fold = load(data / "protocols/emobox.json").folds["1"]
    seen, own = (f"a{ids[0][-2:]}" for ids in (fold.train, fold.test))
    assert stamp(other, "--protocol", "speakers", "--fold", seen) == ("SPEAKER-DEPENDENT", ["train+test"])
    # it is the corpus that was heard, whatever its title, and not this speaker
    assert stamp(other, "--protocol", "speakers", "--fold", own) == ("speaker-independent", None)
    left = read_json(tmp_path / "metrics.json", "")
    assert left["left_out"] == {"joy": 14}  # the bundle has no such class
    assert left["utterances"] == 2


def test_an_earlier_protocol_never_blocks_the_one_that_is_asked_for(tmp_path: Path, corpus: Path, mixed: Path) -> None:
    out = tmp_path / "data"
    prepare("ravdess", corpus, out, ["emobox", str(mixed)], 0.05, 1)
    for path in corpus.rglob("*.wav"):
        if path.parent.name not in ("Actor_01", "Actor_03"):
            path.unlink()
    (out / "protocols" / "torn.json").write_text("{")
    mixed.write_text(MIXED)
    with pytest.raises(SertkError, match="dev takes 4 speakers of the"):
        prepare("ravdess", corpus, out, ["emobox"], 0.05, 1)
    prepare("ravdess", corpus, out, [str(mixed)], 0.05, 1)
    assert sorted(path.name for path in (out / "protocols").iterdir()) == ["mixed.json", "mixed.md"]
    prepare("ravdess", corpus, tmp_path / "data2", [str(mixed)], 0.05, 1)
    (tmp_path / "b").mkdir()
    shutil.copy(mixed, tmp_path / "b" / "mixed.yaml")
    with pytest.raises(UsageError, match="two files state a protocol 'mixed'"):
        prepare("ravdess", corpus, out, [str(mixed), str(tmp_path / "b" / "mixed.yaml")], 0.05, 1)


def test_a_changed_table_or_list_is_noticed_and_names_with_slashes_stay_in_one_folder(
    tmp_path: Path, corpus: Path
) -> None:
    files = sorted(corpus.rglob("*.wav"))
    rows = [f"{path.relative_to(corpus)},g/{path.stem[-2:]},joy" for path in files]
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "list.csv").write_text("\n".join(["path,speaker,label", *rows]))
    ids = [path.relative_to(corpus).with_suffix("").as_posix() for path in files]
    (folder / "folds.csv").write_text("\n".join(["utterance,part,fold", *(f"{i},train,g/1" for i in ids[2:])]))
    with (folder / "folds.csv").open("a") as file:
        file.write(f"\n{ids[0]},test,g/1\n{ids[1]},dev,g/1\n")
    (folder / "mine.yaml").write_text(
        "labels: null\ntest: {rule: table, path: folds.csv}\noverlaps: {speaker: [train+dev, train+test, dev+test]}\n"
    )
    (folder / "recipe.yaml").write_text(
        f"corpus: {{name: table, title: mine, list: {folder / 'list.csv'}}}\nprotocol: mine.yaml\nsystem: mini-cnn\n"
        "audio: {min_seconds: 0.05}\n"
    )
    call = ["recipe", folder, "--root", corpus, "--work", tmp_path / "w"]
    dry = cli(*call, "--dry-run").stdout
    assert "mini-cnn/fold=g%2F1/seed=0" in dry
    assert cli(*call, "--stop-stage", "prepare").exit_code == 0
    assert "prepare" not in cli(*call, "--stop-stage", "prepare", "--dry-run").stdout
    for name in ("folds.csv", "list.csv"):
        whole = (folder / name).read_text()
        (folder / name).write_text(whole.rstrip().rpartition("\n")[0] + "\n")
        assert "prepare" in cli(*call, "--stop-stage", "prepare", "--dry-run").stdout
        (folder / name).write_text(whole)


def test_a_protocol_from_a_file_is_made_again_with_the_corpus_and_removed_with_its_file(
    tmp_path: Path, corpus: Path, mixed: Path
) -> None:
    out = tmp_path / "data"
    prepare("ravdess", corpus, out, [str(mixed)], 0.05, 1)
    first = load(out / "protocols" / "mixed.json").hash
    clip(corpus, "03-01-03-01-01-01-01").unlink()
    prepare("ravdess", corpus, out, ["emobox"], 0.05, 1)
    assert load(out / "protocols" / "mixed.json").hash != first
    mixed.unlink()
    prepare("ravdess", corpus, out, ["emobox"], 0.05, 1)
    assert sorted(path.name for path in (out / "protocols").iterdir()) == ["emobox.json", "emobox.md"]


def test_a_file_may_not_take_the_name_of_a_protocol_of_the_corpus(tmp_path: Path, corpus: Path) -> None:
    (tmp_path / "emobox.yaml").write_text(MIXED)
    with pytest.raises(UsageError, match="a protocol 'emobox' of its own"):
        prepare("ravdess", corpus, tmp_path / "data", [str(tmp_path / "emobox.yaml")], 0.05, 1)


def test_folds_that_follow_from_the_corpus_are_known_once_it_is_prepared(tmp_path: Path, corpus: Path) -> None:
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "loso.yaml").write_text(
        "labels: null\ntest: {rule: leave_one_out}\ndev: {rule: next}\n"
        "overlaps: {text: [train+dev, train+test, dev+test]}\n"
    )
    (folder / "recipe.yaml").write_text(
        "corpus: ravdess\nprotocol: loso.yaml\nsystem: mini-cnn\naudio: {min_seconds: 0.05}\n"
    )
    call = ["recipe", folder, "--root", corpus, "--work", tmp_path / "w"]
    dry = cli(*call, "--dry-run")
    assert dry.exit_code == 0
    assert [line.split()[1] for line in dry.stdout.splitlines()] == ["prepare", "featurize"]
    assert "the folds of loso follow from the corpus; prepare it first" in dry.stderr
    early = cli(*call, "--stage", "train")
    assert early.exit_code == 1
    assert "the corpus is not prepared" in early.stderr
    assert f"sertk recipe {folder} --stage 1 " in " ".join(early.stderr.split())
    assert cli(*call, "--stop-stage", "prepare").exit_code == 0
    trained = cli(*call, "--dry-run", "--stage", "train", "--stop-stage", "train").stdout.splitlines()
    assert [line.split("--fold ")[1].split()[0] for line in trained] == ["01,02,03,04,05,06,08,20"]
    picked = cli(*call, "--dry-run", "--stage", "train", "--stop-stage", "train", "--fold", "#2").stdout
    assert "--fold 02" in picked
    assert cli(*call, "--dry-run", "--fold", "07").exit_code == 2


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_table_says_what_is_kept_dropped_shared_and_missing(tmp_path: Path, corpus: Path) -> None:
    clip(corpus, "03-01-03-01-01-01-01").unlink()
    (corpus / "Actor_01" / "03-02-05-01-01-01-01.wav").write_bytes(clip(corpus, "03-01-05-01-01-01-03").read_bytes())
    soundfile.write(corpus / "Actor_01" / "03-02-05-01-01-01-01.wav", [0.1, 0.2] * 800, 16_000)
    prepare("ravdess", corpus, tmp_path / "data", ["emobox"], 0.05, 1)
    text = (tmp_path / "data" / "protocols" / "emobox.md").read_text()
    assert text == page(read_json(tmp_path / "data" / "protocols" / "emobox.json", ""))
    assert "# ravdess / emobox: speaker-independent" in text
    assert "| happiness | 15 |" in text  # 8 actors, 2 files, one of them gone
    assert "| text | train+test | all | 1 | kids are talking by the door |" in text
    assert "is 'song', not one of ['speech'] | 1 | 03-02-05-01-01-01-01 |" in text
    assert "| 1 | test |" in text
    shown = cli("audit", tmp_path / "data")
    assert shown.exit_code == 0
    assert shown.stdout.strip() == text.strip()
    assert cli("audit", tmp_path / "data", "--protocol", "emobx").exit_code == 2


def test_texts_are_compared_by_their_words() -> None:
    assert words("Kids are talking, by the DOOR!") == words("kids are talking by the door")
    assert words("Heute abend könnte ich's") == "heute abend könnte ich s"
    assert words("Mina\u0308 ole\u006e") == words("Min\u00e4 olen")  # composed or not
    assert words("कि") != words("का")  # a vowel sign is a mark, and tells two words apart
    assert words(" ... ") is None
    assert words(None) is None


def test_a_sentence_of_unknown_words_is_compared_by_its_code() -> None:
    parts = [Utterance(f"{s}_a01", "x.wav", s, "anger", text=text, aux={"sentence": "a01"}) for s, text in SENTENCES]
    fold = Fold(("p_a01",), ("q_a01",), ("r_a01",))
    folds = Folds("toy", "p", ("anger",), dict.fromkeys(("p_a01", "q_a01", "r_a01"), "anger"), {"1": fold})
    shared = audit_folds(folds, {one.id: one for one in parts}, {})["1"]["shared"]["text"]
    assert shared == {"train+dev": ["a01"]}  # the third says its words


# --- anybody's lists -------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path, corpus: Path) -> Path:
    prepare("ravdess", corpus, tmp_path / "data", [], 0.05, 1)
    return tmp_path / "data"


def lists(tmp_path: Path, *, form: str) -> list[str]:
    """Train on actor 1 and half of actor 3, test on the other half and on a clip that is not there."""
    train = ["03-01-05-01-01-01-01", "03-01-05-01-01-01-03"]
    test = ["03-01-04-01-01-01-03", "03-01-04-01-01-01-24"]
    paths = {part: tmp_path / f"{part}.{form}" for part in ("train", "test")}
    for part, ids in (("train", train), ("test", test)):
        lines = {
            "txt": "\n".join(ids),
            "scp": "\n".join(f"{i} /data/{i}.wav" for i in ids),
            "lst": "\n".join(f"C:\\data\\{i}.wav\tanger" for i in ids),
            "jsonl": "\n".join(json.dumps({"key": i, "wav": f"/x/{i}.wav"}) for i in ids),
            "json": json.dumps({i: {"wav": f"/x/{i}.wav"} for i in ids}),
        }
        paths[part].write_text(lines[form] + "\n")
    return [f"train={paths['train']}", f"test={paths['test']}"]


@pytest.mark.parametrize("form", ["txt", "scp", "lst", "jsonl", "json"])
def test_lists_of_several_forms_are_audited(tmp_path: Path, data: Path, form: str) -> None:
    done = cli("audit", *lists(tmp_path, form=form), "--data", data, "--out", tmp_path / "audit.json")
    assert done.exit_code == 3  # a part of the lists is not in the corpus
    assert "1 utterances of the lists are not in" in done.stderr
    content = read_json(tmp_path / "audit.json", "")
    assert content["stamp"] == "SPEAKER-DEPENDENT"
    assert content["audit"]["1"]["shared"] == {
        "speaker": {"train+test": ["03"]},
        "session": {},
        "text": {"train+test": ["kids are talking by the door"]},
        "audio": {},
    }
    assert "| speaker | train+test | all | 1 | 03 |" in done.stdout


def test_a_table_of_test_folds_is_audited_with_all_others_in_train(tmp_path: Path, data: Path) -> None:
    rows = ["utterance,test_folds", "03-01-05-01-01-01-01,1", "03-01-05-01-01-01-03,2", "03-01-04-01-01-01-03,"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    done = cli("audit", tmp_path / "t.csv", "--data", data, "--out", tmp_path / "audit.json")
    assert done.exit_code == 0, done.stderr
    content = read_json(tmp_path / "audit.json", "")
    assert content["folds"]["2"] == {
        "train": "all others",
        "dev": [],
        "test": ["03-01-05-01-01-01-03"],
    }
    assert content["audit"]["1"]["shared"]["speaker"] == {}
    assert content["audit"]["2"]["shared"]["speaker"] == {"train+test": ["03"]}


def test_lists_of_names_that_repeat_below_the_speakers_are_matched_by_their_paths(tmp_path: Path) -> None:
    for seed, name in enumerate(f"{s}/anger_{n}.wav" for s in ("ann", "ben") for n in (1, 2)):
        clip_of(tmp_path / "c" / name, seed, 0.1)
    rows = "path,speaker,label\n" + "".join(f"{s}/anger_{n}.wav,{s},anger\n" for s in ("ann", "ben") for n in (1, 2))
    (tmp_path / "c" / "list.csv").write_text(rows)
    prepare("table:list=list.csv", tmp_path / "c", tmp_path / "data", ["random"], 0.05, 1)
    (tmp_path / "train.txt").write_text("ann/anger_1\n/elsewhere/ann/anger_2.wav\n")
    (tmp_path / "test.txt").write_text("\ufeffben/anger_1\nben/anger_2\n")
    named = [f"{part}={tmp_path / part}.txt" for part in ("train", "test")]
    done = cli("audit", *named, "--data", tmp_path / "data", "--out", tmp_path / "o.json")
    assert done.exit_code == 0, done.stderr
    content = read_json(tmp_path / "o.json", "")
    assert content["stamp"] == "speaker-independent"
    assert content["folds"]["1"]["test"] == ["ben/anger_1", "ben/anger_2"]
    (tmp_path / "test.txt").write_text("anger_1\n")
    wrong = cli("audit", *named, "--data", tmp_path / "data")
    assert wrong.exit_code == 1
    assert "'anger_1' may be ann/anger_1 or ben/anger_1" in wrong.stderr


def test_an_utterance_that_is_in_two_lists_is_a_shared_recording(tmp_path: Path, data: Path) -> None:
    (tmp_path / "a.txt").write_text("03-01-05-01-01-01-01\n")
    words = [f"train={tmp_path / 'a.txt'}", f"dev={tmp_path / 'a.txt'}", "--data", data, "--out", tmp_path / "o.json"]
    assert cli("audit", *words).exit_code == 0
    shared = read_json(tmp_path / "o.json", "")["audit"]["1"]["shared"]["audio"]
    assert shared == {"train+dev": ["03-01-05-01-01-01-01"]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nothing-of-this\n", "none of the 1 utterances"),
        ('{"emotion": "anger"}\n', "has none of id, utterance"),
        ("{\n", "not JSON"),
    ],
)
def test_lists_that_cannot_be_matched_say_why(tmp_path: Path, data: Path, text: str, says: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    done = cli("audit", f"train={tmp_path / 'a.txt'}", "--data", data)
    assert done.exit_code == 1
    assert says in done.stderr


def test_lists_without_a_prepared_corpus_are_refused_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x\n")
    done = cli("audit", tmp_path / "a.txt")
    assert done.exit_code == 1
    assert "sertk prepare" in done.stderr


# --- recordings ------------------------------------------------------------------------------------------------------


def cuts(*of: tuple[str, float, float | None], path: str = "a.wav") -> list[Utterance]:
    return [Utterance(i, path, "s", "anger", start=start, duration=duration) for i, start, duration in of]


def alike(utterances: list[Utterance]) -> list[list[str]]:
    """The groups of utterances that are one recording, each of the given ones having a hash of its own."""
    audio = {one.id: f"hash of {one.id}" for one in utterances}
    kept = dict(audio)
    found = duplicates(utterances, recordings(utterances, audio))
    assert audio == kept
    return found


@pytest.mark.parametrize(
    ("of", "same"),
    [
        ([("x", 0, 2.0), ("y", 2, 2.0)], []),  # they meet
        ([("x", 0, 2.0), ("y", 1.8125, 2.0)], []),  # 0.1875 s of 2 s
        ([("x", 0, 2.0), ("y", 1.75, 2.0)], [["x", "y"]]),  # 0.25 s of 2 s
        ([("y", 0, 2.0), ("x", 1.75, 2.0)], [["x", "y"]]),  # by their places, whatever their names
        ([("y", 0, 2.0), ("x", 5, 2.0)], []),  # neither are those that lie apart
        ([("x", 0, 2.0), ("y", 1, None)], []),  # how long the second is, nobody says
        ([("x", 0, 10.0), ("y", 9.875, 1.0)], [["x", "y"]]),  # 0.125 s, of the shorter one's 1 s
        ([("x", 0, 10.0), ("y", 1, 1.0), ("z", 8, 1.0)], [["x", "y", "z"]]),  # both lie inside the first
        ([("x", 0, 2.0), ("y", 1.5, 2.0), ("z", 3, 2.0)], [["x", "y", "z"]]),  # one leads to the next
        ([("x", 0, 10.0), ("y", 9.75, 100.0), ("z", 20, 1.0)], [["y", "z"]]),  # 0.25 s of 10 s is under a tenth
        ([("x", 0, None), ("y", 0, None)], []),  # whole files say nothing of their length; their samples do
    ],
)
def test_cuts_of_a_file_that_share_more_than_a_tenth_of_the_shorter_are_one_recording(
    of: list[tuple[str, float, float | None]], same: list[list[str]]
) -> None:
    assert alike(cuts(*of)) == same


def test_a_tenth_is_not_more_than_a_tenth() -> None:
    assert alike(cuts(("x", 0, 10.0), ("y", 9, 10.0))) == []


def test_cuts_of_two_files_are_two_recordings() -> None:
    assert alike([*cuts(("x", 0, 2.0)), *cuts(("y", 0, 2.0), path="b.wav")]) == []


def test_equal_samples_are_one_recording() -> None:
    same = [*cuts(("x", 0, None)), *cuts(("y", 0, None), path="b.wav"), *cuts(("z", 0, None), path="c.wav")]
    assert duplicates(same, {"x": "h", "y": "g", "z": "h"}) == [["x", "z"]]


# --- what is declared, what is shared by some fold -------------------------------------------------------------------


def test_what_some_fold_shares_is_shared_and_told_where_it_is_not_declared() -> None:
    none: dict[str, object] = {"speaker": {}, "session": {}, "text": {}, "audio": {}}
    report = {
        "1": {"shared": {**none, "speaker": {"train+dev": ["ann", "ben"]}}},
        "2": {"shared": {**none, "audio": {"dev+test": ["x = y"]}}},
        "3": {"shared": {**none, "speaker": {"dev+test": ["cleo"], "train+dev": ["dora"]}}},
    }
    assert shares(report) == {"speaker": ["train+dev", "dev+test"], "audio": ["dev+test"]}

    def said(declared: dict[str, list[str]]) -> list[str]:
        return [overlap_in_words(one) for one in undeclared(report, declared)]

    assert said({"speaker": ["train+dev", "train+test"], "audio": ["dev+test"]}) == [
        "dev and test share 1 speaker in fold 3, the first 'cleo'"
    ]
    assert said({"speaker": PAIRS}) == ["dev and test share 1 recording in fold 2, the first 'x = y'"]
    assert said({})[0] == "train and dev share 2 speakers in fold 1 and 1 more, the first 'ann'"
