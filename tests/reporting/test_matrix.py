"""The confusion matrix of a report: only words that occur, and no clip lost."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from kws_imagebind.reporting.matrix import matrix_figure, occurring


def counts(words: int, spoken: int, seed: int = 0) -> np.ndarray:
    """Clips of the first few words, heard as any of them all."""
    rng = np.random.default_rng(seed)
    table = np.zeros((words, words), dtype=int)
    np.add.at(table, (rng.integers(spoken, size=400), rng.integers(words, size=400)), 1)
    return table


@pytest.mark.parametrize(("words", "spoken", "most"), [(6, 6, 60), (40, 10, 60), (40, 10, 20), (90, 90, 25), (9, 4, 2)])
def test_rows_hold_all_clips_of_their_words(words: int, spoken: int, most: int) -> None:
    table, labels = counts(words, spoken), [f"w{i}" for i in range(words)]
    found = occurring(table, labels, most)
    index = [labels.index(row) for row in found.rows]
    np.testing.assert_array_equal(found.totals, table.sum(axis=1)[index])
    np.testing.assert_array_equal(found.counts.sum(axis=1), found.totals)  # what is merged is still counted
    assert found.columns[: len(found.rows)] == found.rows  # so that the diagonal is straight
    np.testing.assert_array_equal(found.counts.diagonal(), table.diagonal()[index])
    named = found.columns[:-1] if found.merged else found.columns
    for place, column in enumerate(named):
        np.testing.assert_array_equal(found.counts[:, place], table[index, labels.index(column)])
    assert len(found.rows) <= most and len(named) <= max(most, len(found.rows))
    assert len(found.rows) + found.left_out == (table.sum(axis=1) > 0).sum()
    assert table.sum(axis=1)[index].min() >= max(
        (n for word, n in zip(labels, table.sum(axis=1), strict=True) if word not in found.rows), default=0
    )  # the words with the most clips are kept
    assert found.never == ((table.sum(axis=0) == 0) & (table.sum(axis=1) == 0)).sum()
    assert found.whole == (not found.left_out and not found.merged)


def test_the_figure_says_of_each_cell_what_it_counts() -> None:
    found = occurring(np.array([[7, 2, 0], [0, 5, 0], [0, 0, 0]]), ["yes", "<no>", "up"])
    names, cells = (ElementTree.fromstring(f"<svg{part}") for part in matrix_figure(found).split("<svg")[1:])
    assert [text.text for text in names.iter("text")] == ["yes", "<no>", "spoken"]
    assert [title.text for title in cells.iter("title")] == [
        "yes heard as yes: 7 of 9 clips (77.8 %)",
        "yes heard as <no>: 2 of 9 clips (22.2 %)",
        "<no> heard as <no>: 5 of 5 clips (100.0 %)",
    ]
    kinds = [rect.get("class") for rect in cells.iter("rect")]
    assert kinds == ["track", "right", "wrong", "right"]
    assert found.notes == ["1 candidate was neither spoken nor predicted and is left out."]
