"""The map of the clips: the same each time, of the right clips, and never drawn from a file that is not this run's."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from kws_imagebind.cli import main
from kws_imagebind.embeddings import map as embedding_map
from kws_imagebind.embeddings.map import EmbeddingMap, MapError, draw_map, perplexity, read_map
from kws_imagebind.reporting.predictions import Prediction, predictions_csv
from kws_imagebind.reporting.report import Report, load_report, write_report
from kws_imagebind.reporting.svg import map_figure

WORDS = ("yes", "no", "up")
EVIL = '<script>alert("x")</script>&'


def clusters(n: int = 60, words: int = 3) -> tuple[np.ndarray, list[str]]:
    """Unit vectors around one direction a word, clip i of word i % words."""
    rng = np.random.default_rng(0)
    vectors = np.eye(8)[np.arange(n) % words] + 0.1 * rng.normal(size=(n, 8))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), [f"{i}.wav" for i in range(n)]


def lines(n: int = 60) -> tuple[Prediction, ...]:
    return tuple(Prediction(f"{i}.wav", WORDS[i % 3], WORDS[i % 3 if i % 10 else 0], 0.5, 0.1) for i in range(n))


def saved(tmp_path: Path, content: str | None) -> Report:
    (tmp_path / "predictions.csv").write_text(predictions_csv(lines()))
    if content is not None:
        (tmp_path / "map.csv").write_text(content)
    return load_report(tmp_path)


def figure(report: Report) -> ElementTree.Element:
    found = re.findall(r'<svg[^>]*aria-label="map of.*?</svg>', report.html(), flags=re.DOTALL)
    assert len(found) == 1
    return ElementTree.fromstring(found[0])


def test_the_same_embeddings_give_the_same_map_and_near_ones_lie_together() -> None:
    features, paths = clusters()
    drawn = draw_map(features, paths)
    assert drawn.csv() == draw_map(features, paths).csv() and drawn.paths == tuple(paths)
    gaps = np.linalg.norm(drawn.places[:, None] - drawn.places[None], axis=2) + 1e9 * np.eye(60)
    assert (gaps.argmin(axis=1) % 3 == np.arange(60) % 3).all()  # a clip's neighbour says the same word


def test_of_very_many_clips_a_seeded_choice_is_drawn_and_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedding_map, "MOST", 20)
    monkeypatch.setattr("kws_imagebind.reporting.report.MOST", 20)
    features, paths = clusters()
    drawn = draw_map(features, paths)
    assert len(set(drawn.paths)) == 20 and drawn.paths == draw_map(features, paths).paths
    assert [int(path.split(".")[0]) for path in drawn.paths] == sorted(int(path.split(".")[0]) for path in drawn.paths)
    report = saved(tmp_path, drawn.csv())
    assert "A random 20 of 60 clips" in report.html() and len(list(figure(report).iter("circle"))) == 20


def test_what_cannot_be_drawn_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    features, paths = clusters(5, words=2)
    assert len(draw_map(features, paths)) == 5 and perplexity(5) < 5
    with pytest.raises(MapError, match="a map of 4 clips would show nothing; it needs at least 5"):
        draw_map(features[:4], paths[:4])
    with pytest.raises(MapError, match="all 5 clips are the same"):
        draw_map(np.ones((5, 8)), paths)
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(MapError, match="needs scikit-learn; install scikit-learn, or the extra 'map' of"):
        draw_map(features, paths)


def test_a_map_is_read_as_it_was_written(tmp_path: Path) -> None:
    paths = ("a,b.wav", 'quo"te.wav', "über.wav")
    places = np.array([[0.5, -1], [3.25, 2], [1e-3, 0]])
    (tmp_path / "map.csv").write_text(EmbeddingMap(paths, places).csv(), encoding="utf-8")
    found = read_map(tmp_path / "map.csv")
    assert found.paths == paths
    np.testing.assert_array_equal(found.places, places)


def test_each_clip_is_a_point_with_its_own_row_whatever_the_order(tmp_path: Path) -> None:
    features, paths = clusters()
    drawn = draw_map(features, paths)
    turned = EmbeddingMap(drawn.paths[::-1], drawn.places[::-1])
    report = saved(tmp_path, turned.csv())
    root = figure(report)
    width, height = (float(root.get(side) or 0) for side in ("width", "height"))
    by_kind = {str(group.get("class")): list(group.iter("circle")) for group in root.iter("g")}
    assert {kind: len(circles) for kind, circles in by_kind.items()} == {"right clip": 56, "wrong clip": 4}
    at = {}
    for circles in by_kind.values():
        for circle in circles:
            said, path = circle[0].text.split(": ")  # type: ignore[union-attr]
            x, y = float(circle.get("cx") or -1), float(circle.get("cy") or -1)
            assert 0 <= x <= width and 0 <= y <= height
            line = next(line for line in lines() if line.path == path)
            right = line.label == line.prediction
            assert said == f"{line.label}, {'right' if right else 'heard as ' + line.prediction}"
            at[path] = (x, -y)
    assert set(at) == set(paths)
    shown = np.array([at[path] for path in paths])
    for axis in (0, 1):  # one scale for both axes, north up
        slope = np.polyfit(drawn.places[:, axis], shown[:, axis], 1)[0]
        assert slope == pytest.approx(np.ptp(shown[:, 0]) / np.ptp(drawn.places[:, 0]), rel=0.01)
    assert sorted(text.text or "" for text in root.iter("text")) == sorted(WORDS)
    assert "All 60 clips" in report.html() and "perplexity 19.7, seed 0" in report.html()
    assert "distance between far clusters" in report.html()


def test_a_name_stands_at_the_median_of_its_clips_and_not_on_another() -> None:
    rows = [Prediction(f"{i}.wav", "yes" if i < 5 else "no", "yes") for i in range(8)]
    places = np.array([[0, 0], [1, 1], [2, 0], [1, 0.5], [100, 0], [50, 40], [50, 50], [50, 62]], dtype=float)
    root = ElementTree.fromstring(map_figure(places, rows))
    circles = [(float(c.get("cx") or 0), float(c.get("cy") or 0)) for c in root.iter("circle")]
    name = next(text for text in root.iter("text") if text.text == "no")
    assert (float(name.get("x") or 0), float(name.get("y") or 0)) == circles[-2]  # of the three, the middle one
    places[5:, 1] = 50, 51, 52  # close together: the name would hide them
    root = ElementTree.fromstring(map_figure(places, rows))
    name = next(text for text in root.iter("text") if text.text == "no")
    tops = [float(c.get("cy") or 0) - float(c.get("r") or 0) for c in root.iter("circle")][-3:]
    assert min(tops) - 20 < float(name.get("y") or 0) < min(tops)
    same = ElementTree.fromstring(map_figure(np.zeros((8, 2)), rows))
    heights = [float(text.get("y") or 0) for text in same.iter("text")]
    assert abs(heights[0] - heights[1]) >= 15


def test_without_a_map_there_is_no_section_and_no_notice(tmp_path: Path) -> None:
    text = saved(tmp_path, None).html()
    assert "A map of the clips" not in text and "not drawn" not in text


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "no rows under a header"),
        ("path,x,y\n", "no rows under a header"),
        ("path,label,prediction\n0.wav,yes,yes\n", "no rows under a header"),
        ("path,x,y\n0.wav,1\n", "cannot be read"),
        ("path,x,y\n0.wav,1,two\n", "cannot be read"),
        ('path,x,y\n"0.wav,1,2\n', "cannot be read"),
        ("path,x,y\n0.wav,nan,2\n", "places a clip nowhere"),
        ("path,x,y\n0.wav,1e300,2\n", "places a clip nowhere"),
        ("path,x,y\n0.wav,1,2\n0.wav,1,2\n", "places a clip twice"),
        ("path,x,y\n0.wav,1,2\n", "places 1 of 60 clips, so it is of another run"),
        ("path,x,y\nother.wav,1,2\n", "such as 'other.wav', so it is of another run"),
    ],
)
def test_a_damaged_or_foreign_map_is_not_drawn_and_said(tmp_path: Path, content: str, why: str) -> None:
    report = saved(tmp_path, content)
    assert report.map is None and "A map of the clips" not in report.html()
    assert [why in notice for notice in report.notices].count(True) == 1 and why in report.markdown()


def test_a_map_beside_another_table_is_not_taken_for_its(tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("path,x,y\n0.wav,1,2\n")
    (tmp_path / "mine.csv").write_text(predictions_csv(lines()))
    report = load_report(tmp_path / "mine.csv")
    assert report.map is None and report.undrawn == ""


def test_what_a_map_holds_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    rows = tuple(Prediction(f"{EVIL}{i}.wav", EVIL, "no" if i else EVIL, 0.5, 0.1) for i in range(6))
    (tmp_path / "predictions.csv").write_text(predictions_csv(rows))
    (tmp_path / "map.csv").write_text(EmbeddingMap(tuple(row.path for row in rows), np.eye(6)[:, :2]).csv())
    report = load_report(tmp_path)
    write_report(report, tmp_path)
    assert "<script>alert" not in (tmp_path / "report.html").read_text()
    assert sum(EVIL in (title.text or "") for title in figure(report).iter("title")) == 6
    (tmp_path / "map.csv").write_text(EmbeddingMap((f"{EVIL}.wav",), np.zeros((1, 2))).csv())
    assert "&lt;script" in load_report(tmp_path).html() and "<script>alert" not in load_report(tmp_path).html()


def test_evaluate_draws_the_map_from_the_cache_and_a_run_without_takes_it_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = ["evaluate", "--quiet", "--limit", "12", "--output", "out"]
    assert main(run) == 0 and not Path("out/map.csv").exists()
    assert main([*run, "--map", "--json"]) == 0
    captured = capsys.readouterr()
    assert '"cached": 12' in captured.out and "map.csv" in captured.err
    first, page = Path("out/map.csv").read_text(), Path("out/report.html").read_text()
    assert first.count("\n") == 13 and "All 12 clips" in page
    assert not [path for path in Path("out").iterdir() if path.name.endswith(".part")]
    assert main(["report", "out"]) == 0 and "All 12 clips" in Path("out/report.html").read_text()
    assert main(run) == 0 and not Path("out/map.csv").exists()  # what lies there would be of another run


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--map"], "name their folder with --output"),
        (["--map", "--output", "out", "--limit", "4"], "a map of 4 clips"),
    ],
)
def test_a_map_that_cannot_be_is_refused_before_any_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err
    assert why in error and error.count("\n") == 1 and not list(tmp_path.iterdir())
