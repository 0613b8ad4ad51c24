"""Reading recordings, and the log-mel front end against torchaudio's port of Kaldi."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.compliance import kaldi

from kws_imagebind.audio import ffmpeg, files
from kws_imagebind.audio.files import decode, duration, extensions, load_audio, read_bytes, stream_audio
from kws_imagebind.audio.mel import MelConfig, log_mel, mel_filterbank, power_spectrum
from kws_imagebind.audio.resample import resample
from kws_imagebind.audio.signal import AudioError, fit, is_silent

FORMATS = [
    ("wav", "PCM_U8", 2e-2),
    ("wav", "PCM_16", 1e-4),
    ("wav", "PCM_24", 1e-4),
    ("wav", "PCM_32", 1e-4),
    ("wav", "FLOAT", 1e-6),
    ("wav", "DOUBLE", 1e-6),
    ("wav", "ULAW", 3e-2),
    ("wav", "IMA_ADPCM", 5e-2),
    ("wav", "GSM610", 0.3),
    ("flac", "PCM_16", 1e-4),
    ("ogg", "VORBIS", 0.15),
    ("ogg", "OPUS", 0.15),
    ("mp3", "MPEG_LAYER_III", 0.15),
]


def tone(rate: int = 16_000, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize(("extension", "subtype", "tolerance"), FORMATS)
def test_every_format_gives_the_same_sound(tmp_path: Path, extension: str, subtype: str, tolerance: float) -> None:
    path = tmp_path / f"clip.{extension}"
    soundfile.write(path, tone(), 16_000, subtype=subtype)
    waveform = load_audio(path, 16_000)
    assert waveform.dtype == torch.float32 and waveform.ndim == 1
    inner = slice(2_000, 14_000)  # codecs smear the edges
    assert np.abs(waveform.numpy()[inner] - tone()[inner]).max() < tolerance


def test_channels_are_averaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "stereo.wav", np.stack([tone(), np.zeros(16_000)], 1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "stereo.wav", 16_000), tone() / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("rate", "tolerance"),
    [(8_000, 0.02), (11_025, 0.02), (22_050, 0.02), (44_100, 0.02), (48_000, 0.02), (96_000, 0.02), (16_001, 0.1)],
)
def test_any_sample_rate_keeps_the_pitch(rate: int, tolerance: float) -> None:
    waveform = resample(torch.from_numpy(tone(rate)).float(), rate, 16_000)
    assert abs(len(waveform) - 16_000) <= 1
    inner = slice(1_000, 15_000)
    np.testing.assert_allclose(waveform.numpy()[inner], tone()[: len(waveform)][inner], atol=tolerance)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def cut(path: Path, share: float = 0.6) -> Path:
    content = path.read_bytes()
    return write(path.with_name("cut" + path.suffix), content[: int(share * len(content))])


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3", "aiff", "au", "w64", "rf64", "caf"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_named(tmp_path: Path, extension: str, share: float) -> None:
    whole = tmp_path / f"whole.{extension}"
    soundfile.write(whole, np.random.default_rng(0).normal(0, 0.1, 48_000), 16_000)
    assert len(load_audio(whole, 16_000)) == pytest.approx(48_000, abs=2_000)
    with pytest.raises(AudioError, match=r"cut\.\w+: .*(cut short|cannot be decoded)"):
        load_audio(cut(whole, share), 16_000)


def test_a_streamed_wav_whose_header_could_not_be_finished_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe.wav"
    soundfile.write(path, tone(), 16_000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = content[4:8] = b"\xff\xff\xff\xff"
    assert len(load_audio(write(path, bytes(content)), 16_000)) == 16_000


def test_an_ogg_cut_between_two_pages_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "clip.ogg"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 80_000), 16_000)
    content = path.read_bytes()
    with pytest.raises(AudioError, match="cut short"):
        load_audio(write(path, content[: content.rindex(b"OggS")]), 16_000)


def test_a_flac_written_through_a_pipe_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "pipe.flac"
    soundfile.write(path, tone(), 16_000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # STREAMINFO's 36 bits of total samples
    content[22:26] = bytes(4)
    with pytest.raises(AudioError, match="does not say its length"):
        load_audio(write(path, bytes(content)), 16_000)


def test_a_small_file_of_many_samples_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "many.flac"
    soundfile.write(path, np.zeros((655_350, 8), np.int16), 655_350)
    monkeypatch.setattr(files, "MAX_VALUES", 5_000_000)
    with pytest.raises(AudioError, match="8 channels at 655,350 Hz hold 5 million samples"):
        load_audio(path, 16_000)


def test_absurdly_loud_samples_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", np.full((16_000, 2), 3e38), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="32000 of 32000 samples are NaN, infinite or absurd"):
        load_audio(tmp_path / "loud.wav", 16_000)


def bad_files(folder: Path) -> dict[str, Path]:
    with_nan = tone()
    with_nan[5] = np.nan
    soundfile.write(folder / "nan.wav", with_nan, 16_000, subtype="FLOAT")
    soundfile.write(folder / "short.wav", tone()[:3], 16_000)
    soundfile.write(folder / "no_frames.wav", tone()[:0], 16_000)
    soundfile.write(folder / "long.wav", np.zeros(700 * 100, np.float32), 100, subtype="PCM_U8")
    (folder / "folder.wav").mkdir()
    return {
        "there is no such file": folder / "missing.wav",
        r"empty \(0 bytes\)": write(folder / "empty.wav", b""),
        "cannot be decoded": write(folder / "text.wav", b"this is no sound" * 40),
        "cannot be decoded.*": write(folder / "header.wav", b"RIFF\x24\x00\x00\x00WAVE"),
        "1 of 16000 samples are NaN": folder / "nan.wav",
        "holds 3 samples": folder / "short.wav",
        "holds 0 samples": folder / "no_frames.wav",
        "lasts 700 s": folder / "long.wav",
        "is a folder": folder / "folder.wav",
        "cannot be decoded .*samplerate": write(folder / "clip.raw", bytes(4_000)),
    }


def test_every_bad_file_gives_one_sentence_that_names_it(tmp_path: Path) -> None:
    for reason, path in bad_files(tmp_path).items():
        with pytest.raises(AudioError, match=reason) as caught:
            load_audio(path, 16_000)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_silence_is_a_recording(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    assert load_audio(tmp_path / "silence.wav", 16_000).abs().max() == 0


def test_log_mel_is_kaldis() -> None:
    waveforms = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (3, 16_000))).float()
    for mels, low, high in ((128, 20.0, 8_000.0), (64, 60.0, 7_600.0), (40, 0.0, 8_000.0)):
        ours = log_mel(waveforms, MelConfig(mels=mels, low=low, high=high))
        options = {"window_type": "hanning", "dither": 0.0, "use_energy": False, "htk_compat": True}
        for waveform, spectrogram in zip(waveforms, ours, strict=True):
            theirs = kaldi.fbank(waveform[None], num_mel_bins=mels, low_freq=low, high_freq=high, **options)
            torch.testing.assert_close(spectrogram.T, theirs, atol=2e-4, rtol=0)


@pytest.mark.parametrize("samples", [400, 559, 560, 16_000, 16_159, 16_160])
def test_frames_are_counted_right(samples: int) -> None:
    config = MelConfig(mels=40)
    assert log_mel(torch.zeros(1, samples), config).shape[-1] == config.frames(samples)


def test_a_warped_filterbank_hears_a_shifted_tone_where_the_plain_one_hears_it_unshifted() -> None:
    config = MelConfig(mels=64, low=60, high=7_600)
    time = torch.arange(16_000) / 16_000
    plain = log_mel(torch.sin(2 * torch.pi * 1_000 * time)[None], config).mean(2).argmax()
    raised = torch.sin(2 * torch.pi * 1_200 * time)[None]
    warped = (power_spectrum(raised, config) @ mel_filterbank(config, 1.2).T).mean(1).argmax()
    assert plain == warped
    assert log_mel(raised, config).mean(2).argmax() != plain


def test_too_short_a_waveform_and_impossible_filters_are_refused() -> None:
    with pytest.raises(AudioError, match="399 samples are shorter"):
        log_mel(torch.zeros(1, 399), MelConfig())
    with pytest.raises(ValueError, match="0 <= low < high"):
        mel_filterbank(MelConfig(high=9_000.0))


def test_the_loudest_second_of_a_long_recording_is_taken(write_tone: Callable[..., Path], tmp_path: Path) -> None:
    quiet = torch.randn(48_000, generator=torch.Generator().manual_seed(0)) * 0.01
    quiet[20_000:30_000] += torch.from_numpy(tone()[:10_000]).float()
    window = fit(quiet, 16_000)
    assert window.square().sum() == pytest.approx(float(quiet[15_000:35_000].square().sum()), rel=0.01)
    assert len(fit(quiet[:5], 16_000)) == len(window) == 16_000


@pytest.mark.parametrize("rate", [8_000, 11_025, 15_999, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("seconds", [0.01, 0.37, 3.0])
def test_a_stream_is_the_recording_whatever_the_size_of_its_blocks(tmp_path: Path, rate: int, seconds: float) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (round(2.3 * rate), 2))
    soundfile.write(tmp_path / "x.wav", noise, rate)
    blocks = list(stream_audio(tmp_path / "x.wav", 16_000, seconds))
    assert all(block.ndim == 1 for block in blocks) and (len(blocks) > 3 or seconds == 3.0)
    torch.testing.assert_close(torch.cat(blocks), load_audio(tmp_path / "x.wav", 16_000), atol=1e-6, rtol=0)
    assert duration(tmp_path / "x.wav") == pytest.approx(2.3, abs=1e-4)


def test_a_stream_has_no_longest_length_but_the_same_refusals(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(8_000 * 601, np.int16), 8_000)
    with pytest.raises(AudioError, match="601 s"):
        load_audio(tmp_path / "long.wav", 8_000)
    assert sum(len(block) for block in stream_audio(tmp_path / "long.wav", 8_000)) == 8_000 * 601
    whole = (tmp_path / "long.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none.wav").write_bytes(b"")
    soundfile.write(tmp_path / "nan.wav", np.full(8_000, np.nan), 8_000, subtype="FLOAT")
    for name, message in (("cut", "cut short"), ("none", "is empty"), ("nan", "NaN"), ("absent", "no such file")):
        with pytest.raises(AudioError, match=message):
            list(stream_audio(tmp_path / f"{name}.wav", 16_000))


def ffmpeg_clip(path: Path, *options: str, seconds: float = 1.0) -> Path:
    """A tone, encoded by ffmpeg as the path's extension says."""
    program = shutil.which("ffmpeg")
    if not program:
        pytest.skip("ffmpeg is not installed")
    source = path.with_name("source.wav")
    soundfile.write(source, tone(seconds=seconds), 16_000)
    subprocess.run([program, "-v", "error", "-y", "-i", source, *options, path], check=True, stdin=subprocess.DEVNULL)
    return path


@pytest.mark.parametrize("name", ["a.m4a", "a.webm", "a.mka", "a.aac", "browser.webm"])
def test_what_libsndfile_does_not_know_is_read_by_ffmpeg(tmp_path: Path, name: str) -> None:
    # Browsers write WebM as it comes, without a length.
    path = ffmpeg_clip(tmp_path / name, *(["-c:a", "libopus", "-live", "1"] if name == "browser.webm" else []))
    waveform = load_audio(path, 16_000)
    assert len(waveform) == pytest.approx(16_000, abs=2_500) and waveform.dtype == torch.float32
    spectrum = np.abs(np.fft.rfft(waveform.numpy()[2_000:10_000] * np.hanning(8_000)))
    assert spectrum.argmax() * 2 == 440 and waveform[2_000:10_000].abs().max() == pytest.approx(0.5, abs=0.1)
    blocks = list(stream_audio(path, 16_000, 0.3))
    assert len(blocks) > 2
    torch.testing.assert_close(torch.cat(blocks), waveform, atol=1e-6, rtol=0)
    assert duration(path) == pytest.approx(len(waveform) / 16_000)


def test_ogg_opus_of_a_browser_needs_no_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ffmpeg_clip(tmp_path / "a.ogg", "-c:a", "libopus")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert len(load_audio(path, 16_000)) == pytest.approx(16_000, abs=500)


def test_without_ffmpeg_the_command_to_convert_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "my voice.m4a", b"\0\0\0\x20ftypM4A " + bytes(100))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    for read in (lambda: load_audio(path, 16_000), lambda: duration(path)):
        with pytest.raises(AudioError, match=r"ffmpeg -i '.*my voice\.m4a' '.*my voice\.wav'"):
            read()
    assert ".m4a" not in extensions() and ".m4a" in extensions(with_ffmpeg=True)
    assert {".wav", ".flac", ".ogg", ".opus", ".mp3"} <= extensions() and ".raw" not in extensions(with_ffmpeg=True)


@pytest.mark.parametrize("name", ["a.m4a", "a.webm"])
def test_a_cut_file_is_refused_through_ffmpeg_too(tmp_path: Path, name: str) -> None:
    path = cut(ffmpeg_clip(tmp_path / name))
    with pytest.raises(AudioError, match=r"cut\.\w+: cannot be decoded \(ffmpeg: .*copy it again") as caught:
        load_audio(path, 16_000)
    assert str(path) in str(caught.value) and "kws-imagebind-" not in str(caught.value)
    with pytest.raises(AudioError, match="cannot be decoded"):
        list(stream_audio(path, 16_000))


def test_ffmpeg_stops_where_a_recording_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ffmpeg_clip(tmp_path / "long.m4a", seconds=30.0)
    with pytest.raises(AudioError, match="lasts more than 5 s; a recording of at most 5 s is expected"):
        load_audio(path, 16_000, max_seconds=5.0)
    monkeypatch.setattr(files, "MAX_VALUES", 100_000)
    with pytest.raises(AudioError, match="lasts more than 6 s"):
        load_audio(path, 16_000)
    assert sum(map(len, stream_audio(path, 16_000))) == pytest.approx(480_000, abs=3_000)


def test_an_ffmpeg_that_stands_still_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = write(tmp_path / "ffmpeg", b"#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(sleeper))
    monkeypatch.setattr(ffmpeg, "PATIENCE", 0.5)
    with pytest.raises(AudioError, match="cannot be decoded"):
        load_audio(write(tmp_path / "a.m4a", b"\0\0\0\x20ftypM4A " + bytes(100)), 16_000)


def test_a_playlist_fetches_nothing_and_reads_no_other_file(tmp_path: Path) -> None:
    other = ffmpeg_clip(tmp_path / "other.m4a")
    asked: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/a.m4a"
        playlists = (
            f"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n",
            f"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\nfile://{other}\n#EXT-X-ENDLIST\n",
            f"ffconcat version 1.0\nfile {other.name}\n",
        )
        for text in playlists:
            with pytest.raises(AudioError, match="cannot be decoded"):
                load_audio(write(tmp_path / "list.m4a", text.encode()), 16_000)
            # ffmpeg would not read it either, were it asked
            with (
                pytest.raises(AudioError, match="cannot be decoded"),
                (tmp_path / "list.m4a").open("rb") as file,
                ffmpeg.opened(file, tmp_path / "list.m4a") as stream,
            ):
                stream.read(1)
        server.shutdown()
    assert not asked


def test_bytes_are_decoded_as_the_file_is(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), 16_000)
    data, status = read_bytes(tmp_path / "a.wav")
    assert data == (tmp_path / "a.wav").read_bytes() and status is not None and status.st_size == len(data)
    (tmp_path / "a.wav").unlink()
    assert len(decode(data, "a.wav", 16_000)) == 16_000
    with pytest.raises(AudioError, match=r"a\.wav: the file is cut short"):
        decode(data[:10_000], "a.wav", 16_000)


@pytest.mark.parametrize("read", [lambda path: load_audio(path, 16_000), duration])
def test_what_cannot_be_opened_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(), 16_000)
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match="is a pipe or a device"):
        read(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match=r"a\.wav/x\.wav: cannot read .*a\.wav' is a file, and a folder is expected"):
        read(path / "x.wav")
    if Path("/proc/self/status").exists():  # which says that it has 0 bytes, and has more
        with pytest.raises(AudioError, match=r"/proc/self/status: cannot (be decoded|read)"):
            read(Path("/proc/self/status"))

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(AudioError, match=r"a\.wav: cannot read .*: permission denied; change its permissions"):
        read(path)


def test_only_equal_samples_are_silence() -> None:
    assert is_silent(torch.zeros(100)) and is_silent(torch.full((100,), 0.25))
    assert not is_silent(torch.tensor([0.0, 1 / 32_768]))
