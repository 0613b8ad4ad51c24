"""MTEB's own few-shot classification on vectors of ours, to hold `few-shot --protocol mteb` against.

    pip install mteb
    python -m benchmarks.mteb_few_shot --support training.parquet validation.parquet --data testing.parquet

The tables are those of `kws-imagebind embed`. MTEB's evaluator runs unchanged (`AbsTaskClassification`: 8 clips a
label, 10 draws, logistic regression); a clip is its name there, and the encoder looks its vector up.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kws_imagebind.embeddings import table
from kws_imagebind.embeddings.embed import Embeddings
from kws_imagebind.evaluation.learning_curve import learning_curve
from kws_imagebind.readouts.support import sampling
from kws_imagebind.text.keywords import parse_keywords


def by_mteb(support: Sequence[Embeddings], reported: Embeddings) -> list[float]:
    """The accuracy of each of MTEB's draws."""
    import mteb
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.classification import AbsTaskClassification
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder

    vectors: dict[str, np.ndarray] = {}

    def rows(parts: Sequence[Embeddings]) -> Any:
        texts, labels = [], []
        for part in parts:
            for utterance, vector in zip(part.utterances, part.features.numpy(), strict=True):
                if utterance.label in reported.dataset.labels:
                    vectors[utterance.key] = vector
                    texts.append(utterance.key)
                    labels.append(reported.dataset.labels.index(utterance.label))
        return Dataset.from_dict({"text": texts, "label": labels})

    class Task(AbsTaskClassification):
        metadata = mteb.get_task("Banking77Classification").metadata
        data_loaded = True

    class Encoder(AbsEncoder):
        mteb_model_meta = ModelMeta.create_empty({"name": "kws-imagebind/table", "revision": "1"})

        def __init__(self) -> None:
            pass

        def encode(self, inputs: Any, **_: Any) -> np.ndarray:
            return np.stack([vectors[key] for batch in inputs for key in batch["text"]])

    task = Task()
    task.dataset = DatasetDict({"train": rows(support), "test": rows([reported])})
    found = task.evaluate(Encoder(), "test", encode_kwargs={"batch_size": 256})
    (scores,) = found.values()
    return [each["accuracy"] for each in scores["scores_per_experiment"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--support", nargs="+", type=Path, required=True, metavar="TABLE")
    parser.add_argument("--data", type=Path, required=True, metavar="TABLE")
    parser.add_argument("--keywords", metavar="A,B,C", help="those that have clips to learn from")
    arguments = parser.parse_args()
    support, reported = [table.load(path) for path in arguments.support], table.load(arguments.data)
    if arguments.keywords:
        reported = table.restricted(reported, parse_keywords(arguments.keywords))
    theirs = by_mteb(support, reported)
    (point,) = learning_curve(support, reported, ("logistic",), sampling("mteb")).points
    for name, draws in (("MTEB", theirs), ("few-shot --protocol mteb", point.draws)):
        print(
            f"{name:<25} mean {100 * np.mean(draws):.2f} %, {len(draws)} draws from {100 * min(draws):.1f} to "
            f"{100 * max(draws):.1f}, standard deviation {100 * np.std(draws, ddof=1):.2f}; n = {len(reported):,}"
        )


if __name__ == "__main__":
    main()
