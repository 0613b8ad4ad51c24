"""Read-outs by name.

A registered object takes a `Support` and, if it has a parameter `text`, the zero-shot classifier of the same labels; it
returns a `Readout`.
"""

from __future__ import annotations

from typing import Any

from kws_imagebind.readouts.base import Readout
from kws_imagebind.readouts.support import FewShotError, Support
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.registry import Entry, Registry, call_with

READOUTS = Registry(
    "read-out",
    "kws_imagebind.readouts",
    (
        Entry(
            "zero-shot",
            "the cosine with the prompts of each word; learns from no clips",
            "kws_imagebind.readouts.few_shot:zero_shot",
        ),
        Entry(
            "class-mean",
            "the cosine with the mean of each word's clips",
            "kws_imagebind.readouts.few_shot:class_mean",
        ),
        Entry(
            "logistic",
            "logistic regression on the clips, as MTEB has it (extra 'few-shot')",
            "kws_imagebind.readouts.linear_probe:logistic",
        ),
        Entry(
            "text-held",
            "starts at the text vectors and is held near them; words without clips keep theirs",
            "kws_imagebind.readouts.few_shot:text_held",
        ),
        Entry(
            "linear-head",
            "a linear layer trained by AdamW, as ImageBind's few-shot tables have it",
            "kws_imagebind.readouts.linear_probe:linear_head",
        ),
    ),
    FewShotError,
)
LEARNING = ("class-mean", "logistic", "text-held")  # what `--readout all` stands for


def fit_readout(name: str, support: Support, text: ZeroShotClassifier | None = None, **options: Any) -> Readout:
    """A read-out by name, fitted to clips.

    Args:
        name: a registered name, or your own as "FILE.py:NAME" or "module:NAME".
        support: the clips.
        text: the zero-shot classifier of the same labels, for read-outs that use text.
        options: those of the read-out, such as `strength`.

    Raises:
        FewShotError: there is none of that name, or it cannot learn from these clips.
    """
    return call_with(READOUTS.find(name).thing, support=support, text=text, **options)
