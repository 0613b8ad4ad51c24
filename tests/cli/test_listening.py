"""`listen`, `check-word` and `export`, as a person or another program uses them."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kws_imagebind.audio import microphone
from kws_imagebind.cli import listening, main
from kws_imagebind.cli.recordings import _print_ranks
from tests.cli.commands import run
from tests.spotting.test_spotting import RATE, clip, joined


def spoken() -> np.ndarray:
    return joined(0.8, clip("left", 2), 0.8, clip("stop", 2), 0.9)[0]


def pipe(monkeypatch: pytest.MonkeyPatch, samples: np.ndarray) -> None:
    data = np.round(samples * 32_767).astype("<i2").tobytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_raw_sound_on_stdin_is_heard(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pipe(monkeypatch, spoken())
    code, out, _ = run(capsys, "listen", "--words", "left,stop,kettle", "--json", "-")
    hits = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [hit["word"] for hit in hits] == ["left", "stop"]
    assert hits[0]["start"] < hits[0]["time"] < hits[0]["end"] < hits[1]["start"] and 0.5 <= hits[0]["score"] <= 1


def test_channels_and_rates_of_stdin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    twice = np.repeat(spoken(), 2)  # at 32 kHz, which is rough, and heard in both channels
    pipe(monkeypatch, np.stack([twice, twice], 1))
    code, out, _ = run(capsys, "listen", "--words", "left,stop", "--rate", "32000", "--channels", "2", "-")
    assert code == 0 and [line.split()[3] for line in out.splitlines()] == ["left", "stop"]


def test_a_pipe_that_gives_odd_bytes() -> None:
    class Drops(io.BytesIO):
        def read1(self, size: int = -1, /) -> bytes:
            return super().read(min(3, size))

    blocks = list(listening.pcm(Drops(np.arange(7, dtype="<i2").tobytes() + b"x"), RATE, 1))
    assert np.concatenate(blocks)[:, 0].tolist() == list(range(7))


def test_a_command_runs_for_each_hit_without_a_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pipe(monkeypatch, spoken())
    program = f"{sys.executable} -c 'import sys, pathlib; pathlib.Path(sys.argv[1]).touch()' {tmp_path}/{{word}}"
    assert run(capsys, "listen", "--words", "left;stop=/L EH F T/", "--command", program, "-")[0] == 0
    for _ in range(200):
        if list(tmp_path.iterdir()):
            break
        time.sleep(0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["left;stop"]
    pipe(monkeypatch, spoken())
    code, out, err = run(capsys, "listen", "--words", "left", "--command", "no-such-program {word}", "-")
    assert code == 0 and "left" in out and "'no-such-program' cannot be run" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-"], "no words to listen for; give them with --words"),
        (["--words", "left", "--command", "say {name}", "-"], "cannot be filled in; it may hold {word}, {score} and"),
        (["--words", "left", "--threshold", "high", "-"], "threshold 'high'; expected a number from 0 to 1"),
        (["--words", "left", "--threshold", "right=0.5", "-"], "threshold for 'right', which is not among the words"),
        (["--words", "left", "--threshold", "1.5", "-"], "threshold 1.5; expected a number from 0 to 1"),
        (["--words", "left", "--patience", "-1", "-"], "patience of -1.0 s; expected 0 to 5 s"),
        (
            ["--words", "left,up", "my file.wav"],
            "hears a microphone, or raw sound on stdin with '-', and not 'my file.wav'; for a file use "
            "'kws-imagebind spot 'my file.wav' --words left,up --threshold 0.5'",
        ),
        (["file.wav"], "use 'kws-imagebind spot file.wav --words A,B,C --threshold 0.5'"),
    ],
)
def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    code, out, err = run(capsys, "listen", *arguments)
    assert code == 2 and not out and message in err and len(err.splitlines()) == 1
    assert err.startswith("kws-imagebind listen: ")


class FakeSound:
    """sounddevice as far as it is used: what `plugged` holds can be heard, then nothing more comes."""

    class PortAudioError(Exception):
        pass

    def __init__(self) -> None:
        self.plugged: list[dict[str, Any]] = []
        self.sounds: list[np.ndarray] = []  # of each time the device is opened
        self.busy = 0  # how often it is refused first
        self.restarted = 0
        self.default = SimpleNamespace(device=(0, 0))

    def query_devices(self) -> list[dict[str, Any]]:
        return self.plugged

    def _terminate(self) -> None:
        self.restarted += 1

    def _initialize(self) -> None:
        pass

    def InputStream(self, *, callback: Callable[..., None], blocksize: int, **_: Any) -> Any:  # noqa: N802, its name
        if self.busy:
            self.busy -= 1
            raise self.PortAudioError("Device unavailable")
        sound = self.sounds.pop(0)

        class Open:
            def __enter__(self) -> None:
                for start in range(0, len(sound), blocksize):
                    callback(sound[start : start + blocksize, None], blocksize, None, None)

            def __exit__(self, *_: object) -> None:
                pass

        return Open()


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> FakeSound:
    fake = FakeSound()
    monkeypatch.setattr(microphone, "_library", lambda: fake)
    monkeypatch.setattr(microphone, "STALLED", 0.2)
    tries = iter(range(5))

    def wait(_: float) -> None:
        if next(tries, None) == 2:
            raise KeyboardInterrupt
        if not fake.plugged:
            fake.plugged = [device("USB microphone")]

    monkeypatch.setattr(listening.time, "sleep", wait)
    return fake


def device(name: str, channels: int = 1) -> dict[str, Any]:
    return {"name": name, "max_input_channels": channels, "default_samplerate": float(RATE)}


def test_a_microphone_that_comes_is_busy_goes_and_comes_again(
    sound: FakeSound, capsys: pytest.CaptureFixture[str]
) -> None:
    sound.sounds, sound.busy = [spoken(), spoken()], 1
    code, out, err = run(capsys, "listen", "--words", "left,stop", "--json")
    assert code == 130  # Ctrl-C
    assert "this machine has no microphone; plug one in; trying again" in err
    assert "'USB microphone' cannot be opened (Device unavailable); is another program using it?; trying again" in err
    assert "'USB microphone' gives no sound any more; is it unplugged?; trying again" in err
    assert "listening to USB microphone for left, stop; Ctrl-C stops" in err
    assert [json.loads(line)["word"] for line in out.splitlines()] == ["left", "stop"] and sound.restarted == 3


def test_devices_are_chosen_by_number_or_name(sound: FakeSound, capsys: pytest.CaptureFixture[str]) -> None:
    sound.plugged = [device("Built-in"), device("Speakers", channels=0), device("USB one"), device("USB two")]
    assert microphone.chosen(None).name == "Built-in" and microphone.chosen("2").name == "USB one"
    assert microphone.chosen("two").number == 3
    for name, count in (("usb", "2"), ("1", "no"), ("tape", "no")):
        with pytest.raises(
            microphone.MicrophoneError, match=f"names {count} input devices; those here are: 0 Built-in"
        ):
            microphone.chosen(name)
    code, out, _ = run(capsys, "listen", "--list-inputs")
    assert code == 0 and "2  USB one  16,000 Hz" in out and "Speakers" not in out


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    code, _, err = run(capsys, "listen", "--words", "left")
    assert code == 2 and "install sounddevice, or the extra 'listen' of kws-imagebind" in err and err.count("\n") == 1


def test_check_word_says_how_it_is_read_and_what_sounds_like_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check-word", "computer", "lamp", "--json")
    computer, lamp = (json.loads(line) for line in out.splitlines())
    assert code == 0 and computer["syllables"] == 3 and computer["phonemes"] == 8 and not computer["guessed"]
    assert "computers" in {each["word"] for each in computer["neighbours"]} and computer["inside"]["count"] > 10
    neighbours = {each["word"] for each in lamp["neighbours"]}
    assert "lump" in neighbours and "lampe" not in neighbours and "too short" in lamp["verdict"]  # Lampe is a name
    cosines = [each["cosine"] for each in lamp["neighbours"]]
    assert cosines == sorted(cosines, reverse=True)
    code, out, _ = run(capsys, "check-word", "zorblax", "tomato=/T AH M EY T OW/")
    assert code == 0 and "no dictionary has it" in out and "6 phonemes, 3 syllables" in out
    code, _, err = run(capsys, "check-word", "7")
    assert code == 2 and "write them as words" in err


def test_a_cosine_of_nearly_nothing_has_no_sign(capsys: pytest.CaptureFixture[str]) -> None:
    _print_ranks([("lamp", 0.25), ("kettle", -1e-5)])
    assert capsys.readouterr().out.split()[-2:] == ["kettle", "0.000"]


def test_export_writes_a_file_or_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    target = tmp_path / "spotter.onnx"
    code, _, err = run(capsys, "export", "--words", "lamp", "--output", target)
    assert (
        code == 2
        and "install onnx and onnxruntime, or the extra 'export' of kws-imagebind" in err
        and not target.exists()
    )
    monkeypatch.undo()
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    code, _, err = run(capsys, "export", "--words", "lamp,kettle", "--output", target, "--int8")
    size = target.stat().st_size
    assert code == 0 and f"2 words, {size / 1e6:.2f} MB" in err and size < 2_000_000


@pytest.mark.parametrize(
    ("sound", "said"),
    [
        (b"RIFF1234WAVE" * 99, "is a WAV file; send raw 16-bit PCM, as 'ffmpeg -i FILE -f s16le"),
        (b"ID3\x04\0\0\0\0\x02\x01" * 99, "is an MP3 file; send raw"),
        (b"the words of a poem\n" * 99, "is text; expected raw 16-bit PCM, as 'arecord -t raw -f S16_LE' writes it"),
        (b"", "no sound came on stdin"),
    ],
)
def test_what_is_not_raw_sound_on_stdin_is_said(
    sound: bytes, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(sound)))
    assert main(["listen", "--words", "yes,no", "-"]) == 2
    assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["listen", "--words", "yes,no", "--rate", "10", "-"])
    assert "expected a sample rate from 8000 to 192000" in capsys.readouterr().err
