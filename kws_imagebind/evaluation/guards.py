"""Clips that chose or trained anything and clips that are reported must not be the same.

One place decides it for support sets, thresholds, temperatures, prompts and checkpoints: by the content of the clips,
whatever their names are, and by speaker where a protocol promises that.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from kws_imagebind.datasets.base import ClipIdentity, Dataset, Utterance
from kws_imagebind.datasets.speech_commands import official_split
from kws_imagebind.embeddings.embed import Embeddings
from kws_imagebind.files import sha256
from kws_imagebind.metrics.classification import MetricError

CORPUS_NAME = re.compile(r"[0-9a-f]{8}_nohash_\d+")  # a clip of Speech Commands, in whatever folder


def check_disjoint(
    chosen: Iterable[ClipIdentity], reported: Iterable[ClipIdentity], what: str, speakers_apart: bool = False
) -> list[str]:
    """Refuses reported clips that chose or trained something.

    Args:
        chosen: the clips that did.
        reported: the clips of the evaluation.
        what: that was chosen, for the message: "the temperature".
        speakers_apart: whether a speaker in both is refused as well; otherwise it gives a warning.

    Returns:
        Warnings for the report.

    Raises:
        MetricError: a clip, or with `speakers_apart` a speaker, is in both.
    """
    chosen, reported = list(chosen), list(reported)
    contents = {clip.content for clip in chosen}
    shared = sum(clip.content in contents for clip in reported)
    if shared:
        raise MetricError(
            f"{shared:,} of the {len(reported):,} reported clips also chose {what}; a number on clips that chose says "
            "nothing about new ones, so report on others, such as --split testing"
        )
    people = {clip.speaker for clip in chosen} - {None}
    known = [clip for clip in reported if clip.speaker in people]
    if not known:
        return []
    told = (
        f"{len(known):,} of the {len(reported):,} reported clips are by {len({clip.speaker for clip in known}):,} "
        f"speakers whose other clips chose {what}"
    )
    if speakers_apart:
        raise MetricError(f"{told}; this protocol keeps speakers apart, so leave them out of one of the two")
    return [told]


def unseen(dataset: Dataset, support: Iterable[ClipIdentity]) -> Dataset:
    """A data set without the clips that a network learnt from, under whatever name, and without their speakers.

    Args:
        dataset: what is to be reported.
        support: the clips that trained or chose.

    Raises:
        MetricError: nothing is left.
    """
    support = list(support)
    contents, people = {clip.content for clip in support}, {clip.speaker for clip in support} - {None}
    strangers = [each for each in dataset.utterances if each.speaker not in people]
    kept = tuple(each for each in strangers if _content(each) not in contents)
    if len(kept) == len(dataset):
        return dataset
    if not kept:
        raise MetricError(
            f"the network learnt from all {len(dataset):,} clips or their speakers, so nothing is left to report; "
            "name other clips with --data"
        )
    note = f"{len(dataset) - len(kept):,} clips left out because the network learnt from them or their speakers"
    return replace(dataset, utterances=kept, note=f"{dataset.note}; {note}" if dataset.note else note)


def _content(utterance: Utterance) -> str:
    """As `embeddings.embed` makes the content key of a clip."""
    file = sha256(utterance.path)
    if utterance.crop is None:
        return file
    return hashlib.sha256(bytes.fromhex(file) + f"{utterance.crop}".encode()).hexdigest()


def check_other_clips(chosen: Dataset, reported: Dataset, what: str) -> None:
    """As `check_disjoint`, by file and crop, before any audio is read.

    Raises:
        MetricError: a clip is in both.
    """
    used = {(utterance.path, utterance.crop) for utterance in chosen.utterances}
    shared = sum((utterance.path, utterance.crop) in used for utterance in reported.utterances)
    if shared:
        split = f"split '{reported.split}'" if reported.split else f"data set '{reported.name}'"
        raise MetricError(
            f"{shared:,} of the {len(reported):,} clips of {split} are the validation clips that choose {what}; "
            "report on others, such as --split testing"
        )


def strays(audio: Embeddings) -> list[str]:
    """Clips that the rule of Speech Commands puts into its training or validation split."""
    if audio.dataset.name == "sample" or audio.dataset.split not in (None, "testing"):
        return []  # the sample's voices are synthetic and only borrow the manner of naming
    names = ((utterance.key, CORPUS_NAME.search(utterance.key)) for utterance in audio.utterances)
    return [key for key, name in names if name and official_split(name.group()) != "testing"]


def check_strays(audio: Embeddings) -> list[str]:
    """Warns of clips that belong to another split by the corpus's own rule, and refuses them in a testing split.

    Raises:
        MetricError: the split is "testing", and clips are not.
    """
    found = strays(audio)
    if found and audio.dataset.split == "testing":
        raise MetricError(
            f"{len(found):,} of {len(audio):,} clips of the testing split belong to another by the corpus's own rule, "
            f"such as {found[0]}; take them out of the list"
        )
    if found:
        return [
            f"{len(found):,} of {len(audio):,} clips have names of Speech Commands' training or validation split "
            f"(such as {found[0]}): a model may have learnt from them or been chosen with them"
        ]
    return []


def copies(audio: Embeddings) -> tuple[int, int]:
    """Clips with the very vector of another, and those of them whose label differs from that of the first."""
    first: dict[bytes, str] = {}
    repeated: Counter[bool] = Counter()
    for vector, utterance in zip(audio.features.numpy(), audio.utterances, strict=True):
        label = first.setdefault(vector.tobytes(), utterance.label)
        repeated[label != utterance.label] += 1
    return repeated.total() - len(first), repeated[True]
