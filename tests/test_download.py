"""Downloads from a server that cuts, lies and corrupts; the files are checkpoints of the official layout."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kws_imagebind import download as dl
from kws_imagebind.cli import main
from kws_imagebind.encoders import EncoderError
from kws_imagebind.encoders.imagebind import download as imagebind_download
from kws_imagebind.encoders.imagebind import weights as weights
from kws_imagebind.models.checkpoint import CheckpointError, read_index
from tests.checkpoint_server import Behaviour, serve
from tests.models.test_imagebind import SALT, SHAPES, formula

SIX = ("audio", "text", "vision", "depth", "thermal", "imu")


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    # The small model's, with fewer words so that a test moves 2 MB and not 11.
    shapes = SHAPES | {"modality_preprocessors.text.token_embedding.weight": [2_000, 48]}
    return formula.state_dict(SALT, shapes, SIX)


@pytest.fixture(scope="module")
def content(state: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def source(url: str, content: bytes) -> weights.Source:
    return weights.Source(url, len(content), hashlib.sha256(content).hexdigest())


def get(url: str, content: bytes, folder: Path, modalities: tuple[str, ...] | None = None) -> Path:
    return imagebind_download.download(folder, modalities, source(url, content), pause=0.001, quiet=True)


def final_files(folder: Path) -> list[str]:
    """Names under which something would be taken for a whole file."""
    return [path.name for path in folder.iterdir() if path.suffix in (".pth", ".safetensors")]


def is_right(path: Path, content: bytes, state: dict[str, torch.Tensor]) -> bool:
    if path.suffix == ".pth":
        return path.read_bytes() == content
    loaded = load_file(path)
    wanted = {name for name in state if name.split(".")[1] in ("audio", "text")}
    return loaded.keys() == wanted and all(torch.equal(loaded[name], state[name]) for name in wanted)


@pytest.mark.parametrize("modalities", [None, ("audio", "text")])
@pytest.mark.parametrize("seed", range(3))
def test_twenty_cuts_at_random_bytes(
    content: bytes, state: dict[str, torch.Tensor], tmp_path: Path, modalities: tuple[str, ...] | None, seed: int
) -> None:
    how = Behaviour(cuts=20, seed=seed)
    with serve(content, how) as url:
        path = get(url, content, tmp_path, modalities)
    assert how.cuts == 0
    assert is_right(path, content, state)
    assert final_files(tmp_path) == [path.name]
    assert not list(tmp_path.glob("*.part*"))


def test_a_subset_costs_a_subset(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagebind_download, "NEARBY", 10_000)  # this checkpoint is a thousandth of the real one's size
    monkeypatch.setattr(dl, "BLOCK", 10_000)
    how = Behaviour()
    with serve(content, how) as url:
        get(url, content, tmp_path, ("audio",))
    index = read_index(io.BytesIO(content))
    wanted = sum(record.size for name, record in index.items() if name.split(".")[1] == "audio")
    assert sum(size for _, size in how.log) < wanted + 0.05 * len(content)
    assert wanted < 0.5 * len(content)


@pytest.mark.parametrize("modalities", [None, ("audio", "text")])
@pytest.mark.parametrize("lie", ["ignores", "shifted", "claims", "probe"])
def test_a_server_that_lies_about_ranges(
    content: bytes, state: dict[str, torch.Tensor], tmp_path: Path, lie: str, modalities: tuple[str, ...] | None
) -> None:
    with serve(content, Behaviour(lie=lie)) as url:
        path = get(url, content, tmp_path, modalities)
    assert path.name == "imagebind_huge.pth"  # where parts cannot be had, the whole is
    assert is_right(path, content, state)


def test_wrong_bytes_after_a_cut_are_noticed(content: bytes, tmp_path: Path) -> None:
    with (
        serve(content, Behaviour(lie="claims", cuts=2)) as url,
        pytest.raises(dl.DownloadError, match=r"sha256 .* has been removed"),
    ):
        get(url, content, tmp_path)
    assert final_files(tmp_path) == []


def test_cuts_without_ranges_start_over_and_end(content: bytes, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with serve(content, Behaviour(lie="ignores", cuts=3)) as url:
        assert is_right(get(url, content, tmp_path), content, state)


def test_a_corrupt_byte_in_the_whole_file(content: bytes, tmp_path: Path) -> None:
    with (
        serve(content, Behaviour(corrupt=len(content) // 2)) as url,
        pytest.raises(dl.DownloadError, match=r"sha256 .* has been removed: download again"),
    ):
        get(url, content, tmp_path)
    assert final_files(tmp_path) == []
    assert not list(tmp_path.glob("*.part"))


def place_of(content: bytes, name: str) -> int:
    record = read_index(io.BytesIO(content))[name]
    return record.header + 2_000  # inside the tensor: headers are below 500 bytes here


def test_a_corrupt_byte_in_a_tensor(content: bytes, tmp_path: Path) -> None:
    name = "modality_trunks.audio.blocks.1.mlp.fc1.weight"
    with (
        serve(content, Behaviour(corrupt=place_of(content, name))) as url,
        pytest.raises(dl.DownloadError, match=f"{name} arrived damaged twice"),
    ):
        get(url, content, tmp_path, ("audio", "text"))
    assert final_files(tmp_path) == []


def test_a_byte_corrupt_once_is_fetched_again(content: bytes, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    place = place_of(content, "modality_trunks.text.blocks.1.mlp.fc1.weight")
    with serve(content, Behaviour(corrupt=place, corrupt_times=1)) as url:
        assert is_right(get(url, content, tmp_path, ("audio", "text")), content, state)


@pytest.mark.parametrize("modalities", [None, ("audio", "text")])
def test_a_later_run_goes_on_where_one_was_ended(
    content: bytes, state: dict[str, torch.Tensor], tmp_path: Path, modalities: tuple[str, ...] | None
) -> None:
    how = Behaviour()
    with serve(content, how) as url:
        get(url, content, tmp_path, modalities)
        whole = sum(size for _, size in how.log)
        how.log.clear()
        how.cuts, how.seed = 3, 1
        shutil.rmtree(tmp_path)
        _end_after(url, content, tmp_path, modalities, bytes_written=len(content) // 5)
        how.log.clear()
        path = get(url, content, tmp_path, modalities)
    assert is_right(path, content, state)
    assert sum(size for _, size in how.log) < whole - len(content) // 10


def _end_after(url: str, content: bytes, folder: Path, modalities: tuple[str, ...] | None, bytes_written: int) -> None:
    """Start a download and end it as a closed terminal would."""

    class Bar:
        def __init__(self) -> None:
            self.seen = 0

        def update(self, size: int) -> None:
            self.seen += size
            if self.seen > bytes_written:
                raise KeyboardInterrupt

        def reset(self) -> None: ...
        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None: ...

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(dl, "progress", lambda *_: Bar())
        patch.setattr(imagebind_download, "progress", lambda *_: Bar())
        get(url, content, folder, modalities)


@pytest.mark.parametrize("modalities", [None, ("audio", "text")])
def test_a_part_of_another_version_is_not_gone_on_with(
    content: bytes, state: dict[str, torch.Tensor], tmp_path: Path, modalities: tuple[str, ...] | None
) -> None:
    how = Behaviour(etag='"old"')
    with serve(content, how) as url:
        _end_after(url, content, tmp_path, modalities, bytes_written=len(content) // 5)
        part = next(tmp_path.glob("*.part"))
        part.write_bytes(part.read_bytes()[:-100] + bytes(100))
        how.etag = '"new"'
        assert is_right(get(url, content, tmp_path, modalities), content, state)


def test_a_file_that_is_there_is_left_alone(content: bytes, tmp_path: Path) -> None:
    with serve(content) as url:
        first = get(url, content, tmp_path)
    assert get("http://127.0.0.1:9/gone", content, tmp_path) == first  # nobody is asked


def test_another_file_under_the_name_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "imagebind_huge.pth").write_bytes(b"something else")
    with pytest.raises(dl.DownloadError, match="has 14 bytes, not"):
        get("http://127.0.0.1:9/gone", content, tmp_path)


def test_a_server_with_another_file_is_an_error(content: bytes, tmp_path: Path) -> None:
    with serve(content[:-1]) as url, pytest.raises(dl.DownloadError, match=f"{len(content):,} were expected"):
        get(url, content, tmp_path)


def test_nobody_there_and_nothing_there(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(dl.DownloadError, match="4 attempts brought nothing"):
        get("http://127.0.0.1:9/imagebind_huge.pth", content, tmp_path)
    with pytest.raises(dl.DownloadError, match="is not the address"):
        get("imagebind_huge.pth", content, tmp_path)


def test_a_full_disk_is_told_beforehand(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    for modalities in (None, ("audio", "text")):
        with serve(content) as url, pytest.raises(dl.DownloadError, match="more are needed"):
            get(url, content, tmp_path, modalities)


def _hold(folder: str, ready: multiprocessing.Event, done: multiprocessing.Event) -> None:  # type: ignore[valid-type]
    with dl.lock(Path(folder) / "imagebind_huge.pth"):
        ready.set()
        done.wait(30)


def test_a_second_process_is_kept_out(content: bytes, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path), ready, done))
    other.start()
    assert ready.wait(60)
    with serve(content) as url:
        with pytest.raises(dl.DownloadError, match="another process is downloading"):
            get(url, content, tmp_path)
        other.kill()  # the lock goes with its process
        other.join()
        assert is_right(get(url, content, tmp_path), content, state)


def test_the_licence_is_shown_once(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(content) as url:
        for modalities in (("audio",), ("text",)):
            get(url, content, tmp_path, modalities)
    assert capsys.readouterr().err.count("CC BY-NC-SA 4.0") == 1


def test_unknown_modalities_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="modalities are some of audio, text, vision; got 'smell'"):
        imagebind_download.download(tmp_path, ["smell"])


def test_the_index_is_that_of_torch(content: bytes, state: dict[str, torch.Tensor]) -> None:
    index = read_index(io.BytesIO(content))
    assert list(index) == list(state)
    for name, record in index.items():
        assert (record.shape, record.size) == (tuple(state[name].shape), state[name].nbytes)
        assert record.whole


def test_views_are_told_from_whole_tensors() -> None:
    table = torch.arange(6.0).reshape(2, 3)
    buffer = io.BytesIO()
    torch.save({"whole": table, "row": table[1], "turned": table.T}, buffer)
    index = read_index(buffer)
    assert {name: record.whole for name, record in index.items()} == {"whole": True, "row": False, "turned": False}


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def test_code_in_a_checkpoint_is_refused_and_does_not_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch.save({"modality_heads.audio.0.bias": _Evil()}, tmp_path / "imagebind_huge.pth")
    with pytest.raises(EncoderError, match=r"asks for \w*builtin\w*\.print; only tensors are accepted"):
        weights.Weights.find(["audio"], tmp_path)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("damage", [b"", b"no zip at all", None])
def test_what_is_no_checkpoint_is_refused(content: bytes, damage: bytes | None) -> None:
    with pytest.raises(CheckpointError, match="not a whole archive"):
        read_index(io.BytesIO(content[: len(content) // 2] if damage is None else damage))


def test_what_an_earlier_run_wrote_is_checked(content: bytes, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with serve(content) as url:
        _end_after(url, content, tmp_path, ("audio", "text"), bytes_written=len(content) // 5)
        part = next(tmp_path.glob("*.part"))
        damaged = bytearray(part.read_bytes())
        damaged[-len(content) // 10] ^= 0xFF
        part.write_bytes(damaged)
        assert is_right(get(url, content, tmp_path, ("audio", "text")), content, state)


@pytest.mark.parametrize("at", [26, 28, 40])  # the length of the name, that of the extra field, and the name
def test_a_damaged_record_header(content: bytes, state: dict[str, torch.Tensor], tmp_path: Path, at: int) -> None:
    header = read_index(io.BytesIO(content))["modality_trunks.audio.blocks.1.mlp.fc1.weight"].header
    with serve(content, Behaviour(corrupt=header + at, corrupt_times=1)) as url:
        assert is_right(get(url, content, tmp_path, ("audio", "text")), content, state)


@pytest.mark.parametrize("modalities", ["", " , "])
def test_no_modality_is_not_all_of_them(
    tmp_path: Path, modalities: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights, "PUBLISHED", weights.Source("http://127.0.0.1:9/imagebind_huge.pth"))
    command = ["download", "imagebind", "--modalities", modalities, "--checkpoints", str(tmp_path)]
    assert main(command) == 2
    assert "no modality is given" in capsys.readouterr().err


def test_spaces_around_modalities_do_not_matter() -> None:
    assert imagebind_download.check_modalities("text, audio".split(",")) == ("audio", "text")
