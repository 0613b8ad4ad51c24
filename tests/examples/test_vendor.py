"""What runs the page of examples/web is fetched by npm, and only the pinned release is used."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from scripts import onnxruntime_web


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(onnxruntime_web, "VENDOR", tmp_path / "vendor")
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", packed)
    return tmp_path / "vendor"


def packed(command: list[str], cwd: Path, **_: Any) -> None:
    """As npm does, a package with files of a few bytes."""
    assert command[:3] == ["npm", "pack", f"onnxruntime-web@{onnxruntime_web.VERSION}"]
    with tarfile.open(Path(cwd, "package.tgz"), "w") as archive:
        for name in (*onnxruntime_web.FILES, "../../outside.js", "ort.webgpu.min.mjs"):
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))


def test_the_files_for_webassembly_are_unpacked(vendor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed(["npm", "pack", f"onnxruntime-web@{onnxruntime_web.VERSION}"], vendor.parent)
    package = vendor.parent / "package.tgz"
    monkeypatch.setattr(onnxruntime_web, "INTEGRITY", onnxruntime_web.integrity(package))
    package.unlink()
    onnxruntime_web.main()
    assert {path.name for path in vendor.iterdir()} == {*onnxruntime_web.FILES, "version.txt"}
    assert (vendor / onnxruntime_web.FILES[0]).read_text() == onnxruntime_web.FILES[0]
    monkeypatch.setattr(subprocess, "run", None)  # a second time nothing is fetched
    onnxruntime_web.main()
    assert list(vendor.parent.iterdir()) == [vendor]


def test_without_npm_or_with_another_package_there_is_a_sentence(vendor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"npm gave another onnxruntime-web@1\.\d+\.\d+ than expected"):
        onnxruntime_web.main()
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SystemExit, match="npm, which is not installed"):
        onnxruntime_web.main()
    assert not list(vendor.parent.iterdir())
