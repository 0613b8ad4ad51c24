"""Linear classifiers from labelled clips alone: logistic regression, and a linear head trained by AdamW.

The one file of the read-outs that needs scikit-learn (the extra `few-shot`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from kws_imagebind.readouts.few_shot import LinearReadout
from kws_imagebind.readouts.support import FewShotError, Support
from kws_imagebind.registry import to_install

ITERATIONS = 100  # MTEB's max_iter

# ImageBind, appendix B.2 (arXiv:2305.05665); the batch is ours.
RATE, DECAY, EPOCHS, BATCH = 1.6e-3, 0.05, 50, 16


def logistic(support: Support, iterations: int = ITERATIONS) -> LinearReadout:
    """Multinomial logistic regression with scikit-learn's defaults (L2, C = 1), as MTEB's `AudioClassification` has it.

    The clips of each label are weighted to count the same; with as many clips of each, as MTEB draws, that changes
    nothing. Its scores are log-odds up to a constant a clip.

    Raises:
        FewShotError: scikit-learn is not installed, or a label has no clips.
    """
    support.require_every_label("logistic")
    classifier = _logistic_regression()(max_iter=iterations, class_weight="balanced")
    with _quiet():
        classifier.fit(support.features.numpy(), support.targets.numpy())
    weights, bias = classifier.coef_, classifier.intercept_
    if len(support.labels) == 2:  # scikit-learn keeps one row for two classes
        weights, bias = np.vstack([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    return LinearReadout(
        support.labels,
        support.protocol("logistic"),
        torch.from_numpy(weights).float(),
        torch.arange(len(support.labels)),
        torch.from_numpy(bias).float(),
    )


def linear_head(support: Support, seed: int = 0) -> LinearReadout:
    """A linear layer on the vectors, trained as ImageBind's few-shot classifiers are: AdamW, 50 epochs.

    Args:
        support: the clips.
        seed: of the first weights and of the order of the clips.

    Raises:
        FewShotError: a label has no clips.
    """
    support.require_every_label("linear-head")
    random = torch.Generator().manual_seed(seed)
    head = torch.nn.utils.skip_init(torch.nn.Linear, support.features.shape[1], len(support.labels))
    with torch.no_grad():
        head.weight.normal_(0, 0.01, generator=random)
        head.bias.zero_()
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(support), generator=random).split(BATCH):
            optimiser.zero_grad()
            F.cross_entropy(head(support.features[rows]), support.targets[rows]).backward()
            optimiser.step()
    return LinearReadout(
        support.labels,
        support.protocol("linear-head"),
        head.weight.detach(),
        torch.arange(len(support.labels)),
        head.bias.detach(),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without scikit-learn's notices that one clip a class is few, and that MTEB's 100 iterations may be."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The number of unique classes", category=UserWarning)
        yield


def _logistic_regression() -> Any:
    try:
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError as error:
        raise FewShotError(
            f"logistic regression needs scikit-learn; {to_install('scikit-learn', 'few-shot')}"
        ) from error
    return LogisticRegression
