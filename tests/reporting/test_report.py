"""The report: right numbers from the rows alone, self-contained, quick, and harmless whatever the rows hold."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, confusion_matrix

from kws_imagebind.cli import main
from kws_imagebind.metrics.intervals import proportion_by_speaker, wilson
from kws_imagebind.reporting import page
from kws_imagebind.reporting.predictions import Prediction, PredictionsError, predictions_csv
from kws_imagebind.reporting.published import PUBLISHED
from kws_imagebind.reporting.report import Report, load_report, write_report
from kws_imagebind.reporting.results import Results, digest, from_dict, read_results
from kws_imagebind.reporting.sounds import search

WORDS = ("yes", "no", "up", "down", "never said", "never heard")


def rows(n: int = 300, seed: int = 0, speakers: int = 8, sure: bool = True) -> tuple[Prediction, ...]:
    """'never said' has no clips but is heard, 'never heard' the other way round."""
    rng = np.random.default_rng(seed)
    said, heard = rng.choice([0, 1, 2, 3, 5], n), rng.integers(0, 5, n)
    right = (rng.random(n) < 0.7) & (said != 5)
    heard = np.where(right, said, heard)
    return tuple(
        Prediction(
            f"{WORDS[a]}/{i}.wav", WORDS[a], WORDS[b], float(rng.random()), float(rng.random() / 2 + 0.3 * (a == b)),
            f"s{i % speakers}" if speakers else "", float(rng.random()) if sure else None,
        )
        for i, (a, b) in enumerate(zip(said, heard, strict=True))
    )  # fmt: skip


def saved(tmp_path: Path, predictions: tuple[Prediction, ...], protocol: dict | None = None) -> Path:
    (tmp_path / "predictions.csv").write_text(predictions_csv(predictions))
    if protocol is not None:
        of = digest((tmp_path / "predictions.csv").read_bytes())
        (tmp_path / "results.json").write_text(json.dumps({"predictions_sha256": of, **protocol}))
    return tmp_path


def allowed_script(text: str) -> bool:
    """Whether the page's policy lets its one script run, and no other: what a browser does with the policy's hash."""
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    allowed = re.search(r"default-src 'none'; [^\"]*script-src 'sha256-([^']+)'\"", text)
    own = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    return len(scripts) == 1 and allowed is not None and allowed[1] == own


class Page(HTMLParser):
    """What a page would fetch, what it plays and what it shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [
            value or "" for name, value in attributes if name in ("src", "href", "srcset", "data", "poster")
        ]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("speakers", [0, 1, 8])
def test_numbers_are_scikit_learns_and_those_of_the_statistics(speakers: int) -> None:
    predictions = rows(speakers=speakers)
    report = Report(predictions, WORDS)
    said, heard = [line.label for line in predictions], [line.prediction for line in predictions]
    np.testing.assert_array_equal(report.confusion, confusion_matrix(said, heard, labels=WORDS))
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert report.macro_accuracy.estimate == pytest.approx(balanced_accuracy_score(said, heard))
    assert report.agreement.kappa == pytest.approx(cohen_kappa_score(said, heard))
    hits = [a == b for a, b in zip(said, heard, strict=True)]
    if speakers > 1:
        expected = proportion_by_speaker(hits, [line.speaker for line in predictions])
    else:
        expected = wilson(sum(hits), len(hits))
        assert "treat clips as independent" in report.how
    assert (report.accuracy.low, report.accuracy.high) == pytest.approx((expected.low, expected.high), abs=1e-3)
    assert report.per_class[4].n == 0


def test_the_page_needs_no_network_and_says_what_matters(tmp_path: Path) -> None:
    write_report(Report(rows(), WORDS, title="A run"), tmp_path)
    text = (tmp_path / "report.html").read_text()
    page, shown = Page(text), " ".join(Page(text).text)
    assert all(address.startswith("data:") for address in page.fetched), page.fetched
    assert not re.search(r"@import|url\(|https?://", text)
    assert page.tags.count("script") == 1 and allowed_script(text)
    assert "prefers-color-scheme: dark" in text
    for part in ("A run", "300 clips", "chance 16.7 %", "by speaker (8 speakers)", "Cohen's kappa", "never said"):
        assert part in shown, part
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.md", "results.json"]


def test_figures_are_sound_svg_that_hold_their_counts() -> None:
    report = Report(rows(), WORDS)
    figures = re.findall(r"<svg.*?</svg>", report.html(), flags=re.DOTALL)
    assert len(figures) == 7  # headline, names and cells of the matrix, words, reliability, margin, DET
    for figure in figures:
        root = ElementTree.fromstring(figure)
        height, across = float(root.get("height") or 0), str(root.get("width"))
        for line in root.iter("circle"):  # within the figure, whose width may be a share of the page's
            at = str(line.get("cx"))
            assert at.endswith("%") == across.endswith("%")
            assert -1 <= float(at.rstrip("%")) <= float(across.rstrip("%"))
            assert -1 <= float(line.get("cy") or 0) <= height
    matrix = next(figure for figure in figures if "confusion matrix" in figure)
    numbers = [
        int(text.text or 0) for text in ElementTree.fromstring(matrix).iter("text") if "number" in text.get("class", "")
    ]
    assert sum(numbers) == 300 and sorted(numbers) == sorted(int(count) for count in report.confusion.flat if count)


def test_a_table_without_scores_still_reports() -> None:
    predictions = tuple(Prediction(line.path, line.label, line.prediction) for line in rows())
    report = Report(predictions, WORDS)
    assert report.html().count("<svg") == 4 and report.calibration is None and report.detection is None
    assert "the speakers are unknown" in report.markdown()


def test_captions_name_the_column_that_the_table_has() -> None:
    scored = tuple(replace(line, margin=float("nan")) for line in rows())
    for predictions, name, other in ((rows(), "margin", "score"), (scored, "score", "margin")):
        report = Report(predictions, WORDS)
        section = report.html().split("When to trust a prediction")[1].split("</section>")[0]
        assert (
            f"from the smallest {name} to the largest" in section
            and f"ordered by {'the ' * (name == 'score')}{name}" in section
        )
        assert other not in section.replace("margin: the score", "margin: the")  # which says what a margin is
        assert f"by the {name}, AUROC" in report.markdown() and report.sureness == name


@pytest.mark.parametrize("right", [True, False])
def test_all_right_and_all_wrong_are_no_special_cases(right: bool) -> None:
    predictions = tuple(
        Prediction(f"{i}.wav", "yes", "yes" if right else "no", 0.5, 0.1, f"s{i % 3}") for i in range(9)
    )
    report = Report(predictions, ("yes", "no"))
    assert report.accuracy.estimate == right and report.html() and report.markdown()


def test_what_rows_hold_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>|`'
    predictions = (Prediction(f"{evil}.wav", evil, "no"), Prediction("b.wav", "no", evil))
    write_report(Report(predictions, (evil, "no"), title=evil), tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert page.tags.count("script") == 1 and '<script>alert("x")</script>' in "".join(page.text)
    assert allowed_script((tmp_path / "report.html").read_text())
    table = (tmp_path / "report.md").read_text()
    assert "<script" not in table and "\\|" in table


def test_the_worst_confusions_are_played_where_their_clips_are_found(tmp_path: Path) -> None:
    predictions = rows()
    report = Report(predictions, WORDS)
    first = report.confusions[0]
    assert first.clips[0].margin >= first.clips[-1].margin  # the surest mistake first
    counts = [len(confusion.clips) for confusion in report.confusions]
    assert counts == sorted(counts, reverse=True)
    corpus = tmp_path / "data" / "SpeechCommands" / "speech_commands_v0.02"
    clip = corpus / first.clips[0].path
    clip.parent.mkdir(parents=True)
    soundfile.write(clip, np.zeros(160), 16_000)
    assert "audio" not in Page(report.html()).tags
    page = Page(report.html(search([tmp_path / "data"])))
    assert page.tags.count("audio") == 1 and any(
        each.startswith("data:audio/wav;base64,UklGR") for each in page.fetched
    )


def test_sound_from_outside_the_searched_folders_is_not_played(tmp_path: Path) -> None:
    inside, outside = tmp_path / "data", tmp_path / "private"
    for folder in (inside / "yes", outside):
        folder.mkdir(parents=True)
        soundfile.write(folder / "1.wav", np.zeros(160), 16_000)
    (inside / "link.wav").symlink_to(outside / "1.wav")
    (tmp_path / "corpus").symlink_to(inside)
    find = search([inside])
    assert find("yes/1.wav") == find("yes/../yes/1.wav") == find(str(inside / "yes" / "1.wav"))
    assert find("yes/1.wav") == search([tmp_path / "corpus"])("yes/1.wav") == (inside / "yes" / "1.wav").resolve()
    for path in (
        "../private/1.wav",
        str(outside / "1.wav"),
        "link.wav",
        "x" * 5_000 + ".wav",
        "a\0.wav",
        "nowhere.wav",
    ):
        assert find(path) is None, path
    report = Report((Prediction("../private/1.wav", "yes", "no"), Prediction("yes/1.wav", "no", "yes")), ("yes", "no"))
    assert Page(report.html(find)).tags.count("audio") == 1


def test_control_characters_are_not_shown(tmp_path: Path) -> None:
    word = "y\x1b[31m\x07e\x00s\x0c"
    write_report(Report((Prediction("a\x1b.wav", word, "no"),), (word, "no"), title=word), tmp_path)
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert not re.search(r"[\x00-\x08\x0b-\x1f]", text) and "y[31mes" in text


def test_results_beside_the_table_are_used_and_those_of_another_run_are_not(tmp_path: Path) -> None:
    told = {"n": 300, "task": "v2-10", "dataset": "speech-commands", "split": "testing", "encoder": "tone",
            "per_class": dict.fromkeys(WORDS), "templates": ["a {}"], "warnings": ["mind the gap"]}  # fmt: skip
    report = load_report(saved(tmp_path, rows(), told))
    assert report.title == "tone on speech-commands testing, v2-10" and "“a {}”" in report.html()
    assert "mind the gap" in report.html() and "mind the gap" in report.markdown()
    for words in (None, WORDS):
        for other_digest in ({"predictions_sha256": digest(b"another")}, {"predictions_sha256": ""}):
            other = load_report(saved(tmp_path, rows(), {**told, "per_class": {"lamp": None}, **other_digest}), words)
            assert other.results is None and "Made from the table of predictions alone" in other.html()
            assert "lamp" not in other.words and "its SHA-256 is another" in other.markdown()
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(PredictionsError, match=r"results\.json is not JSON"):
        load_report(tmp_path)


def test_a_bare_table_takes_its_speakers_from_the_file_names_and_says_so(tmp_path: Path) -> None:
    named = tuple(
        replace(line, path=f"{line.label}/{i % 8:08x}_nohash_{i}.wav", speaker="") for i, line in enumerate(rows())
    )
    report = load_report(saved(tmp_path, named), WORDS)
    same = Report(tuple(replace(line, speaker=f"s{i % 8}") for i, line in enumerate(named)), WORDS)
    assert report.speakers == 8 and report.accuracy == same.accuracy and report.per_class == same.per_class
    for text in (report.html(), report.markdown()):
        assert "taken from the file names" in text  # the notice
        assert "by speaker (8 speakers, named by the files)" in text  # the protocol
    (tmp_path / "predictions.csv").write_text(predictions_csv((*named, replace(named[0], path="x.wav"))))
    other = load_report(tmp_path, WORDS)
    assert other.speakers == 0 and "the speakers are unknown" in other.html() and "file names" not in other.html()


def test_a_bare_table_gets_results_that_can_be_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "mine.csv"
    table.write_text(predictions_csv(rows()))
    assert main(["report", str(table), "--keywords", ",".join(WORDS), "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.out == (tmp_path / "results.json").read_text() and "wrote" in printed.err
    found, report = read_results(tmp_path / "results.json"), Report(rows(), WORDS)
    assert found.task is found.encoder is found.dataset is found.protocol is None and found.bare
    assert found.n == 300 and list(found.per_class) == list(WORDS) and found.seconds is None
    assert found.metrics.accuracy is not None
    assert (found.metrics.accuracy.estimate, found.metrics.accuracy.low) == (
        report.accuracy.estimate, report.accuracy.low
    )  # fmt: skip
    assert found.kappa == pytest.approx(report.agreement.kappa)
    assert found.predictions_sha256 == hashlib.sha256(table.read_bytes()).hexdigest()
    # Made again, it stays the same: what `report` wrote is not taken for a run's own results.
    (tmp_path / "predictions.csv").write_bytes(table.read_bytes())
    again = load_report(tmp_path)
    assert again.bare and again.words == WORDS and "Made from the table of predictions alone" in again.html()
    assert main(["report", str(tmp_path)]) == 0 and (tmp_path / "results.json").read_text() == printed.out


def test_results_of_a_run_are_never_overwritten_by_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path, rows(), {"encoder": "tone", "per_class": dict.fromkeys(WORDS)})
    before = (tmp_path / "results.json").read_text()
    (tmp_path / "other.csv").write_text(predictions_csv(rows(seed=1)))
    assert main(["report", str(tmp_path / "other.csv")]) == 0
    assert (tmp_path / "results.json").read_text() == before
    assert "belongs to another run and was not changed" in capsys.readouterr().err
    for damaged in ("{", "[]", ""):
        (tmp_path / "results.json").write_text(damaged)
        assert main(["report", str(tmp_path / "other.csv")]) == 0
        assert (tmp_path / "results.json").read_text() == damaged


def test_the_page_says_what_kind_of_run_it_is() -> None:
    def kind(results: Results | None) -> tuple[str, str]:
        report = Report(rows(), WORDS, results)
        own = next(row for row in page._published(report)[0] if row["own"])
        return report.html().split('class="lead">')[1].split("</p>")[0], own["kind"]

    lead, own = kind(from_dict({"encoder": "a", "templates": ["{}"]}))  # an older file, without the record
    assert lead.startswith("Zero-shot read-out") and own == "zero-shot"
    lead, own = kind(from_dict({"encoder": "a", "protocol": {"kind": "few-shot", "shots": 5, "draws": 10}}))
    assert lead.startswith("Few-shot, 5 clips a word, mean of 10 draws.") and own == "few-shot"
    lead, own = kind(from_dict({"encoder": "a", "protocol": {"trained_on": ["Speech Commands"]}}))
    assert lead.startswith("Not zero-shot: the encoder was trained on Speech Commands.") and own == "not zero-shot"
    lead, own = kind(from_dict({"encoder": "a", "protocol": {"kind": "supervised"}}))
    assert lead.startswith("Supervised: learnt from these words.") and own == "supervised"
    lead, own = kind(None)
    assert "ero-shot" not in lead and own == "not recorded"


def test_skipped_recordings_are_named_with_their_reasons() -> None:
    skipped = [{"path": f"<b>{i}.wav", "reason": "the file is empty"} for i in range(203)]
    report = Report(rows(), WORDS, from_dict({"encoder": "a", "skipped": skipped}))
    assert "203 recordings were skipped" in report.html() and "3 more are listed in results.json" in report.html()
    assert report.html().count("&lt;b&gt;") == 200 and "<b>0.wav" not in report.html()
    assert report.markdown().count("the file is empty") == 200
    one = Report(rows(), WORDS, from_dict({"encoder": "a", "skipped": skipped[:1]}))
    assert "1 recording was skipped" in one.html() and "skipped" not in Report(rows(), WORDS).html()


def test_words_of_the_protocol_and_of_the_caller_refuse_others(tmp_path: Path) -> None:
    saved(tmp_path, rows(), {"n": 300, "per_class": {"yes": None, "no": None}})
    with pytest.raises(PredictionsError, match=r"row \d+: the (label|prediction) '.*' is not one of the 2 words"):
        load_report(tmp_path)
    assert load_report(tmp_path, (*WORDS, "lamp")).words == (*WORDS, "lamp")


def test_published_results_are_beside_the_run_with_task_n_and_kind() -> None:
    report = Report(rows(), WORDS, from_dict({"task": "v2-10", "encoder": "mine"}))
    same, others = page._published(report)
    assert len(same) + len(others) == len(PUBLISHED) + 1 and [row["system"] for row in same if row["own"]] == ["mine"]
    assert {row["task"] for row in same} == {"v2-10"} and "v2-10" not in {row["task"] for row in others}
    assert [row["value"] for row in same] == sorted((row["value"] for row in same), reverse=True)
    assert all(row["n"] and row["kind"] in ("zero-shot", "supervised", "not recorded") for row in [*same, *others])
    assert "This run has 300 clips, the published results of this task 4,074." in report.html()
    imagebind = next(each for each in PUBLISHED if each.system == "ImageBind")
    assert round(100 * imagebind.accuracy, 2) == 2.76 and imagebind.n == 11_005


def test_a_whole_test_split_is_a_page_under_a_megabyte(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(35)]
    lines = []
    for i in range(11_005):
        said = int(rng.integers(35))
        heard = said if rng.random() < 0.87 else int(rng.integers(35))
        lines.append(Prediction(f"{i}.wav", words[said], words[heard], 0.5, float(rng.random()), f"s{i % 250}", 0.5))
    saved(tmp_path, tuple(lines))
    write_report(load_report(tmp_path), tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_of_many_candidates_only_words_that_occur_are_drawn(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(5_000)]
    predictions = tuple(Prediction(f"{i}.wav", words[i % 31], words[i % 31 + 40 * (i % 9 == 0)]) for i in range(900))
    write_report(Report(predictions, tuple(words)), tmp_path)
    page_text, table = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert "4,938 candidates were neither spoken nor predicted and are left out." in page_text
    assert "4,969 of 5,000 candidates have no clips: w31, w32" in page_text and "and 4,957 more" in page_text
    assert "chance 0.02 %" in page_text
    assert len(page_text) < 200_000 and table.count("\n") < 120 and "w4999" not in page_text + table


def test_beyond_a_page_of_words_the_rest_is_folded() -> None:
    words = [f"w{i}" for i in range(300)]
    predictions = tuple(Prediction(f"{i}.wav", words[i], words[(i * 7) % 300], 0.1, 0.1) for i in range(300))
    report = Report(predictions, tuple(words)).html()
    opened = re.sub(r"<details>.*?</details>", "", report, flags=re.DOTALL)
    assert "240 more were spoken" in opened and "The last column counts" in opened
    assert "Show all 300 words" in report and opened.count("<svg") == 6
