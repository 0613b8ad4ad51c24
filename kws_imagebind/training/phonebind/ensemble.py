"""Puts the further members of `phonebind-large` into one file, in 8 bits.

    python -m kws_imagebind.training.phonebind.ensemble ONE.safetensors OTHER.safetensors \\
        --output kws_imagebind/weights/phonebind-large.safetensors

The first member is the `phonebind.safetensors` beside the output, and is not stored again. Members are worth most where
they differ: other data, seeds, front ends. Afterwards: renew `SHA256SUMS`, fit the numbers of its scores
(`training.phonebind.confidence` and then `running_speech`, both with `--encoder phonebind-large`), and renew
`SHA256SUMS` once more.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from kws_imagebind.files import make_folder, sha256
from kws_imagebind.models.ensemble import save_members
from kws_imagebind.models.phonebind import PhoneBind, load


def assemble(paths: Sequence[Path], output: Path) -> None:
    """Writes the models of several files into one, with the digest and the notes of each.

    Raises:
        FileProblem: a file cannot be read, or the output cannot be written.
        ValueError: a file holds no PhoneBind.
    """
    members, notes = [], []
    for path in paths:
        digest = sha256(path)
        members.append(_member(path))
        notes.append({"sha256": digest, **_notes(path)})
    save_members(members, output, notes)


def _member(path: Path) -> PhoneBind:
    try:
        return load(path)
    except Exception as error:
        raise ValueError(f"'{path}' does not hold PhoneBind weights ({error})") from error


def _notes(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return {name: value for name, value in file.metadata().items() if name != "config"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("members", nargs="+", type=Path, help="files that training ended with, in a fixed order")
    parser.add_argument("--output", type=Path, required=True, help="such as weights/phonebind-large.safetensors")
    arguments = parser.parse_args()
    try:
        make_folder(arguments.output.parent)
        assemble(arguments.members, arguments.output)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    size = arguments.output.stat().st_size
    print(f"{arguments.output}: {len(arguments.members)} members, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
