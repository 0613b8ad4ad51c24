"""Google's Speech Commands (Warden 2018, arXiv:1804.03209; CC-BY 4.0), over `torchaudio.datasets.SPEECHCOMMANDS`.

torchaudio knows the addresses, the archive and the lists of the official splits; here are the search for a copy that
is already there, the messages when it is not or not whole, and the speakers. No clip is decoded.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kws_imagebind.datasets.base import DatasetError, Utterance
from kws_imagebind.text.tasks import ADDED_IN_V2

SPLITS = ("training", "validation", "testing", "all")
NOISE = "_background_noise_"  # the folder of background noise
ARCHIVE_FOLDER = "SpeechCommands"
URL = "http://download.tensorflow.org/data/{}.tar.gz"
LISTS = {"validation": "validation_list.txt", "testing": "testing_list.txt"}

_NAMES = re.compile(r"(googles?)?(mini)?speechcommands")  # in letters and digits alone

HASH_RANGE = 2**27  # the corpus's rule takes the hash of a speaker modulo this, and scales it to 0-100
VALIDATION_BELOW, TESTING_BELOW = 10, 20  # per cent


@dataclass(frozen=True)
class Version:
    """A release of the corpus.

    Attributes:
        folder: name of its folder, and of its archive without ".tar.gz".
        gigabytes: size of the archive.
        sha256: of the archive.
        sizes: clips of each split.
    """

    folder: str
    gigabytes: float
    sha256: str
    sizes: dict[str, int]


VERSIONS = {
    "v0.01": Version(
        folder="speech_commands_v0.01",
        gigabytes=1.5,
        sha256="743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
        sizes={"training": 51_088, "validation": 6_798, "testing": 6_835, "all": 64_721},
    ),
    "v0.02": Version(
        folder="speech_commands_v0.02",
        gigabytes=2.4,
        sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        sizes={"training": 84_843, "validation": 9_981, "testing": 11_005, "all": 105_829},
    ),
}


def is_speech_commands(name: str) -> bool:
    """Whether a data set's name, as a model card writes it, means this corpus or a part of it.

    >>> [is_speech_commands(name) for name in ("Speech Commands v0.02", "google/speech_commands")]
    [True, True]
    >>> [is_speech_commands(name) for name in ("LibriSpeech", "custom-speech-commands-dataset")]
    [False, False]
    """
    return _NAMES.match(re.sub(r"[\W_]", "", name.casefold())) is not None


def official_split(filename: str) -> str:
    """The split that a clip of Speech Commands belongs to, from its file name alone.

    The corpus's own rule: SHA-1 of the name up to `_nohash_` (so of the speaker), modulo 2^27, scaled to 0-100; below
    10 is validation, below 20 testing. It tells a training clip from a testing clip where the lists are not at hand.

    >>> official_split("yes/0cb74144_nohash_2.wav")
    'testing'

    Raises:
        DatasetError: the name holds no `_nohash_`.
    """
    name = Path(filename).name
    speaker, divider, _ = name.partition("_nohash_")
    if not divider:
        raise DatasetError(
            f"'{name}' is not a clip of Speech Commands; expected a name such as '0cb74144_nohash_2.wav'"
        )
    hashed = int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16)
    percent = hashed % HASH_RANGE * 100 / (HASH_RANGE - 1)
    if percent < VALIDATION_BELOW:
        return "validation"
    return "testing" if percent < TESTING_BELOW else "training"


def find_corpus(root: Path, version: str) -> Path | None:
    """The folder of a version, whether `root` holds `SpeechCommands`, is it, or is the version's folder itself.

    A folder of another name counts too if the lists of the splits lie in it.
    """
    root, folder = root.resolve(), VERSIONS[version].folder
    for candidate in (root / ARCHIVE_FOLDER / folder, root / folder, root):
        if candidate.is_dir() and (candidate.name == folder or _is_renamed_corpus(candidate)):
            return candidate
    return None


def noise_folder(root: Path, version: str) -> Path:
    """Where a version's recordings of background noise lie, if they are there; in `root` itself without the corpus."""
    return (find_corpus(root, version) or root) / NOISE


def version_of(root: Path) -> str | None:
    """The version that a folder's own name says, as in `speech_commands_v0.01`."""
    return next((name for name, version in VERSIONS.items() if root.resolve().name == version.folder), None)


def version_held(corpus: Path) -> str:
    """The version of a corpus's folder: by its name, or else by the five words that only v0.02 has."""
    added = any((corpus / word).is_dir() for word in ADDED_IN_V2)
    return version_of(corpus) or ("v0.02" if added else "v0.01")


def load_speech_commands(
    root: Path, split: str = "testing", version: str = "v0.02", download: bool = False
) -> tuple[tuple[Utterance, ...], str]:
    """The clips of a split, in the order of its list, and a note on which corpus they are from.

    Args:
        root: the folder that holds `SpeechCommands`, `SpeechCommands` itself or the version's folder.
        split: "training", "validation", "testing" or "all".
        version: "v0.01" or "v0.02".
        download: fetch the archive if the corpus is not there; its checksum is verified.

    Raises:
        DatasetError: unknown split or version; the corpus is missing, incomplete or cannot be fetched.
    """
    if split not in SPLITS:
        raise DatasetError(f"unknown split '{split}' of speech-commands; available: {', '.join(SPLITS)}")
    if version not in VERSIONS:
        raise DatasetError(f"unknown version '{version}' of speech-commands; available: {', '.join(VERSIONS)}")
    corpus = find_corpus(root, version)
    if corpus is None and download:
        corpus = _download(root, version)
    if corpus is None:
        raise DatasetError(
            f"no Speech Commands {version} in '{root}': expected '{ARCHIVE_FOLDER}/{VERSIONS[version].folder}' there; "
            f"name its folder with --data, or let --download fetch it ({VERSIONS[version].gigabytes} GB)"
        )
    utterances = _utterances(corpus, split)
    return utterances, _note(len(utterances), split, version)


def _is_renamed_corpus(folder: Path) -> bool:
    return version_of(folder) is None and all((folder / name).is_file() for name in LISTS.values())


def _utterances(corpus: Path, split: str) -> tuple[Utterance, ...]:
    try:
        # torchaudio joins its three arguments to the corpus's path, so that a folder of any name can be read.
        clips = _torchaudio_class()(
            root=corpus.parent.parent,
            url=f"{corpus.name}.tar.gz",
            folder_in_archive=corpus.parent.name,
            subset=None if split == "all" else split,
        )
        metadata = [clips.get_metadata(i) for i in range(len(clips))]
    except FileNotFoundError as error:
        raise DatasetError(
            f"'{corpus}' lacks {Path(error.filename).name}, the list of an official split; "
            "unpack the whole archive, or read the folder with --dataset folder"
        ) from error
    except ValueError as error:
        raise DatasetError(
            f"a list in '{corpus}' has a line that is not a clip ({error}); "
            "expected lines such as 'yes/0cb74144_nohash_2.wav'"
        ) from error
    keys = [Path(path).relative_to(corpus.name).as_posix() for path, *_ in metadata]
    utterances = tuple(
        Utterance(path=corpus / key, label=label, speaker=speaker, key=key)
        for key, (_, _, label, speaker, _) in zip(keys, metadata, strict=True)
        if not Path(key).name.startswith(".")
    )
    _check_complete(utterances, corpus, split)
    return utterances


def _check_complete(utterances: tuple[Utterance, ...], corpus: Path, split: str) -> None:
    if not utterances:
        raise DatasetError(f"'{corpus}' has no clip of its {split} split; unpack the whole archive there")
    missing = [utterance.key for utterance in utterances if not utterance.path.is_file()]
    if missing:
        raise DatasetError(
            f"'{corpus}' lacks {len(missing):,} of the {len(utterances):,} clips of its {split} split, "
            f"such as {missing[0]}; remove the folder and unpack the archive again"
        )


def _note(count: int, split: str, version: str) -> str:
    official = VERSIONS[version].sizes[split]
    of = "corpus" if split == "all" else f"{split} split"
    if count == official:
        return f"Speech Commands {version}, the whole {of}"
    return f"Speech Commands {version}, {count:,} of the {of}'s {official:,} clips"


def _download(root: Path, version: str) -> Path:
    """Fetches and unpacks a version so that `find_corpus(root, version)` finds it."""
    home, target = _place(root.resolve(), VERSIONS[version].folder)
    _check_archive(home / f"{target.name}.tar.gz", VERSIONS[version])
    unpacking = home / f".{target.name}.part"  # renamed when whole: an interrupted run leaves no half corpus
    shutil.rmtree(unpacking, ignore_errors=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _torchaudio_class()(root=home, url=target.name, folder_in_archive=unpacking.name, download=True)
        (unpacking / target.name).rename(target)
    except (OSError, RuntimeError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DatasetError(
            f"Speech Commands {version} could not be fetched into '{home}' ({error}); "
            f"try again, or unpack {URL.format(target.name)} into '{target}' yourself"
        ) from error
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)
    return target


def _place(root: Path, folder: str) -> tuple[Path, Path]:
    """Where the archive is put and where it is unpacked, by what `root` is named."""
    if root.name == folder:
        return root.parent, root
    if root.name == ARCHIVE_FOLDER:
        return root.parent, root / folder
    return root, root / ARCHIVE_FOLDER / folder


def _check_archive(archive: Path, version: Version) -> None:
    """torchaudio verifies what it fetches, but trusts an archive that is already there."""
    if not archive.is_file():
        return
    with archive.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != version.sha256:
        raise DatasetError(f"'{archive}' is damaged: its sha256 is not {version.sha256[:12]}…; remove it and try again")


def _torchaudio_class() -> Any:
    try:
        from torchaudio.datasets import SPEECHCOMMANDS
    except Exception as error:  # not ImportError alone: a torchaudio built for another torch raises OSError
        raise DatasetError(
            f"torchaudio cannot be imported ({error}); install the one that belongs to this torch: "
            "pip install 'torch<2.15' torchaudio"
        ) from error
    return SPEECHCOMMANDS
