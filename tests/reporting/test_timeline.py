"""Words in a recording as a figure: each bar lies where its hit is."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from kws_imagebind.reporting.timeline import MOST, OTHERS, time_marks, timeline_figure
from kws_imagebind.spotting.hits import Hit


def elements(figure: str, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(figure).iter(tag))


def test_each_hit_is_a_bar_at_its_time_in_the_row_of_its_word() -> None:
    hits = [Hit("yes", 1.0, 1.5, 0.9), Hit("<no>", 2.0, 3.0, 0.5), Hit("yes", 4.0, 4.001, 0.7)]
    figure = timeline_figure(hits, 5.0)
    first, second, third = elements(figure, "rect")
    assert [bar.get("x") for bar in (first, second, third)] == ["20.00%", "40.00%", "80.00%"]
    assert [bar.get("width") for bar in (first, second)] == ["10.00%", "20.00%"]
    assert float(third.attrib["width"].rstrip("%")) > 0.5  # seen, however short
    assert first.get("y") == third.get("y") != second.get("y")
    assert float(first.attrib["fill-opacity"]) > float(second.attrib["fill-opacity"])
    assert [title.text for title in elements(figure, "title")][1] == "<no>: 2.0 to 3.0 s, score 0.50"
    names = [text.text for text in elements(figure, "text") if "name" in text.attrib["class"]]
    assert names == ["yes", "<no>"]
    assert ElementTree.fromstring(figure).get("aria-label") == "3 words found in 5.0 seconds"


def test_more_words_than_rows_share_the_last_one() -> None:
    hits = [Hit(f"w{index}", float(index), index + 0.5, 0.9) for index in range(MOST + 5)]
    figure = timeline_figure(hits, MOST + 5.0)
    names = [text.text for text in elements(figure, "text") if "name" in text.attrib["class"]]
    assert len(names) == MOST and names[-1] == OTHERS
    bars = elements(figure, "rect")
    assert len(bars) == len(hits) and len({bar.get("y") for bar in bars}) == MOST


def test_a_hit_past_the_end_stays_within_the_figure() -> None:
    figure = timeline_figure([Hit("yes", 0.9, 1.3, 1.0)], 1.0)
    assert ElementTree.fromstring(figure).get("aria-label") == "1 word found in 1.0 seconds"
    (bar,) = elements(figure, "rect")
    assert float(bar.attrib["x"].rstrip("%")) + float(bar.attrib["width"].rstrip("%")) <= 100


@pytest.mark.parametrize("seconds", [0.01, 0.38, 1.0, 2.9, 30.0, 59.0, 3600.0])
def test_the_time_axis_has_a_few_round_marks(seconds: float) -> None:
    marks = time_marks(seconds)
    assert 1 <= len(marks) <= 7 and all(0 <= at <= 1 for _, at in marks) and marks[0] == ("0 s", 0)
