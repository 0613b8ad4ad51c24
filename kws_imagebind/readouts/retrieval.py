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
        groups: what the speakers are, where they are something else: captions are grouped by their clips.
    """

    name: str
    scores: NDArray[np.float32]
    relevance: NDArray[np.bool_]
    allowed: NDArray[np.bool_] | None = None
    query_speakers: tuple[str | None, ...] = ()
    document_speakers: tuple[str | None, ...] = ()
    groups: str = "speakers"


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
        audio: the clips, or pictures.
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
    found, kind = [], audio.dataset.kind
    if text is not None:
        words = np.array([label.casefold() for label in text.labels])
        scores, same = text(audio).values.numpy(), words[:, None] == said
        found.append(Direction(f"text to {kind}", scores.T, same, document_speakers=speakers))
        found.append(Direction(f"{kind} to text", scores, same.T, query_speakers=speakers))
    features = audio.features.numpy()
    between, others = features @ features.T, ~np.eye(len(features), dtype=bool)
    same = said[:, None] == said
    found.append(Direction(f"{kind} to {kind}", between, same, others, speakers, speakers))
    if all(speakers) and len(set(speakers)) > 1:
        who = np.array(speakers)
        apart = who[:, None] != who
        found.append(Direction(f"{kind} to {kind} of other speakers", between, same, apart, speakers, speakers))
    if images is not None:
        shown = np.array([label.casefold() for label in image_labels])
        scores = images.numpy() @ features.T
        same = shown[:, None] == said
        found.append(Direction("image to audio", scores, same, document_speakers=speakers))
        found.append(Direction("audio to image", scores.T, same.T, query_speakers=speakers))
    return found


def caption_directions(audio: Embeddings, captions: Tensor, owners: Sequence[int]) -> list[Direction]:
    """Captions and what they describe, each way: the protocol of Clotho and AudioCaps.

    A caption has one clip to find; a clip has all its captions. Captions of one clip are drawn together.

    Args:
        audio: the clips, or pictures.
        captions: (m, dim) unit vectors.
        owners: (m,) the row of the clip that each caption describes.
    """
    kind, rows = audio.dataset.kind, np.asarray(owners)
    scores = captions.numpy() @ audio.features.numpy().T
    same = rows[:, None] == np.arange(len(audio))
    keys = tuple(utterance.key for utterance in audio.utterances)
    whose = tuple(keys[row] for row in rows)
    groups = "clips" if kind == "audio" else "pictures"
    return [
        Direction(f"text to {kind}", scores, same, query_speakers=whose, groups=groups),
        Direction(f"{kind} to text", scores.T, same.T, query_speakers=keys, groups=groups),
    ]
