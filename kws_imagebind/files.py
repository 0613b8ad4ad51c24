"""Files: written whole or not at all, held to their checksums, and problems with them explained in one sentence."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUMS = "SHA256SUMS"  # as `sha256sum` writes it: a digest and a file name a line

# What each kind of error means, and what to do about it.
_REASONS = {
    errno.ENOENT: ("there is no such file or folder", "check the path"),
    errno.EACCES: ("permission denied", "change its permissions, or choose another path"),
    errno.EPERM: ("the operation is not permitted there", "choose another path"),
    errno.EROFS: ("the disk is read-only", "choose a path on another disk"),
    errno.EISDIR: ("it is a folder, and a file is expected", "name a file"),
    errno.ENOTEMPTY: ("the folder is not empty", "choose another path"),
    errno.ENOSPC: ("the disk is full", "free some space, or choose a path on another disk"),
    errno.EDQUOT: ("your disk quota is used up", "free some space, or choose a path on another disk"),
    errno.EFBIG: ("the file is larger than this disk allows", "choose a path on another disk"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter one"),
    errno.ELOOP: ("its links lead in a circle", "remove the links"),
    errno.EMFILE: ("too many files are open", "close other programs, or raise the limit with 'ulimit -n'"),
    errno.ENFILE: ("too many files are open", "close other programs"),
    errno.EIO: ("the disk reported an error", "check the disk, or copy the file again"),
    errno.EBUSY: ("it is in use by another program", "close that program"),
    errno.EINVAL: ("this kind of file does not support it", "choose an ordinary file"),
}

_OF_RUST = re.compile(r"\(os error (\d+)\)")  # how safetensors, polars and other libraries in Rust say an errno


class FileProblem(OSError):  # noqa: N818, no bug of the program
    """A file or folder that cannot be used; the message is one sentence with the path, the reason and the remedy."""


def explained(error: OSError, path: str | os.PathLike[str], doing: str = "use") -> str:
    """An operating system's error as one sentence.

    Args:
        error: what was raised.
        path: the file or folder as the user knows it.
        doing: what was tried, as a verb: "read", "write", "create".

    >>> explained(PermissionError(errno.EACCES, "Permission denied"), "notes.txt", "read")
    "cannot read 'notes.txt': permission denied; change its permissions, or choose another path"
    """
    if isinstance(error, FileProblem):
        return str(error)
    path = Path(path)
    blocking = _file_in_the_way(path)
    if error.errno in (errno.ENOTDIR, errno.EEXIST) and blocking:
        reason, remedy = f"'{blocking}' is a file, and a folder is expected", "choose another path"
    elif error.errno == errno.ENOENT and doing in ("write", "create") and path.parent.is_dir():
        reason, remedy = "nothing can be written in that folder", "choose another path"  # such as /proc
    else:
        known = _REASONS.get(error.errno or 0)
        reason, remedy = known or (error.strerror or str(error) or type(error).__name__, "choose another path")
    return f"cannot {doing} '{path}': {reason}; {remedy}"


def _file_in_the_way(path: Path) -> Path | None:
    """The first part of a path that is a file where a folder is expected."""
    for part in [*reversed(path.parents), path]:
        with suppress(OSError):
            if part.exists() and not part.is_dir():
                return part
    return None


@contextmanager
def explaining(path: str | os.PathLike[str], doing: str = "use") -> Iterator[None]:
    """Turns any OSError within the block into a `FileProblem`.

    Raises:
        FileProblem: as `explained` says it. Errors of a connection, such as BrokenPipeError, stay as they are.
    """
    try:
        yield
    except OSError as error:
        if not _ours(error):
            raise
        raise _problem(error, path, doing) from error


def _ours(error: OSError) -> bool:
    """Whether an error still needs explaining, and is about a file."""
    return not isinstance(error, FileProblem | ConnectionError | TimeoutError)


def _problem(error: OSError, path: str | os.PathLike[str], doing: str) -> FileProblem:
    problem = FileProblem(explained(error, path, doing))
    problem.errno = error.errno
    return problem


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to. It becomes `path` when the block ends well and is removed when it does not.

    Raises:
        FileProblem: the file cannot be written: a full disk, a missing folder, no permission.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        if not _ours(error) or error.filename not in (None, str(part)):  # of another file that the block uses
            raise
        raise _problem(error, path, "write") from error
    except Exception as error:
        if not (number := _OF_RUST.search(str(error))):
            raise
        raise _problem(OSError(int(number[1]), os.strerror(int(number[1]))), path, "write") from error
    finally:
        with suppress(OSError):  # the first error is the one to report
            part.unlink(missing_ok=True)


def make_folder(path: Path) -> Path:
    """A folder, made with its parents if it is not there yet.

    Raises:
        FileProblem: a file is in the way, or nothing can be written there.
    """
    with explaining(path, "create"):
        path.mkdir(parents=True, exist_ok=True)
    return path


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes.

    Raises:
        FileProblem: the file cannot be read.
    """
    with explaining(path, "read"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_bundled(path: Path) -> str:
    """Holds a file that comes with the package to its `bundled_digest`, and returns that.

    Raises:
        FileProblem: the file is missing or its bytes are not those that were released.
    """
    remedy = "install the package again"
    if not path.is_file():
        raise FileProblem(f"'{path}', a part of this package, is missing; {remedy}")
    found, expected = sha256(path), bundled_digest(path)
    if found != expected:
        raise FileProblem(
            f"'{path}', a part of this package, is damaged: its SHA-256 is {found[:16]}… and should be "
            f"{expected[:16]}…; {remedy}"
        )
    return found


def bundled_digest(path: Path) -> str:
    """The SHA-256 that a file of the package should have, without reading the file.

    It stands in `NAME.sha256` or `SHA256SUMS` beside the file.

    Raises:
        FileProblem: it is not listed there.
    """
    own = path.with_name(f"{path.name}.sha256")
    sums = own if own.is_file() else path.with_name(SUMS)
    with explaining(sums, "read"):
        lines = sums.read_text(encoding="utf-8").splitlines()
    listed = {name.lstrip("*"): digest for digest, name in (line.split() for line in lines if line.strip())}
    if path.name not in listed:
        raise FileProblem(f"'{sums}' does not list {path.name}; install the package again")
    return listed[path.name]
