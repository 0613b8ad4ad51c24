"""Enrolled words: what a person's own examples add to the text of a word, kept in one small file.

A sound x scores the mean of its cosine with the text vector t and of its cosines with n examples a_1 ... a_n,

    s(x) = (h t.x + n (g a.x + o)) / (h + n),    a = (a_1 + ... + a_n) / n.

The weight h holds a word near its text, as the prior of `text-held` does. Cosines between two recordings are larger
than those between a recording and a text (the modality gap of arXiv:2203.02053), for short words more than for long
ones. The gain g and the offset o take that away: recordings of other words, those of the bundled sample, score the
same mean and spread with the examples as with the text. This is the zero normalisation of speaker verification
(Auckenthaler, Carey and Lloyd-Thomas 2000, doi:10.1006/dspr.1999.0360). Without it every enrolled word would win
against words that are only typed, and thresholds that were fitted for texts would let everything through.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from kws_imagebind.audio.files import decode, read_bytes
from kws_imagebind.audio.signal import AudioError, is_silent
from kws_imagebind.datasets.base import ClipIdentity, listed
from kws_imagebind.datasets.registry import load_dataset
from kws_imagebind.embeddings.embed import embed
from kws_imagebind.encoders.base import Encoder, check_vectors
from kws_imagebind.encoders.confidence import THRESHOLD
from kws_imagebind.files import explaining, whole
from kws_imagebind.readouts.base import Average, HasFeatures, Readout, ScoreProtocol, Scores
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.text.keywords import check_keywords, label

SUFFIX = ".kws"
OTHER_FILES = (".csv", ".tsv", ".txt", ".json", ".yaml", ".yml")  # that people write lists of words in
FORMAT = 1
# Chosen on training and validation clips of people who said a word several times (docs/vectors.md); 2 and 4 do alike.
HOLD = 3.0

Words = Sequence[str] | str


class EnrolmentError(ValueError):
    """Enrolled words that cannot be made, read or used; the message says why and what to do."""


@dataclass(frozen=True)
class EnrolledWord:
    """A word with its text and its examples.

    Attributes:
        label: the word.
        text: (variants, dim) a vector for each way to say it.
        audio: (examples, dim) of its recordings; there may be none.
        clips: who and what the examples are.
        files: the names of the recordings, without their folders.
        threshold: the least score, from 0 to 1, at which it is taken to be said.
        gain: of cosines with the examples, and
        offset: added to them, so that they compare with those with the text.
        spoken: what is said: the word, or ARPAbet between slashes.
    """

    label: str
    text: Tensor
    audio: Tensor
    clips: tuple[ClipIdentity, ...] = ()
    files: tuple[str, ...] = ()
    threshold: float = THRESHOLD
    gain: float = 1.0
    offset: float = 0.0
    spoken: str = ""

    def prototypes(self, hold: float) -> Tensor:
        """(variants, dim) the weights of the word; its text vectors where there are no examples."""
        count = len(self.audio)
        return (hold * self.text + self.gain * self.audio.sum(0)) / (hold + count) if count else self.text

    def bias(self, hold: float) -> float:
        """What is added to the products with the prototypes."""
        return self.offset * len(self.audio) / (hold + len(self.audio))

    def normalised(self, background: Tensor) -> EnrolledWord:
        """The word with the gain and offset under which (n, dim) vectors of other words score as with its text."""
        if not len(self.audio):
            return self
        text, audio = (background @ self.text.T).amax(1), background @ self.audio.mean(0)
        gain = float(text.std() / audio.std().clamp_min(1e-6))
        return replace(self, gain=gain, offset=float(text.mean() - gain * audio.mean()))

    def without(self, example: int) -> EnrolledWord:
        """The word without one of its examples."""
        kept = [index for index in range(len(self.audio)) if index != example]
        clips, files = tuple(self.clips[index] for index in kept), tuple(self.files[index] for index in kept)
        return replace(self, audio=self.audio[kept], clips=clips, files=files)


@dataclass(frozen=True)
class Enrolment:
    """Words that a person typed and recorded; a `Readout`.

    Attributes:
        words: in the order of the columns.
        encoder: name of the encoder.
        fingerprint: of what its audio vectors depend on.
        hold: the weight of the text vector, in examples.
        templates: of the prompts.
        average: of several templates.
        labels: of the words.
        spoken: what is said of each.
        protocol: few-shot, or zero-shot where no word has an example.
    """

    words: tuple[EnrolledWord, ...]
    encoder: str
    fingerprint: str
    hold: float = HOLD
    templates: tuple[str, ...] = ()
    average: Average = "embedding"
    labels: tuple[str, ...] = field(init=False, compare=False)
    spoken: tuple[str, ...] = field(init=False, compare=False)
    protocol: ScoreProtocol = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(word.label for word in self.words))
        object.__setattr__(self, "spoken", tuple(word.spoken for word in self.words))
        counts = {len(word.audio) for word in self.words}
        support = tuple(clip for word in self.words for clip in word.clips)
        object.__setattr__(
            self,
            "protocol",
            ScoreProtocol(
                kind="few-shot" if support else "zero-shot",
                readout="enrolment" if support else "zero-shot",
                templates=self.templates,
                average=self.average,
                shots=counts.pop() if len(counts) == 1 and support else None,
                support=support,
            ),
        )

    @cached_property
    def weights(self) -> Tensor:
        """(variants, dim) the prototypes; a word has one for each way to say it."""
        return torch.cat([word.prototypes(self.hold) for word in self.words])

    @cached_property
    def owners(self) -> Tensor:
        """(variants,) the word that each row of `weights` belongs to."""
        return torch.tensor([index for index, word in enumerate(self.words) for _ in word.text])

    @cached_property
    def bias(self) -> Tensor:
        """(variants,) what is added to the products with `weights`."""
        return torch.tensor([word.bias(self.hold) for word in self.words])[self.owners]

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """The least score of each word."""
        return {word.label: word.threshold for word in self.words}

    def __len__(self) -> int:
        return len(self.words)

    def __call__(self, audio: HasFeatures | Tensor, /) -> Scores:
        """Scores of embeddings, or of their (n, dim) features, on the scale of cosines with a text."""
        features = audio if isinstance(audio, Tensor) else audio.features
        products = features @ self.weights.T + self.bias
        values = torch.full((len(features), len(self.words)), -1.0)
        values = values.scatter_reduce(1, self.owners.expand_as(products), products, "amax")
        return Scores(values, self.labels, self.protocol)

    def updated(self, other: Enrolment) -> Enrolment:
        """These words with those of another enrolment, which take the place of words of the same label.

        Raises:
            EnrolmentError: the two are of different encoders or prompts.
        """
        if (self.fingerprint, self.templates, self.average) != (other.fingerprint, other.templates, other.average):
            raise EnrolmentError(
                f"the words so far are for {self.encoder} ({self.fingerprint}) and the new ones for {other.encoder} "
                f"({other.fingerprint}), or their prompts differ; enrol all of them again in a new file"
            )
        new = {word.label.casefold(): word for word in other.words}
        kept = tuple(new.pop(word.label.casefold(), word) for word in self.words)
        words = (*kept, *new.values())
        return replace(self, words=words)

    def chosen(self, keywords: Sequence[str], encoder: Encoder) -> Enrolment:
        """Typed words, each with its examples if it is enrolled.

        Raises:
            EnrolmentError, KeywordError, PronunciationError: as `enrol`.
        """
        self.check(encoder)
        own = {word.label.casefold(): word for word in self.words}
        typed = enrol(encoder, dict.fromkeys(keywords, ()), templates=self.templates, average=self.average)
        return replace(self, words=tuple(own.get(word.label.casefold(), word) for word in typed.words))

    def without(self, labels: Sequence[str]) -> Enrolment:
        """The other words.

        Raises:
            EnrolmentError: one of these is not enrolled, or none would be left.
        """
        gone = {each.casefold() for each in labels}
        unknown = gone - {each.casefold() for each in self.labels}
        if unknown:
            raise EnrolmentError(f"{listed(sorted(unknown))} is not enrolled; the words are {listed(self.labels)}")
        kept = tuple(word for word in self.words if word.label.casefold() not in gone)
        if not kept:
            raise EnrolmentError("no word would be left; delete the file instead")
        return replace(self, words=kept)

    def own_scores(self) -> list[tuple[str, str, float, str, float]]:
        """How well each example fits the words when its own word is enrolled without it.

        Returns:
            (word, file, score with the own word, the best other word, its score) of each example; where there is no
            other word, "" and -1.
        """
        found = []
        for column, word in enumerate(self.words):
            for example, name in enumerate(word.files):
                words = (*self.words[:column], word.without(example), *self.words[column + 1 :])
                values = replace(self, words=words)(word.audio[example : example + 1]).values[0]
                own = float(values[column])
                values[column] = -1.0
                other = int(values.argmax())
                found.append(
                    (word.label, name, own, "" if other == column else self.labels[other], float(values[other]))
                )
        return found

    def check(self, encoder: Encoder) -> None:
        """Refuses an encoder whose vectors these prototypes do not compare with.

        Raises:
            EnrolmentError: it is another one.
        """
        if _fingerprint(encoder) != self.fingerprint:
            raise EnrolmentError(
                f"these words were enrolled for {self.encoder} ({self.fingerprint}), not for {encoder.name} "
                f"({_fingerprint(encoder)}); take that encoder and precision, or enrol the recordings again"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the words to a file of some kilobytes, without the recordings. An interrupted call leaves no file.

        Raises:
            EnrolmentError: the name does not end in '.kws'.
        """
        path = checked_name(path)
        tensors = {}
        for index, word in enumerate(self.words):
            tensors[f"{index}.text"], tensors[f"{index}.audio"] = word.text.contiguous(), word.audio.contiguous()
        about = {
            "format": FORMAT,
            "encoder": self.encoder,
            "fingerprint": self.fingerprint,
            "hold": self.hold,
            "templates": self.templates,
            "average": self.average,
            "words": [
                {
                    "label": word.label,
                    "spoken": word.spoken,
                    "threshold": word.threshold,
                    "gain": word.gain,
                    "offset": word.offset,
                    "files": word.files,
                    "clips": [[clip.content, clip.speaker] for clip in word.clips],
                }
                for word in self.words
            ],
        }
        with whole(path) as part:
            part.write_bytes(save(tensors, {"kws_imagebind": json.dumps(about)}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Enrolment:
        """The words of a file.

        Raises:
            EnrolmentError: the file is damaged, or was not made by `save`.
            FileProblem: it is missing or cannot be read.
        """
        path = checked_name(path)
        with explaining(path, "read"):
            data = path.read_bytes()
        try:
            about, tensors = _metadata(data), load(data)
            if about["format"] > FORMAT:
                raise EnrolmentError(f"'{path}' was written by a later version; update kws-imagebind")
            words = tuple(_word(each, index, tensors) for index, each in enumerate(about["words"]))
            return cls(
                words,
                str(about["encoder"]),
                str(about["fingerprint"]),
                float(about["hold"]),
                tuple(about["templates"]),
                about["average"],
            )
        except (SafetensorError, KeyError, TypeError, ValueError, struct.error) as error:
            if isinstance(error, EnrolmentError):
                raise
            raise EnrolmentError(
                f"'{path}' does not hold enrolled words, or is damaged; write it with 'kws-imagebind enrol'"
            ) from error


def enrol(
    encoder: Encoder,
    words: Mapping[str, Sequence[str | os.PathLike[str]]],
    thresholds: Mapping[str, float] | None = None,
    templates: Sequence[str] | None = None,
    average: Average = "embedding",
) -> Enrolment:
    """Words with a person's own recordings of them.

    Args:
        encoder: what reads the texts and hears the recordings.
        words: labels, or 'label=/ARPAbet/', each with recordings of it; a word without any is known by its text alone.
        thresholds: the least score of words, from 0 to 1, where that is not to be 0.5.
        templates: of the prompts; by default the encoder's own.
        average: of several templates.

    Raises:
        EnrolmentError: a threshold is not from 0 to 1 or is for none of the words; a recording is listed twice.
        AudioError: a recording cannot be used, or holds only silence.
        KeywordError, PronunciationError: a word cannot be used.
    """
    keywords = check_keywords(list(words))
    labels = [label(keyword) for keyword in keywords]
    limits = _checked_thresholds(thresholds or {}, labels)
    text = ZeroShotClassifier(encoder, keywords, templates, average)
    seen: dict[bytes, str] = {}
    enrolled = []
    for index, name in enumerate(labels):
        heard = [_example(path, encoder, seen) for path in words[list(words)[index]]]
        vectors = torch.zeros(0, text.weights.shape[1])
        if heard:
            vectors = check_vectors(encoder.encode_audio([each[0] for each in heard]), len(heard), encoder)
        enrolled.append(
            EnrolledWord(
                name,
                text.weights[text.owners == index],
                vectors,
                tuple(each[1] for each in heard),
                tuple(each[2] for each in heard),
                limits.get(name.casefold(), THRESHOLD),
                spoken=text.spoken[index],
            )
        )
    return Enrolment(_normalised(enrolled, encoder), encoder.name, _fingerprint(encoder), HOLD, text.templates, average)


def _normalised(words: Sequence[EnrolledWord], encoder: Encoder) -> tuple[EnrolledWord, ...]:
    """Words whose cosines with examples compare with those with texts, by clips of other words."""
    if not any(len(word.audio) for word in words):
        return tuple(words)
    vectors, labels = background_of(encoder)
    return tuple(
        word.normalised(vectors[[label.casefold() != word.label.casefold() for label in labels]]) for word in words
    )


def background_of(encoder: Encoder) -> tuple[Tensor, tuple[str, ...]]:
    """(n, dim) vectors of the bundled sample's clips, and their words."""
    audio = embed(encoder, load_dataset("sample"))
    return audio.features, tuple(utterance.label for utterance in audio.utterances)


def word_scorer(
    encoder: Encoder,
    words: Words | Enrolment | os.PathLike[str],
    templates: Sequence[str] | None = None,
    average: Average = "embedding",
) -> ZeroShotClassifier | Enrolment:
    """What scores sounds against words: typed ones, or those of an enrolment or of its file.

    Args:
        encoder: of the sounds.
        words: labels, or 'label=/ARPAbet/', as a list or a text such as 'yes,no'; an `Enrolment`; a file NAME.kws.
        templates: of the prompts; enrolled words bring their own.
        average: of several templates.

    Raises:
        EnrolmentError: enrolled words are of another encoder, their file is damaged, or a file of another kind is
            named.
        KeywordError, PronunciationError, PromptError: typed words or templates cannot be used.
    """
    if isinstance(words, os.PathLike) or (isinstance(words, str) and words.endswith(SUFFIX)):
        words = Enrolment.load(words)
    if isinstance(words, str):
        _check_not_a_file(words)
    if isinstance(words, Enrolment):
        if templates:
            raise EnrolmentError("enrolled words bring their own templates; leave out the templates, or enrol again")
        words.check(encoder)
        return words
    return ZeroShotClassifier(encoder, words, templates, average)


def _check_not_a_file(words: str) -> None:
    """Says that a file of another kind was given for words."""
    if words.strip().lower().endswith(OTHER_FILES):
        raise EnrolmentError(
            f"'{words}' is the name of a file; expected words with commas between, such as 'yes,no', or a file "
            f"NAME{SUFFIX} that 'kws-imagebind enrol' wrote"
        )


def thresholds_of(scorer: Readout, threshold: float | None = None) -> dict[str, float]:
    """The least score of each word: `threshold` where it is given, else the word's own, else the usual one."""
    own = getattr(scorer, "thresholds", {})
    return {name: own.get(name, THRESHOLD) if threshold is None else threshold for name in scorer.labels}


def checked_name(path: str | os.PathLike[str]) -> Path:
    """A path whose name ends in `SUFFIX`.

    Raises:
        EnrolmentError: it does not.
    """
    if Path(path).suffix != SUFFIX:
        raise EnrolmentError(f"'{path}' is not a name for enrolled words; expected one like 'words{SUFFIX}'")
    return Path(path)


def _example(
    path: str | os.PathLike[str], encoder: Encoder, seen: dict[bytes, str]
) -> tuple[Tensor, ClipIdentity, str]:
    """A recording's waveform, who it is, and its name."""
    data, _ = read_bytes(path)
    digest = sha256(data).digest()
    if digest in seen:
        raise EnrolmentError(f"{path}: the same recording as {seen[digest]}; record the word again")
    seen[digest] = str(path)
    waveform = decode(data, path, encoder.sample_rate)
    if is_silent(waveform):
        raise AudioError(f"{path}: holds only silence, so there is no word to learn; record it again, closer")
    return waveform, ClipIdentity(digest.hex()), Path(path).name


def _checked_thresholds(thresholds: Mapping[str, float], labels: Sequence[str]) -> dict[str, float]:
    known = {name.casefold() for name in labels}
    for name, threshold in thresholds.items():
        if name.casefold() not in known:
            raise EnrolmentError(f"a threshold for '{name}', which is not among the words {listed(labels)}")
        if not 0 <= threshold <= 1:
            raise EnrolmentError(
                f"threshold {threshold} for '{name}'; expected a number from 0 to 1, such as {THRESHOLD}"
            )
    return {name.casefold(): threshold for name, threshold in thresholds.items()}


def _fingerprint(encoder: Encoder) -> str:
    """Of the audio vectors alone: the texts' vectors are kept in the file."""
    return str(getattr(encoder, "audio_fingerprint", encoder.fingerprint))


def _metadata(data: bytes) -> dict[str, Any]:
    """The JSON that `save` put beside the tensors: safetensors begins with the length of a header and the header."""
    (size,) = struct.unpack("<Q", data[:8])
    found = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["kws_imagebind"])
    if not isinstance(found, dict):
        raise TypeError("not an object")
    return found


def _word(about: dict[str, Any], index: int, tensors: dict[str, Tensor]) -> EnrolledWord:
    text, audio = tensors[f"{index}.text"].float(), tensors[f"{index}.audio"].float()
    files, clips = tuple(map(str, about["files"])), tuple(ClipIdentity(*each) for each in about["clips"])
    threshold, gain, offset = (float(about[name]) for name in ("threshold", "gain", "offset"))
    finite = bool(text.isfinite().all() and audio.isfinite().all() and math.isfinite(gain) and math.isfinite(offset))
    if not (len(audio) == len(files) == len(clips) and finite and 0 <= threshold <= 1 and len(text)):
        raise ValueError("what is said of a word does not fit its vectors")
    return EnrolledWord(str(about["label"]), text, audio, clips, files, threshold, gain, offset, str(about["spoken"]))
