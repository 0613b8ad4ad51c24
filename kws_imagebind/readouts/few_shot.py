"""Classifiers that learn from a few clips: nearest class mean, and one that starts at the text vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional as F

from kws_imagebind.readouts.base import HasFeatures, ScoreProtocol, Scores
from kws_imagebind.readouts.support import FewShotError, Support
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier

# Both chosen with PhoneBind on training clips, measured on validation clips (docs/vectors.md), and never on testing
# clips. Accuracy hardly depends on them: 30 to 300 and 10 to 36 differ by half a point.
SCALE = 16.0  # of cosines in the softmax
STRENGTH = 100.0  # of the hold on the text vectors
STRENGTHS = (10.0, 30.0, 100.0, 300.0, 1000.0)  # that cross-validation tries
FOLDS = 5  # of speakers


@dataclass(frozen=True)
class LinearReadout:
    """A linear read-out: products of the features with weights, and a bias.

    Attributes:
        labels: of its columns.
        protocol: what it learnt from.
        weights: (rows, dim); a label may have several rows, and scores as the best of them.
        owners: (rows,) the label that each belongs to.
        bias: (rows,).
    """

    labels: tuple[str, ...]
    protocol: ScoreProtocol
    weights: Tensor
    owners: Tensor
    bias: Tensor

    def __call__(self, audio: HasFeatures | Tensor, /) -> Scores:
        features = audio if isinstance(audio, Tensor) else audio.features
        products = features @ self.weights.T + self.bias
        return Scores(_best_of(products, self.owners, len(self.labels)), self.labels, self.protocol)


def zero_shot(support: Support, text: ZeroShotClassifier | None) -> ZeroShotClassifier:
    """The text vectors alone; the clips are passed over.

    Raises:
        FewShotError: the encoder has no text vectors.
    """
    return _needed(text, "zero-shot")


def class_mean(support: Support) -> LinearReadout:
    """Nearest class mean: the cosine with the renormalised mean of each label's clips.

    This is the prototype of Snell, Swersky and Zemel 2017 (arXiv:1703.05175), with cosines for distances.

    Raises:
        FewShotError: a label has no clips.
    """
    support.require_every_label("class-mean")
    sums = torch.zeros(len(support.labels), support.features.shape[1])
    sums.index_add_(0, support.targets, support.features)
    columns = torch.arange(len(support.labels))
    return LinearReadout(
        support.labels, support.protocol("class-mean"), F.normalize(sums, dim=1), columns, torch.zeros(len(columns))
    )


def text_held(
    support: Support, text: ZeroShotClassifier | None, strength: float | str = STRENGTH, scale: float = SCALE
) -> LinearReadout:
    """A classifier that starts at the text vectors and is held near them.

    With the text vectors t as the mean of a normal prior, it minimises

        sum over clips of cross-entropy(softmax(scale * cosines with w), label) + strength / 2 * sum of |w - t|^2,

    with the clips of each label weighted to count the same, so that how often a word was recorded says nothing.
    Without clips, or with an endless strength, it is the zero-shot classifier; a label without clips keeps its text
    vector. Where a word has several text vectors (pronunciations), each moves, and the word scores as the best.

    Args:
        support: the clips.
        text: the zero-shot classifier of the same labels.
        strength: of the hold. "speakers" chooses it on the clips themselves, by cross-validation over their speakers.
        scale: of the cosines, an inverse temperature.

    Raises:
        FewShotError: there is no text classifier, or it has other labels; the strength is not above 0.
    """
    text = _needed(text, "text-held")
    if text.labels != support.labels:
        raise FewShotError(f"text vectors of {len(text.labels)} labels for clips of {len(support.labels)} labels")
    if strength == "speakers":
        strength = chosen_strength(support, text, scale)
    if isinstance(strength, str) or not (strength > 0 and scale > 0):
        raise FewShotError(f"strength {strength}, scale {scale}; expected numbers above 0, or the strength 'speakers'")
    weights = _held(support.features, support.targets, support.weights, text, strength, scale)
    protocol = support.protocol("text-held", text.templates)
    return LinearReadout(support.labels, protocol, weights, text.owners, torch.zeros(len(weights)))


def chosen_strength(support: Support, text: ZeroShotClassifier, scale: float = SCALE) -> float:
    """The strength under which most clips of speakers that were left out are recognised, among `STRENGTHS`.

    Of those that recognise the same number it is the largest. Likelihood would not do: weights that only grow longer
    raise it. With fewer than two speakers there is nothing to leave out, and it is `STRENGTH`.
    """
    names = sorted({clip.speaker or clip.content for clip in support.clips})
    if len(names) < 2:
        return STRENGTH
    lots = np.random.default_rng(0).permutation(len(names)) % FOLDS
    fold_of = dict(zip(names, lots.tolist(), strict=True))
    folds = torch.tensor([fold_of[clip.speaker or clip.content] for clip in support.clips])
    found, most = STRENGTH, -1
    for strength in sorted(STRENGTHS, reverse=True):
        hits = 0
        for fold in folds.unique():
            inside, outside = folds != fold, folds == fold
            weights = _held(
                support.features[inside], support.targets[inside], support.weights[inside], text, strength, scale
            )
            products = _best_of(support.features[outside] @ weights.T, text.owners, len(support.labels))
            hits += int((products.argmax(1) == support.targets[outside]).sum())
        if hits > most:
            found, most = strength, hits
    return found


def _held(
    features: Tensor, targets: Tensor, counts: Tensor, text: ZeroShotClassifier, strength: float, scale: float
) -> Tensor:
    """The (rows, dim) weights that minimise the loss of `text_held`. In float64, so that all machines agree."""
    start, clips = text.weights.double(), features.double()
    heard = torch.zeros(len(text.labels), dtype=torch.bool)
    heard[targets] = True
    free = heard[text.owners]  # the rows that may move

    def moved(flat: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        step = torch.from_numpy(flat.copy()).view(-1, start.shape[1]).requires_grad_()
        return step, start.index_add(0, free.nonzero()[:, 0], step)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        step, weights = moved(flat)
        logits = _best_of(scale * clips @ weights.T, text.owners, len(text.labels))
        total = F.cross_entropy(logits, targets, reduction="none") @ counts + strength / 2 * step.square().sum()
        total.backward()
        assert step.grad is not None
        return total.item(), step.grad.numpy().ravel()

    if not len(targets):
        return text.weights
    # scipy's, for torch's optimisers take seconds to import.
    nowhere = np.zeros(int(free.sum()) * start.shape[1])
    found = minimize(loss, nowhere, jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-10})
    return moved(found.x)[1].detach().float()


def _best_of(products: Tensor, owners: Tensor, labels: int) -> Tensor:
    """(n, rows) -> (n, labels): of the rows of one label the best."""
    best = torch.full((len(products), labels), -torch.inf, dtype=products.dtype)
    return best.scatter_reduce(1, owners.expand_as(products), products, "amax")


def _needed(text: ZeroShotClassifier | None, readout: str) -> ZeroShotClassifier:
    if text is None:
        raise FewShotError(f"the read-out '{readout}' starts at text vectors, and there is no encoder to make them")
    return text
