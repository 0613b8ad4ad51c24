"""Who searches for what: the score and relevance matrices of every direction that an encoder has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kws_imagebind.embeddings.embed import Embeddings
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier


@dataclass(frozen=True)
class Direction:
    """Queries of one kind and documents of another.

    Attributes:
        name: "text to audio".
        scores: (queries, documents) cosines.
        relevance: (queries, documents) true where both say the same word.
        allowed: (queries, documents) false where a document is left out, such as the query itself; None for all.
        query_speakers: of each query, where queries are clips; empty where they are words.
        document_speakers: of each document, where documents are clips; empty where they are words.
    """

    name: str
    scores: NDArray[np.float32]
    relevance: NDArray[np.bool_]
    allowed: NDArray[np.bool_] | None = None
    query_speakers: tuple[str | None, ...] = ()
    document_speakers: tuple[str | None, ...] = ()


def directions(
    audio: Embeddings,
    text: ZeroShotClassifier | None = None,
    images: Tensor | None = None,
    image_labels: Sequence[str] = (),
) -> list[Direction]:
    """Every direction between clips, the words of their data set, and images.

    A word is one query or document, and scores as its best pronunciation. Among clips the query itself is left out;
    where speakers are known, the clips of the query's speaker are left out in a direction of its own, for a voice is
    found more easily than a word.

    Args:
        audio: the clips.
        text: the words of the clips' data set; without it there are no directions with text.
        images: (m, dim) unit vectors of the same space.
        image_labels: the word that each image shows.

    Raises:
        ValueError: there is not one label for each image.
    """
    if images is not None and len(images) != len(image_labels):
        raise ValueError(f"{len(image_labels)} labels for {len(images)} images; expected one for each")
    said = np.array([utterance.label.casefold() for utterance in audio.utterances])
    speakers = tuple(utterance.speaker for utterance in audio.utterances)
    found = []
    if text is not None:
        words = np.array([label.casefold() for label in text.labels])
        scores, same = text(audio).values.numpy(), words[:, None] == said
        found.append(Direction("text to audio", scores.T, same, document_speakers=speakers))
        found.append(Direction("audio to text", scores, same.T, query_speakers=speakers))
    features = audio.features.numpy()
    between, others = features @ features.T, ~np.eye(len(features), dtype=bool)
    same = said[:, None] == said
    found.append(Direction("audio to audio", between, same, others, speakers, speakers))
    if all(speakers) and len(set(speakers)) > 1:
        who = np.array(speakers)
        apart = who[:, None] != who
        found.append(Direction("audio to audio of other speakers", between, same, apart, speakers, speakers))
    if images is not None:
        shown = np.array([label.casefold() for label in image_labels])
        scores = images.numpy() @ features.T
        same = shown[:, None] == said
        found.append(Direction("image to audio", scores, same, document_speakers=speakers))
        found.append(Direction("audio to image", scores.T, same.T, query_speakers=speakers))
    return found
