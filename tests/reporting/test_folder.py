"""Files of a report are written all or none, and an error says which path and what to do."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from kws_imagebind.cli import main
from kws_imagebind.reporting.folder import ReportError, make_folder, write_all

TABLE = "path,label,prediction\na.wav,yes,yes\nb.wav,no,yes\n"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_files_are_written_together_and_replace_those_of_an_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    paths = write_all({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert paths == [tmp_path / "a", tmp_path / "b"] and content(tmp_path) == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "the disk is full; free some space, or name another folder"),
        (errno.EACCES, "writing there is not allowed; name another folder"),
        (errno.EIO, "name another folder"),
    ],
)
def test_one_failure_leaves_every_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if b"2" in data:
            write(self, b"half")
            raise OSError(number, "reason")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ReportError, match=f"b' cannot be written: .*{remedy}") as refusal:
        write_all({tmp_path / "a": b"1", tmp_path / "b": b"2", tmp_path / "c": b"3"})
    assert content(tmp_path) == {"a": b"old"} and "Errno" not in str(refusal.value)


def test_a_folder_in_the_place_of_a_file_is_found_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(ReportError, match="b' is a folder"):
        write_all({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert content(tmp_path) == {}


@pytest.mark.parametrize("below", ["", "deep/er"])
def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "text.wav").write_text("x")
    with pytest.raises(ReportError, match=r"text\.wav' is a file; name a folder for the report instead"):
        make_folder(tmp_path / "text.wav" / below)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ReportError, match=r"the folder '.*new' cannot be made: writing there is not allowed"):
        make_folder(tmp_path / "new")


def test_the_command_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    (tmp_path / "text.wav").write_text("x")
    assert main(["report", str(tmp_path / "t.csv"), "--output", str(tmp_path / "text.wav")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Errno" not in error and "text.wav' is a file" in error


def test_a_report_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path: Path) -> None:
    """The kernel itself refuses files of more than 10 kB, which is less than the page and more than results.json."""
    pytest.importorskip("resource", reason="limits on the size of files are Unix's")
    (tmp_path / "t.csv").write_text(TABLE)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)); "
        "sys.dont_write_bytecode = True; "
        "from kws_imagebind.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "report", str(tmp_path / "t.csv"), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "report.html' cannot be written" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []
