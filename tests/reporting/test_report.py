"""The report: right numbers from the rows alone, self-contained, quick, and harmless whatever the rows hold."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, confusion_matrix

from kws_imagebind.metrics.intervals import proportion_by_speaker, wilson
from kws_imagebind.reporting.predictions import Prediction, PredictionsError, predictions_csv
from kws_imagebind.reporting.published import PUBLISHED
from kws_imagebind.reporting.report import Report, load_report, search, write_report
from kws_imagebind.reporting.results import digest, read_results

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
        assert "take clips as independent" in report.how
    assert (report.accuracy.low, report.accuracy.high) == pytest.approx((expected.low, expected.high), abs=1e-3)
    assert report.per_class[4].n == 0


def test_the_page_needs_no_network_and_says_what_matters(tmp_path: Path) -> None:
    write_report(Report(rows(), WORDS, title="A run"), tmp_path)
    text = (tmp_path / "report.html").read_text()
    page, shown = Page(text), " ".join(Page(text).text)
    assert all(address.startswith("data:") for address in page.fetched), page.fetched
    assert not re.search(r"@import|url\(|https?://", text) and "script" not in page.tags
    assert "prefers-color-scheme: dark" in text
    for part in ("A run", "300 clips", "chance 16.7 %", "by speaker (8 speakers)", "Cohen's kappa", "never said"):
        assert part in shown, part
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.md"]


def test_figures_are_sound_svg_that_hold_their_counts() -> None:
    report = Report(rows(), WORDS)
    figures = re.findall(r"<svg.*?</svg>", report.html(), flags=re.DOTALL)
    assert len(figures) == 6  # headline, matrix, words, reliability, margin, DET
    for figure in figures:
        root = ElementTree.fromstring(figure)
        width, height = (float(root.get(side) or 0) for side in ("width", "height"))
        for line in root.iter("circle"):
            assert -1 <= float(line.get("cx") or 0) <= width and -1 <= float(line.get("cy") or 0) <= height
    matrix = next(figure for figure in figures if "confusion matrix" in figure)
    numbers = [
        int(text.text or 0) for text in ElementTree.fromstring(matrix).iter("text") if "number" in text.get("class", "")
    ]
    assert sum(numbers) == 300 and sorted(numbers) == sorted(int(count) for count in report.confusion.flat if count)


def test_a_table_without_scores_still_reports() -> None:
    predictions = tuple(Prediction(line.path, line.label, line.prediction) for line in rows())
    report = Report(predictions, WORDS)
    assert report.html().count("<svg") == 3 and report.calibration is None and report.detection is None
    assert "speakers are unknown" in report.markdown()


def test_captions_name_the_column_that_the_table_has() -> None:
    scored = tuple(replace(line, margin=float("nan")) for line in rows())
    for predictions, name, other in ((rows(), "margin", "score"), (scored, "score", "margin")):
        report = Report(predictions, WORDS)
        section = report.html().split("When to believe a prediction")[1].split("</section>")[0]
        assert name in section and f"from the smallest {name} to the largest" in section and other not in section
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
    assert "script" not in page.tags and '<script>alert("x")</script>' in "".join(page.text)
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


def test_a_protocol_beside_the_table_is_told_and_one_of_another_run_is_not(tmp_path: Path) -> None:
    told = {"n": 300, "task": "v2-10", "dataset": "speech-commands", "split": "testing", "encoder": "tone",
            "per_class": dict.fromkeys(WORDS), "templates": ["a {}"], "warnings": ["mind the gap"]}  # fmt: skip
    report = load_report(saved(tmp_path, rows(), told))
    assert report.title == "tone on speech-commands testing, v2-10" and "“a {}”" in dict(report.facts)["prompts"]
    assert "mind the gap" in report.html() and "mind the gap" in report.markdown()
    for words in (None, WORDS):
        for other_digest in ({"predictions_sha256": digest(b"another")}, {"predictions_sha256": ""}):
            other = load_report(saved(tmp_path, rows(), {**told, "per_class": {"lamp": 0}, **other_digest}), words)
            assert other.protocol == {} and "made from the predictions alone" in other.html()
            assert "lamp" not in other.words and "does not bear their SHA-256" in other.markdown()
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(PredictionsError, match=r"results\.json is no JSON"):
        load_report(tmp_path)


WRONG = {
    r"the content is a list; expected an object": [],
    r"the content is null; expected an object": None,
    r"'task' is null; expected text": {"task": None},
    r"'split' is 3; expected text or null": {"split": 3},
    r"'templates\[1\]' is 1; expected text": {"templates": ["a", 1]},
    r"'templates' is null; expected a list": {"templates": None},
    r"'per_class' is a list; expected an object": {"per_class": ["yes"]},
    r"'metrics' is null; expected an object": {"metrics": None},
    r"'metrics.top5_accuracy' is an object; expected an estimate": {
        "metrics": {"top5_accuracy": {"estimate": 0.5, "low": None, "high": 1}}
    },
    r"'warnings' is \"x\"; expected a list": {"warnings": "x"},
    r"'versions.torch' is null; expected text": {"versions": {"torch": None}},
    r"'fingerprints' is null; expected an object": {"fingerprints": None},
    r"'skipped' is 4; expected a list": {"skipped": 4},
    r"'seed' is true; expected a whole number or null": {"seed": True},
    r"'open_set\[0\]' has no 'rule'": {"open_set": [{}]},
    r"'open_set' is null; expected a list": {"open_set": None},
}


@pytest.mark.parametrize("reason", WRONG)
def test_results_that_are_not_what_they_should_be_are_refused_with_the_field(tmp_path: Path, reason: str) -> None:
    saved(tmp_path, rows())
    (tmp_path / "results.json").write_text(json.dumps(WRONG[reason]))
    with pytest.raises(PredictionsError, match=reason):
        load_report(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"n": NaN}', '{"n": 1', "\udcff", ""])
def test_results_that_are_no_json_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(PredictionsError, match=r"results\.json is no JSON"):
        read_results(tmp_path / "results.json")


def test_words_of_the_protocol_and_of_the_caller_refuse_others(tmp_path: Path) -> None:
    saved(tmp_path, rows(), {"n": 300, "per_class": {"yes": None, "no": None}})
    with pytest.raises(PredictionsError, match=r"row \d+: the (label|prediction) '.*' is none of the 2 words"):
        load_report(tmp_path)
    assert load_report(tmp_path, (*WORDS, "lamp")).words == (*WORDS, "lamp")


def test_published_results_are_beside_the_run_with_task_n_and_kind() -> None:
    report = Report(rows(), WORDS, {"task": "v2-10"}, "Mine")
    table = report.published()
    assert len(table) == len(PUBLISHED) + 1 and sum(row["own"] for row in table) == 1
    own_task = [row for row in table if row["task"] == "v2-10"]
    assert table[: len(own_task)] == own_task  # this run's task comes first, the best first
    assert [row["value"] for row in own_task] == sorted((row["value"] for row in own_task), reverse=True)
    assert all(row["n"] and row["kind"] in ("zero-shot", "supervised") for row in table)
    assert "300 clips and the published ones of 4,074" in report.comparable
    imagebind = next(each for each in PUBLISHED if each.system == "ImageBind")
    assert round(100 * imagebind.accuracy, 2) == 2.76 and imagebind.n == 11_005


def test_a_whole_test_split_is_reported_in_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(35)]
    lines = []
    for i in range(11_005):
        said = int(rng.integers(35))
        heard = said if rng.random() < 0.87 else int(rng.integers(35))
        lines.append(Prediction(f"{i}.wav", words[said], words[heard], 0.5, float(rng.random()), f"s{i % 250}", 0.5))
    saved(tmp_path, tuple(lines))
    start = time.perf_counter()
    write_report(load_report(tmp_path), tmp_path)
    assert time.perf_counter() - start < 10
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_many_words_still_make_a_page() -> None:
    words = [f"w{i}" for i in range(300)]
    predictions = tuple(Prediction(f"{i}.wav", words[i], words[(i * 7) % 300], 0.1, 0.1) for i in range(300))
    assert "<svg" in Report(predictions, tuple(words)).html()
