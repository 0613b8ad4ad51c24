"""Files written whole or not at all, held to their checksums, and their problems explained in one sentence."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kws_imagebind.encoders.confidence import BUNDLED
from kws_imagebind.encoders.imagebind import tokenizer
from kws_imagebind.encoders.phonebind import WEIGHTS
from kws_imagebind.files import (
    SUMS,
    FileProblem,
    bundled_digest,
    check_bundled,
    explained,
    explaining,
    make_folder,
    whole,
)
from kws_imagebind.models.letter_to_sound import WEIGHTS as LETTER_TO_SOUND
from kws_imagebind.text.phonemes import TABLE

LOADED = (WEIGHTS, LETTER_TO_SOUND, BUNDLED, TABLE, tokenizer._vocabulary_path())  # from the package, at run time


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("")
    for path in (tmp_path / "text.wav", tmp_path / "text.wav" / "report"):
        with pytest.raises(FileProblem, match=r"text\.wav' is a file, and a folder is expected; choose another path"):
            make_folder(path)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc here")
def test_a_folder_where_nothing_can_be_written_is_named() -> None:
    with pytest.raises(FileProblem, match="cannot create '/proc/x': nothing can be written in that folder"):
        make_folder(Path("/proc/x"))


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EACCES, "permission denied"),
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EISDIR, "it is a folder"),
        (errno.ENAMETOOLONG, "the name is too long"),
        (errno.EXDEV, "choose another path"),  # any other, in the system's words
    ],
)
def test_errors_become_a_sentence_with_path_and_remedy(number: int, reason: str) -> None:
    sentence = explained(OSError(number, os.strerror(number)), "some/file.csv", "write")
    assert sentence.startswith("cannot write 'some/file.csv': ") and reason in sentence
    assert "Errno" not in sentence and "\n" not in sentence


def test_a_problem_is_explained_once_and_a_closed_pipe_is_none() -> None:
    with pytest.raises(FileProblem) as caught, explaining("outer", "write"), explaining("inner", "read"):
        raise OSError(errno.EIO, "Input/output error")
    assert caught.value.errno == errno.EIO and str(caught.value).startswith("cannot read 'inner': ")
    with pytest.raises(BrokenPipeError), explaining("any"):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_nothing_is_left_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old.csv").write_text("old")

    def full(self: Path, text: str, **_: object) -> None:
        self.write_bytes(text.encode()[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    for name in ("old.csv", "new.csv"):
        with (
            pytest.raises(FileProblem, match=rf"cannot write '.*{name}': the disk is full"),
            whole(tmp_path / name) as p,
        ):
            p.write_text("a new text")
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"] and (tmp_path / "old.csv").read_text() == "old"


def test_nothing_is_left_on_a_small_disk(tmp_path: Path) -> None:
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        with pytest.raises(FileProblem, match=r"report\.html': the disk is full"), whole(tmp_path / "report.html") as p:
            p.write_bytes(bytes(1 << 20))
        with (
            pytest.raises(FileProblem, match=r"x\.safetensors': the disk is full"),
            whole(tmp_path / "x.safetensors") as p,
        ):
            save_file({"x": torch.zeros(1 << 18)}, p)
        assert not list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_whole_says_what_is_wrong_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path, reason in (
        (tmp_path / "absent" / "x.csv", "there is no such file or folder"),
        (tmp_path / "file" / "x.csv", "file' is a file, and a folder is expected"),
        (tmp_path / "folder", "it is a folder"),
    ):
        with pytest.raises(FileProblem, match=reason), whole(path) as part:
            part.write_text("x")
    with pytest.raises(FileNotFoundError, match=r"other\.txt"), whole(tmp_path / "x.csv"):  # of another file
        (tmp_path / "other.txt").read_text()
    absent = tmp_path / "absent" / "x.safetensors"  # safetensors has errors of its own
    with pytest.raises(FileProblem, match=r"x\.safetensors': there is no such file"), whole(absent) as part:
        save_file({"x": torch.zeros(1)}, part)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("path", LOADED, ids=lambda path: path.name)
def test_every_file_that_is_loaded_has_its_checksum(path: Path) -> None:
    assert check_bundled(path) == bundled_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_checksums_list_what_is_there() -> None:
    listed = {line.split()[1] for line in (WEIGHTS.parent / SUMS).read_text().splitlines()}
    loaded = {path.name for path in WEIGHTS.parent.iterdir() if path.suffix in (".safetensors", ".json")}
    assert listed == loaded


@pytest.mark.parametrize("how", ["zeroed", "cut", "missing", "unlisted"])
def test_a_damaged_part_of_the_package_is_refused(tmp_path: Path, how: str) -> None:
    copy = Path(shutil.copy(LETTER_TO_SOUND, tmp_path))
    shutil.copy(LETTER_TO_SOUND.parent / SUMS, tmp_path)
    data = bytearray(copy.read_bytes())
    if how == "zeroed":
        data[400_000:404_000] = bytes(4_000)
    copy.write_bytes(data[:-1] if how == "cut" else data)
    if how == "missing":
        copy.unlink()
    if how == "unlisted":
        (tmp_path / SUMS).write_text(f"{'0' * 64}  another.file\n")
    with pytest.raises(FileProblem, match="install the package again") as caught:
        check_bundled(copy)
    assert copy.name in str(caught.value) and "\n" not in str(caught.value)
