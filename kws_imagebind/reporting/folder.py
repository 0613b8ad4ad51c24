"""The folder that a report is written to: made with a clear error, and its files written all or none."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from kws_imagebind.files import whole


class ReportError(OSError):
    """A report that cannot be written; the message names the path and says what to do."""


def make_folder(folder: Path) -> Path:
    """Makes a folder, with those above it.

    Raises:
        ReportError: a file is in the way, or the folder cannot be made there.
    """
    try:
        in_the_way = next((each for each in (folder, *folder.parents) if each.exists() and not each.is_dir()), None)
        if in_the_way is None:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReportError(f"the folder '{folder}' cannot be made: {_why(error)}") from error
    if in_the_way is not None:
        raise ReportError(f"'{in_the_way}' is a file; name a folder for the report instead")
    return folder


def write_all(contents: Mapping[Path, bytes]) -> list[Path]:
    """Writes files under other names first, and gives them their own once all are whole.

    Returns:
        Their paths, in the order of `contents`.

    Raises:
        ReportError: one cannot be written; then none is, and the files of an earlier run stay.
    """
    for path in contents:
        if path.is_dir():
            raise ReportError(f"'{path}' is a folder; remove it, or name another folder for the report")
    path = Path()
    try:
        with ExitStack() as files:
            for path, content in contents.items():
                files.enter_context(whole(path)).write_bytes(content)
    except OSError as error:
        raise ReportError(f"'{path}' cannot be written: {_why(error)}") from error
    return list(contents)


def _why(error: OSError) -> str:
    """The reason, and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space, or name another folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "writing there is not allowed; name another folder"
    return f"{(error.strerror or str(error)).lower()}; name another folder"
