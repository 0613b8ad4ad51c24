"""What "auto" comes to, on machines with and without a GPU and a network, and that asking never takes long."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch

from kws_imagebind.encoders import EncoderError
from kws_imagebind.notebook import automatic as settings
from kws_imagebind.notebook.automatic import Settings, SettingsError, reachable, settle
from kws_imagebind.text.prompts import PromptError


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "resolve_device", lambda device: torch.device("cpu" if device == "cpu" else "cuda"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were asked for; every one answers."""
    found: list[str] = []
    monkeypatch.setattr(settings, "reachable", lambda url, seconds: not found.append(url))
    monkeypatch.setattr(settings, "has_weights", lambda: False)
    return found


def test_without_a_gpu_it_is_the_sample_and_no_network_is_asked(asked: list[str]) -> None:
    chosen = settle(device="cpu")
    assert (chosen.encoder, chosen.data, chosen.device) == ("phonebind", "sample", "cpu")
    assert (chosen.split, chosen.root, chosen.clips, chosen.templates) == (None, None, None, None)
    assert "no GPU" in chosen.reason and asked == []


def test_with_gpu_and_network_it_is_imagebind_on_speech_commands(gpu: None, asked: list[str], tmp_path: Path) -> None:
    chosen = settle(root=tmp_path)
    assert (chosen.encoder, chosen.data, chosen.split, chosen.root) == (
        "imagebind", "speech-commands", "testing", tmp_path,
    )  # fmt: skip
    assert len(asked) == 2 and "imagebind_huge.pth" in asked[0] and "speech_commands_v0.02.tar.gz" in asked[1]
    assert settle(device="cpu", root=tmp_path).encoder == "phonebind"  # the GPU is not to be used


@pytest.mark.parametrize("missing", ["imagebind", "speech_commands"])
def test_with_a_gpu_but_one_server_out_of_reach_it_is_the_sample(
    missing: str, gpu: None, asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(settings, "reachable", lambda url, seconds: missing not in url)
    chosen = settle(root=tmp_path)
    assert (chosen.encoder, chosen.data) == ("phonebind", "sample")
    assert "cannot be fetched" in chosen.reason


def test_what_is_here_already_is_not_asked_for(
    gpu: None, asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "SpeechCommands" / "speech_commands_v0.02").mkdir(parents=True)
    monkeypatch.setattr(settings, "has_weights", lambda: True)
    chosen = settle(root=tmp_path)
    assert (chosen.encoder, chosen.data) == ("imagebind", "speech-commands") and asked == []


def test_what_is_named_is_taken(gpu: None, asked: list[str], tmp_path: Path) -> None:
    named = settle("phonebind", "sample", clips=7, seed=3, templates="a {} | the {}", task="yes,no", device="cpu")
    assert asked == [] and named.reason == "it was asked for"
    assert (named.clips, named.seed, named.templates, named.task) == (7, 3, ("a {}", "the {}"), "yes,no")
    half = settle("phonebind", root=tmp_path)
    assert (half.encoder, half.data) == ("phonebind", "speech-commands")
    assert len(asked) == 1  # ImageBind's weights are not needed for that
    assert settle("imagebind", device="cpu").data == "sample"
    assert settle(templates="speech", device="cpu").templates is not None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encoder": "phonebin"}, r"unknown encoder 'phonebin' \(did you mean phonebind\?\); available: auto, phone"),
        ({"data": "folder"}, "unknown data set 'folder'"),
        ({"task": "v2-36"}, "unknown task 'v2-36'"),
        ({"clips": -1}, "-1 clips cannot be drawn"),
        ({"clips": 1.5}, "1.5 clips cannot be drawn; expected a whole number"),
        ({"clips": "a"}, "'a' clips cannot be drawn"),
        ({"seed": "x"}, "seed 'x' is not a whole number"),
        ({"split": "bogus"}, "unknown split 'bogus'"),
        ({"task": "yes"}, "words of your own go with commas between them"),
        ({"templates": "speach"}, r"unknown set of prompts 'speach' \(did you mean speech\?\)"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        settle(device="cpu", **options)  # type: ignore[arg-type]


def test_errors_of_others_come_through() -> None:
    with pytest.raises(PromptError, match="needs one"):
        settle(device="cpu", templates="{} and {}")
    with pytest.raises(EncoderError, match="not available"):
        settle(device="meta")


def test_a_setting_says_what_it_is() -> None:
    text = str(settle(device="cpu", clips=12, seed=5, templates="a {}"))
    assert "sample, 12 clips, drawn with seed 5" in text and "'a {}'" in text and "phonebind on cpu" in text


def test_the_data_set_is_the_one_that_was_settled() -> None:
    dataset = settle(device="cpu", task="yes,no,stop", clips=20, seed=1).load_dataset()
    assert len(dataset) == 20 and dataset.labels == ("yes", "no", "stop")
    assert settle(device="cpu", task="v2-10").load_dataset().task == "v2-10"


def test_speech_commands_is_fetched_only_when_missing(
    gpu: None, asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, object] = {}
    monkeypatch.setattr(settings, "load_dataset", lambda name, **options: given.update(options, name=name))
    chosen = settle(root=tmp_path, split="validation")
    chosen.load_dataset()
    assert given == {
        "name": "speech-commands", "root": tmp_path, "split": "validation", "task": "v2-35", "keywords": None,
        "download": True,
    }  # fmt: skip


@pytest.mark.parametrize("here", [True, False])
def test_imagebinds_weights_are_fetched_only_when_missing(here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from kws_imagebind.encoders.imagebind import download as imagebind_download

    fetched: list[object] = []
    monkeypatch.setattr(settings, "has_weights", lambda: here)
    monkeypatch.setattr(imagebind_download, "download", lambda modalities: fetched.append(modalities))
    monkeypatch.setattr(settings, "load_encoder", lambda name, device: (name, device))
    chosen = Settings("imagebind", "sample", None, "v2-35", None, None, 0, "cpu", None, "")
    assert chosen.load_encoder() == ("imagebind", "cpu")
    assert fetched == ([] if here else [("audio", "text")])


def test_weights_are_looked_for_where_the_encoder_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KWS_IMAGEBIND_CHECKPOINTS", str(tmp_path))
    assert not settings.has_weights()


class _Answers(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        if self.path == "/nonsense":
            self.wfile.write(b"what?\r\n\r\n")
            return
        self.send_response(200 if self.path == "/here" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Answers) as answering:
        thread = threading.Thread(target=answering.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{answering.server_port}"
        answering.shutdown()


def test_a_server_is_reachable_when_it_has_the_file(server: str) -> None:
    assert reachable(f"{server}/here")
    assert not reachable(f"{server}/gone")
    assert not reachable(f"{server}/nonsense")
    assert not reachable("http://127.0.0.1:9/nobody-listens")
    assert not reachable("no address at all")


def test_a_server_that_never_answers_takes_no_longer_than_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        assert not reachable(f"http://127.0.0.1:{silent.getsockname()[1]}/", seconds=0.3)
        assert time.monotonic() - started < 15  # of a wait that would last 20 or for ever


def test_a_name_that_is_looked_up_forever_takes_no_longer_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def look_up(*_: object, **__: object) -> None:
        released.wait(20)
        raise OSError("no such name")

    monkeypatch.setattr(settings.urllib.request, "urlopen", look_up)
    started = time.monotonic()
    assert not reachable("http://somewhere.invalid/", seconds=0.2)
    assert time.monotonic() - started < 15  # of a wait that would last 20 or for ever
    released.set()
