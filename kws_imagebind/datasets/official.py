"""Speech Commands as a source: its versions, splits, twelve-label tasks and background noise."""

from __future__ import annotations

import math
from pathlib import Path

from kws_imagebind.datasets.base import DatasetError, Recordings, Request, Utterance
from kws_imagebind.datasets.challenge import EXTRA, TWELVE, find_test_set, load_twelve, silence_crops
from kws_imagebind.datasets.speech_commands import (
    SPLITS,
    VERSIONS,
    find_corpus,
    load_speech_commands,
    noise_folder,
    version_held,
    version_of,
)
from kws_imagebind.text.tasks import task

ROOT = Path("data")
FEWEST_CROPS = 20  # of background noise in an open-set test
DEFAULT_TASK = {"v0.02": "v2-35", "v0.01": "v1-30"}


class SpeechCommandsSource:
    """Google's Speech Commands as a `Source`."""

    splits: tuple[str, ...] = ("testing", *(split for split in SPLITS if split != "testing"))
    options: tuple[str, ...] = ("root", "version", "download")

    def load(self, request: Request) -> Recordings:
        root, split = request.root or ROOT, request.split or self.splits[0]
        version = self.version(request)
        load = load_twelve if request.task in TWELVE else load_speech_commands
        utterances, note = load(root, split, version, request.download)
        chosen = task(DEFAULT_TASK[version])
        return Recordings(utterances, chosen.keywords, chosen.name, split, note)

    def noise(self, request: Request, clips: int) -> tuple[Utterance, ...]:
        """Crops of the background noise, a tenth as many as the split has clips and at least 20."""
        count = max(FEWEST_CROPS, math.ceil(clips * EXTRA / 100))
        folder = noise_folder(request.root or ROOT, self.version(request))
        return silence_crops(folder, count, request.split or self.splits[0])

    def version(self, request: Request) -> str:
        """The version asked for, by the request, the folder's name, the task or what the folder holds, in this order.

        Raises:
            DatasetError: the task is defined on the other version.
        """
        root = request.root or ROOT
        bound = task(request.task).version if request.task else None
        version = request.version or version_of(root) or self._at_hand(root, bound)
        if version not in VERSIONS:
            raise DatasetError(f"unknown version '{version}' of speech-commands; available: {', '.join(VERSIONS)}")
        if bound and bound != version:
            raise DatasetError(
                f"task '{request.task}' is defined on Speech Commands {bound}, and '{root}' holds {version}; "
                f"take --task {DEFAULT_TASK[version]}, or name the same words with --keywords"
            )
        return version

    def _at_hand(self, root: Path, bound: str | None) -> str:
        """The version a folder holds; of two, the one that the task is defined on, or the newer one."""
        found = []
        for version in VERSIONS:
            corpus = find_corpus(root, version)
            if (corpus and version_held(corpus) == version) or find_test_set(root, version):
                found.append(version)
        if not found or (bound in found):
            return bound or "v0.02"
        return max(found)
