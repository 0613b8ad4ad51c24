"""The JSON file that says what a trained network in a folder is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from kws_imagebind.encoders.base import EncoderError
from kws_imagebind.files import whole

Run = TypeVar("Run")


def write_about(path: Path, content: dict[str, Any]) -> None:
    """Writes what a run is. An interrupted call leaves no file, or the old one.

    Raises:
        FileProblem: the file cannot be written.
    """
    with whole(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_about(path: Path, version: int, made_by: str, build: Callable[[dict[str, Any]], Run]) -> Run:
    """What a file of `write_about` says.

    Args:
        path: the file in the folder of a run.
        version: of the format, as `content["format"]`.
        made_by: the command that makes such a run.
        build: makes the run of the content; what it lacks or misreads is damage.

    Raises:
        EncoderError: the file is missing, damaged or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != version:
            raise EncoderError(f"'{path}' is of format {content['format']}; this version reads {version}")
        return build(content)
    except OSError as error:
        raise EncoderError(
            f"'{path.parent}' holds no finished training: {path.name} cannot be read; '{made_by}' makes one"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if isinstance(error, EncoderError):
            raise
        raise EncoderError(f"'{path}' is damaged ({error}); train again, or copy the folder again") from error
