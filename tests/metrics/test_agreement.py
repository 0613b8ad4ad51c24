"""Agreement and collapse against scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from kws_imagebind.metrics.agreement import agreement

WORDS = [f"word {i}" for i in range(12)]


@pytest.mark.parametrize("seed", range(8))
def test_kappa_and_entropy_equal_scikit_learns_and_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(0, 11, 300), rng.integers(1, 12, 300)  # word 11 is absent, word 0 never predicted
    guess = np.where(rng.random(300) < 0.4, truth, guess)
    guess[guess == 0] = 5
    found = agreement(confusion_matrix(truth, guess, labels=range(12)), WORDS)
    assert found.kappa == pytest.approx(cohen_kappa_score(truth, guess))
    assert found.effective_predicted == pytest.approx(np.exp(entropy(np.bincount(guess))))
    assert found.effective_spoken == pytest.approx(np.exp(entropy(np.bincount(truth))))
    assert found.expected == pytest.approx(np.mean(truth[:, None] == guess[None]))  # every label with every prediction


def test_imagebinds_collapse_can_be_told_from_its_marginals() -> None:
    counts = np.zeros((3, 3))
    counts[:, 0] = [30, 30, 30]
    found = agreement(counts, ["marvin", "yes", "no"])
    assert found.kappa == 0 and found.expected == pytest.approx(1 / 3)
    assert found.collapse == (
        "effective number of classes 1.0 (spoken: 3.0); the 1 most predicted take 100.0 % (marvin 100.0 %)"
    )


def test_one_word_said_and_heard_leaves_nothing_to_agree_about() -> None:
    assert np.isnan(agreement([[5, 0], [0, 0]], ["a", "b"]).kappa)


@pytest.mark.parametrize("counts", [[[1, 2]], [[1]], [[0, 0], [0, 0]]])
def test_what_is_no_matrix_of_clips_is_refused(counts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="for 2 labels"):
        agreement(counts, ["a", "b"])
