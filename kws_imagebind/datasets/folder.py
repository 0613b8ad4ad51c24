"""A folder of recordings or pictures, one folder a word: `root/word/clip.wav`, `root/word/picture.jpg`.

Any format that libsndfile reads will do. Hidden files and folders are passed over, and so are folders whose name begins
with an underscore, as Speech Commands keeps its noise in `_background_noise_`.
"""

from __future__ import annotations

import io
import os
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from kws_imagebind.datasets.base import DatasetError, Kind, Recordings, Request, Stream, Utterance, counted, listed
from kws_imagebind.registry import to_install

PICTURE_NAMES = frozenset(".jpg .jpeg .png .webp .bmp .gif .tif .tiff".split())
SPEAKER_DIVIDER = "_nohash_"  # of Speech Commands' file names: SPEAKER_nohash_NUMBER


def is_audio(file: Path) -> bool:
    """Whether a file's name is that of a recording that can be read here."""
    from kws_imagebind.audio.files import extensions  # which waits for torch; a list of names need not

    return file.suffix.lower() in extensions()


def is_picture(file: Path) -> bool:
    """Whether a file's name is that of a picture."""
    return file.suffix.lower() in PICTURE_NAMES


def check_picture(path: Path) -> bytes:
    """The SHA-256 of a picture's bytes, if they can be decoded.

    Raises:
        DatasetError: the file is missing, damaged or not a picture; or Pillow is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise DatasetError(f"pictures need Pillow; {to_install('pillow', 'vision')}") from error
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged, or not a picture"
        raise DatasetError(f"{path}: cannot be read as a picture ({reason}); expected JPEG, PNG or WebP") from error
    return sha256(data).digest()


def holds_pictures(root: Path) -> bool:
    """Whether the first file in a folder's folders is a picture."""
    return is_picture(next((path for path in root.glob("[!._]*/[!.]*") if path.is_file()), root))


@dataclass(frozen=True)
class Files:
    """What a folder is searched for, and how messages name it."""

    kind: Kind
    are: Callable[[Path], bool]
    singular: str
    plural: str
    material: str
    formats: str
    example: str


RECORDINGS = Files("audio", is_audio, "recording", "recordings", "audio", "WAV, FLAC, OGG or MP3", "yes/1.wav")
PICTURES = Files("image", is_picture, "picture", "pictures", "pictures", "JPEG, PNG or WebP", "dog/1.jpg")


class Folder:
    """A folder of recordings as a `Source`."""

    splits: tuple[str, ...] = ()
    options: tuple[str, ...] = ("root",)
    files: Files = RECORDINGS

    def load(self, request: Request) -> Recordings:
        utterances, note = load_folder(_root(request), self.files)
        labels = tuple(dict.fromkeys(each.label for each in utterances))
        return Recordings(utterances, labels, request.name, note=note, kind=self.files.kind)

    def stream(self, request: Request) -> Stream:
        others: Counter[str] = Counter()
        clips = walk(_root(request), others, self.files)
        return Stream(request.name, clips, request.name, note=lambda: _note(others, self.files), kind=self.files.kind)


class Pictures(Folder):
    """A folder of pictures as a `Source`: `root/word/picture.jpg`, for encoders with a vision tower."""

    files = PICTURES


def _root(request: Request) -> Path:
    if request.root is None:
        raise DatasetError(f"data set '{request.name}' needs the path of the folder; give it with --data")
    return request.root


def load_folder(root: Path, files: Files = RECORDINGS) -> tuple[tuple[Utterance, ...], str]:
    """The clips of every word's folder, in the order of their keys, and a note on files that were passed over.

    Raises:
        DatasetError: as `walk`.
    """
    others: Counter[str] = Counter()
    return tuple(walk(root, others, files)), _note(others, files)


def walk(root: Path, others: Counter[str], files: Files = RECORDINGS) -> Iterator[Utterance]:
    """The clips of every word's folder, in the order of their keys; of one folder at a time the names are in memory.

    Args:
        root: holds a folder for each word.
        others: files that are passed over are counted there, by their extension.
        files: what is looked for.

    Raises:
        DatasetError: the folder is missing or holds no words; a word's folder holds no recording; two words' names
            differ in upper and lower case alone.
    """
    if not root.is_dir():
        raise DatasetError(_no_folder(root))
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith((".", "_")))
    if not folders:
        own = sum(files.are(path) for path in root.iterdir() if path.is_file())
        found = f"holds {counted(own, files.singular)} of its own, but no" if own else "holds no"
        raise DatasetError(
            f"'{root}' {found} folder with the name of a word; expected {files.plural} such as '{root}/{files.example}'"
        )
    _check_names(folders)
    for folder in sorted(folders, key=lambda folder: f"{_plain(folder.name)}/"):  # which is the order of the keys
        yield from _clips(folder, others, files)


def speaker_of(filename: str) -> str | None:
    """The speaker that a file name tells in the manner of Speech Commands.

    >>> speaker_of("0a7c2a8d_nohash_0.wav"), speaker_of("me.wav")
    ('0a7c2a8d', None)
    """
    speaker, divider, _ = filename.partition(SPEAKER_DIVIDER)
    return speaker if divider and speaker else None


def _check_names(folders: Iterable[Path]) -> None:
    seen: dict[str, str] = {}
    for folder in folders:
        if "=" in folder.name:
            raise DatasetError(
                f"folder '{folder.name}' has a '=' in its name, which marks how a keyword is spoken; rename it"
            )
        other = seen.setdefault(_plain(folder.name).casefold(), folder.name)
        if other != folder.name:
            raise DatasetError(f"folders '{other}' and '{folder.name}' name the same keyword; put their clips into one")


def _clips(folder: Path, others: Counter[str], files: Files) -> Iterator[Utterance]:
    """The recordings or pictures of one word; what is neither is counted in `others` by its extension."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file()]
    names.sort(key=_plain)
    passed = Counter(Path(name).suffix.lower() or "no extension" for name in names if not files.are(Path(name)))
    if passed.total() == len(names):
        raise DatasetError(f"'{folder}' holds no {files.singular}: {_instead(folder, passed, files)}")
    others.update(passed)
    label = _plain(folder.name)
    for name in names:
        if files.are(Path(name)):
            yield Utterance(path=folder / name, label=label, speaker=speaker_of(name), key=f"{label}/{_plain(name)}")


def _instead(folder: Path, passed: Counter[str], files: Files) -> str:
    """What a word's folder holds instead of recordings or pictures, and the remedy."""
    if any(entry.is_dir() for entry in folder.iterdir()):
        return "it holds folders, which are not searched; name the folder whose folders are the words"
    found = f"it holds only {listed(passed)}" if passed else "it is empty"
    return f"{found}; put {files.formats} files there or remove the folder"


def _no_folder(path: Path) -> str:
    """What a path is that should be a folder, and the remedy."""
    expected = "expected one that holds a folder for each word"
    if not path.exists():
        return f"'{path}' is not a folder: nothing is there; {expected}"
    if not is_audio(path):
        return f"'{path}' is not a folder but a file; {expected}, or a table of 'kws-imagebind embed'"
    file = shlex.quote(str(path))
    return f"'{path}' is not a folder but a recording; {expected}, or use 'kws-imagebind spot {file} --words A,B'"


def _plain(name: str) -> str:
    """One spelling of accents, since macOS takes letters apart and others do not."""
    return unicodedata.normalize("NFC", name)


def _note(others: Counter[str], files: Files) -> str:
    if not others:
        return ""
    return f"{others.total():,} files left out that cannot be read as {files.material} ({listed(others)})"
