"""What a run uses: the encoder, the clips and the prompts, chosen by name or found out ("auto").

"auto" is ImageBind on the whole of Speech Commands where there is a GPU to run it and a network to fetch what is
missing, and else the bundled encoder on the bundled sample. Without a GPU no network is asked.
"""

from __future__ import annotations

import http.client
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from kws_imagebind.datasets import Dataset, load_dataset
from kws_imagebind.datasets.registry import DATASETS
from kws_imagebind.datasets.speech_commands import SPLITS, URL, VERSIONS, find_corpus
from kws_imagebind.encoders import ENCODERS, Encoder, EncoderError, load_encoder
from kws_imagebind.encoders.base import resolve_device
from kws_imagebind.encoders.imagebind.encoder import LOADED
from kws_imagebind.encoders.imagebind.weights import PUBLISHED, Weights
from kws_imagebind.registry import did_you_mean
from kws_imagebind.text.prompts import BARE, TEMPLATE_SETS, check_templates, template_set
from kws_imagebind.text.tasks import TASKS

AUTO = "auto"
VERSION = "v0.02"  # of Speech Commands
ROOT = Path("data")
PROBE_SECONDS = 5.0  # for a server to answer, name look-up included


class SettingsError(ValueError):
    """Settings that make no sense; the message says which and what would do."""


@dataclass(frozen=True)
class Settings:
    """Everything that is needed to run an evaluation again. `str()` says it in a few lines.

    Attributes:
        encoder: one of `ENCODERS`.
        data: one of `DATASETS`.
        split: of Speech Commands; None for other data sets.
        task: a named task, or words with commas between them.
        templates: sentences with '{}' for the word; None leaves the encoder its own.
        clips: how many are drawn; None for all.
        seed: of the draw.
        device: where the encoder runs: "cpu", "cuda", "mps".
        root: the folder of the data set; None for the bundled sample.
        reason: why these were chosen.
    """

    encoder: str
    data: str
    split: str | None
    task: str
    templates: tuple[str, ...] | None
    clips: int | None
    seed: int
    device: str
    root: Path | None
    reason: str

    def load_encoder(self) -> Encoder:
        """The encoder; ImageBind's weights are fetched (1.8 GB, after showing their licence) if they are not here."""
        if self.encoder == "imagebind" and not has_weights():
            from kws_imagebind.encoders.imagebind.download import download

            download(modalities=LOADED)
        return load_encoder(self.encoder, device=self.device)

    def load_dataset(self, split: str | None = None) -> Dataset:
        """The clips; Speech Commands is fetched (2.4 GB) if it is not here.

        Args:
            split: of Speech Commands, if not the chosen one.
        """
        official = self.data == "speech-commands"
        named = "," not in self.task
        dataset = load_dataset(
            self.data,
            root=self.root,
            split=(split or self.split) if official else None,
            task=self.task if named else None,
            keywords=None if named else self.task,
            download=official,
        )
        return dataset.subset(self.clips, self.seed) if self.clips else dataset

    def __str__(self) -> str:
        clips = f"{self.clips:,} clips, drawn with seed {self.seed}" if self.clips else "all clips"
        split = f", {self.split} split" if self.split else ""
        prompts = "the encoder's own" if self.templates is None else ", ".join(f"'{each}'" for each in self.templates)
        rows = (
            ("encoder", f"{self.encoder} on {self.device}"),
            ("clips", f"{self.data}{split}, {clips}"),
            ("task", self.task),
            ("prompts", prompts),
            ("because", self.reason),
        )
        return "\n".join(f"{name:<9}{value}" for name, value in rows)


def settle(
    encoder: str = AUTO,
    data: str = AUTO,
    split: str = "testing",
    task: str = "v2-35",
    templates: str = AUTO,
    clips: int = 0,
    seed: int = 0,
    device: str = AUTO,
    root: str | Path = ROOT,
    seconds: float = PROBE_SECONDS,
) -> Settings:
    """Settings with every "auto" decided.

    >>> settle(device="cpu").encoder, settle(device="cpu").data
    ('phonebind', 'sample')

    Args:
        encoder: "phonebind", "imagebind" or "auto".
        data: "sample", "speech-commands" or "auto".
        split: of Speech Commands; the sample has none.
        task: a named task, or words with commas between them.
        templates: "auto" for the encoder's own, a named set, or sentences with '{}', '|' between them.
        clips: how many to draw, 0 for all.
        seed: of the draw.
        device: "cpu", "cuda", "mps" or "auto".
        root: the folder Speech Commands lies in or is fetched into.
        seconds: what each server has to answer.

    Raises:
        SettingsError: an unknown name, or a number of clips or a seed that is none.
        PromptError: a template has no place for the word.
        EncoderError: there is no such device here.
    """
    _check("encoder", encoder, (AUTO, *ENCODERS))
    _check("data set", data, (AUTO, *(name for name in DATASETS if name not in ("folder", "pictures"))))
    _check("split", split, SPLITS)
    if "," not in task:
        _check("task", task, tuple(TASKS), "; words of your own go with commas between them")
    if not isinstance(clips, int) or clips < 0:
        raise SettingsError(f"{clips!r} clips cannot be drawn; expected a whole number, or 0 for all")
    if not isinstance(seed, int):
        raise SettingsError(f"seed {seed!r} is not a whole number; expected one, such as 0")
    place, root = resolve_device(device).type, Path(root)
    large, reason = False, "it was asked for"
    if AUTO in (encoder, data):
        missing = _missing(encoder, data, root)
        large, reason = _decide(place, missing, seconds)
    chosen = ("imagebind" if large else "phonebind") if encoder == AUTO else encoder
    source = ("speech-commands" if large else "sample") if data == AUTO else data
    official = source == "speech-commands"
    return Settings(
        encoder=chosen,
        data=source,
        split=split if official else None,
        task=task,
        templates=_templates(templates),
        clips=clips or None,
        seed=seed,
        device=place,
        root=root if official else None,
        reason=reason,
    )


def has_weights() -> bool:
    """Whether ImageBind's weights are on this disk."""
    try:
        Weights.find(LOADED)
    except EncoderError:
        return False
    return True


def reachable(url: str, seconds: float = PROBE_SECONDS) -> bool:
    """Whether a server gives out a file; never waits longer than this, be it for a name, an answer or a proxy."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                answers.append(answer.status < 400)
        except (OSError, ValueError, http.client.HTTPException):
            answers.append(False)

    # A thread of its own, because looking up a name has no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers == [True]


def _decide(place: str, missing: dict[str, str], seconds: float) -> tuple[bool, str]:
    """Whether the large run can be had, and why."""
    if place == "cpu":
        return False, "there is no GPU in use, so nothing is fetched"
    for what, url in missing.items():
        if not reachable(url, seconds):
            return False, f"there is a GPU ({place}), but {what} cannot be fetched from here"
    found = "what is missing can be fetched" if missing else "everything is here already"
    return True, f"there is a GPU ({place}), and {found}"


def _missing(encoder: str, data: str, root: Path) -> dict[str, str]:
    """What the large run would have to fetch, and from where."""
    missing = {}
    if encoder in (AUTO, "imagebind") and not has_weights():
        missing["ImageBind"] = PUBLISHED.url
    if data in (AUTO, "speech-commands") and find_corpus(root, VERSION) is None:
        missing["Speech Commands"] = URL.format(VERSIONS[VERSION].folder)
    return missing


def _templates(text: str) -> tuple[str, ...] | None:
    if text.strip() in ("", AUTO):
        return None
    if BARE not in text:
        _check("set of prompts", text, (AUTO, *TEMPLATE_SETS))
        return template_set(text)
    return check_templates([template.strip() for template in text.split("|")])


def _check(kind: str, name: str, known: tuple[str, ...], remedy: str = "") -> None:
    if name not in known:
        choice = f"available: {', '.join(known)}{remedy}"
        raise SettingsError(f"unknown {kind} '{name}'{did_you_mean(name, known)}; {choice}")
