"""A stream gives the same hits whatever its blocks are, forgets what it should, and does not drift."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import kws_imagebind as kws
from kws_imagebind.audio.resample import Resampler, resample
from kws_imagebind.encoders.phonebind import PhoneBindEncoder
from kws_imagebind.spotting.detect import Detector
from kws_imagebind.spotting.hits import Hit
from kws_imagebind.spotting.stream import Listener
from kws_imagebind.spotting.windows import Ear, listen_to
from tests.spotting.test_spotting import RATE, ToneSpotter, clip, joined, tone, write

WORDS = ["1020", "3020"]


@pytest.fixture(scope="module")
def encoder() -> PhoneBindEncoder:
    return PhoneBindEncoder.from_weights(device="cpu")


def tones(rate: int = RATE) -> np.ndarray:
    samples, _ = joined(1.3, tone(1_020, 0.3), 2.3, tone(3_020, 0.3), 1.2, tone(1_020, 0.3), 1.0)
    return resample(torch.from_numpy(samples), RATE, rate).numpy()


def heard(listener: Listener, samples: np.ndarray, cuts: list[int], rate: int = RATE) -> list[Hit]:
    return list(listener.listen(np.split(samples, sorted(cuts)), rate))


def alike(some: list[Hit], others: list[Hit]) -> bool:
    return [(hit.word, hit.start, hit.end) for hit in some] == [
        (hit.word, hit.start, hit.end) for hit in others
    ] and np.allclose([hit.score for hit in some], [hit.score for hit in others], atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 120_000), max_size=60),
    rate=st.sampled_from([8_000, RATE, 22_050, 44_100, 48_000]),
)
def test_blocks_of_any_size_and_rate_give_the_same_hits(cuts: list[int], rate: int) -> None:
    listener, samples = Listener(WORDS, encoder=ToneSpotter()), tones(rate)
    whole = heard(listener, samples, [], rate)
    assert [hit.word for hit in whole] == ["1020", "3020", "1020"]
    assert alike(heard(listener, samples, cuts, rate), whole)


def test_speech_in_blocks_of_ten_milliseconds_gives_the_hits_of_the_file(
    tmp_path: Path, encoder: PhoneBindEncoder
) -> None:
    said = ("yes", "marvin", "left", "house", "stop")
    samples, _ = joined(*(part for word in said for part in (0.5, clip(word, 2))), 0.5)
    words = ["yes", "left", "stop", "banana"]
    expected = kws.detect(write(tmp_path / "said.wav", samples), words, encoder)
    listener = Listener(words, encoder=encoder)
    assert [hit.word for hit in expected] == ["yes", "left", "stop"]
    # Files are written in 16 bits.
    sixteen = np.round(samples * 32_768).astype(np.int16)[:, None]
    assert alike(list(listener.listen(np.split(sixteen, range(160, len(sixteen), 160)))), expected)
    detector = Detector(encoder, words)
    assert alike(detector.hits(detector.listen(tmp_path / "said.wav")), expected)


def test_windows_of_shared_frames_are_those_of_the_sound_itself(encoder: PhoneBindEncoder) -> None:
    class Plain:
        """The same encoder, but for its frames."""

        name, sample_rate, dim, window = encoder.name, encoder.sample_rate, encoder.dim, encoder.window
        default_template, fingerprint = encoder.default_template, encoder.fingerprint
        encode_audio, encode_text = encoder.encode_audio, encoder.encode_text
        variants, confidence = encoder.variants, encoder.confidence

    samples, _ = joined(0.4, clip("yes"), 0.3, 0.1 * clip("left"), 0.2)
    blocks = torch.from_numpy(samples).split(3_000)
    scorer = kws.ZeroShotClassifier(encoder, ["yes", "left"])
    one, other = (listen_to(blocks, Ear(each, scorer, scorer.weights)) for each in (encoder, Plain()))
    torch.testing.assert_close(one.keywords, other.keywords, atol=1e-5, rtol=0)
    torch.testing.assert_close(one.fillers, other.fillers, atol=1e-5, rtol=0)
    assert np.array_equal(one.levels, other.levels) and one.seconds == other.seconds


def test_a_hit_comes_while_the_stream_goes_on() -> None:
    listener = Listener(WORDS, encoder=ToneSpotter())
    samples, _ = joined(1.3, tone(1_020, 0.3), 60.0)
    for block in np.split(samples, range(1_600, len(samples), 1_600)):
        if hits := listener.hear(block):
            break
    assert [hit.word for hit in hits] == ["1020"]
    assert 2.0 < listener.seconds < 2.8  # its middle is at 1.45; half a window, smoothing and patience follow
    assert Listener(WORDS, patience=0.1, encoder=ToneSpotter()).hear(samples[: round(2.2 * RATE)])


def test_reset_begins_another_stream() -> None:
    listener, samples = Listener(WORDS, encoder=ToneSpotter()), tones()
    first = heard(listener, samples, [])
    listener.hear(samples[:70_000])
    listener.reset()
    assert listener.seconds == 0 and alike(heard(listener, samples, []), first)
    assert listener.hear(samples[:RATE]) == [] and listener.finish() == [] and listener.seconds == 0


def test_another_rate_in_mid_stream_is_heard() -> None:
    listener = Listener(WORDS, encoder=ToneSpotter())
    hits = listener.hear(tones(), RATE) + listener.hear(tones(48_000), 48_000) + listener.finish()
    length = len(tones()) / RATE
    assert [hit.word for hit in hits] == ["1020", "3020", "1020"] * 2
    assert hits[3].start - hits[0].start == pytest.approx(length, abs=0.02)


def test_thresholds_of_words() -> None:
    samples = tones()
    assert [hit.word for hit in heard(Listener(WORDS, {"1020": 1.0}, encoder=ToneSpotter()), samples, [])] == ["3020"]
    with pytest.raises(ValueError, match="threshold for '99', which is not among the words: 1020, 3020"):
        Listener(WORDS, {"99": 0.5}, encoder=ToneSpotter())
    with pytest.raises(ValueError, match=r"threshold 2; expected a number from 0 to 1"):
        Listener(WORDS, 2, encoder=ToneSpotter())
    with pytest.raises(ValueError, match=r"patience of 9 s; expected 0 to 5 s"):
        Listener(WORDS, patience=9, encoder=ToneSpotter())


def test_refractory_time_joins_hits() -> None:
    samples, _ = joined(1.0, tone(1_020, 0.3), 0.9, tone(1_020, 0.3), 1.0)
    assert len(heard(Listener(WORDS, encoder=ToneSpotter()), samples, [])) == 2
    assert len(heard(Listener(WORDS, refractory=3.0, encoder=ToneSpotter()), samples, [])) == 1


def test_the_start_of_a_stream_is_no_word(encoder: PhoneBindEncoder) -> None:
    """Silence before and after what a microphone gives first: a click, or a step of its offset."""
    rng = np.random.default_rng(1)
    rest = rng.normal(0, 1e-4, 3 * RATE).astype(np.float32)
    step, click = rest + 0.1, rest.copy()
    click[0] = 0.9
    listener = Listener(["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"], encoder=encoder)
    for start in (rest, step, click):
        assert heard(listener, start, [800, 1_600]) == []


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.zeros((2, 2, 2), np.float32), "expected (samples,) or (samples, channels)"),
        (np.array([0.0, np.nan], np.float32), "NaN or infinite"),
    ],
)
def test_what_is_no_sound_is_refused(block: np.ndarray, message: str) -> None:
    with pytest.raises(kws.AudioError) as error:
        Listener(WORDS, encoder=ToneSpotter()).hear(block)
    assert message in str(error.value)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000])
def test_resampling_leaves_no_seam(rate: int) -> None:
    rng = np.random.default_rng(rate)
    samples = torch.from_numpy(rng.normal(0, 0.2, 3 * rate).astype(np.float32))
    resampler, parts = Resampler(rate, RATE), []
    for size in (1, 7, 333, 20_000, 50, rate):
        block, samples_left = samples[:size], samples[size:]
        parts.append((block, samples_left))
        samples = samples_left
    blocks = [block for block, _ in parts] + [samples]
    given = torch.cat([*(resampler.add(block) for block in blocks), resampler.finish()])
    torch.testing.assert_close(given, resample(torch.cat(blocks), rate, RATE), atol=1e-6, rtol=0)


class Beeper(ToneSpotter):
    """As cheap as an encoder can be, at a thousand samples a second: a day of sound in seconds."""

    sample_rate = 1_000

    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        loud = torch.stack([waveform[200:300].abs().max() for waveform in waveforms]) > 0.1
        vectors = torch.zeros(len(waveforms), self.dim)
        vectors[loud, 1_020 // 40] = 1
        vectors[~loud, 199] = 1
        return vectors


def test_a_day_does_not_drift_and_takes_no_more_memory_than_an_hour() -> None:
    listener, minute = Listener(["1020"], encoder=Beeper()), np.zeros(60_000, np.float32)
    minute[30_000:30_300] = np.random.default_rng(0).normal(0, 0.3, 300)
    starts: list[float] = []
    for number in range(24 * 60):
        starts += [hit.start for hit in listener.hear(minute)]
        if number == 60:
            after_an_hour = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < after_an_hour + 10_000  # kB
    assert listener.seconds == 86_400
    assert starts == pytest.approx([60 * minute + 30 for minute in range(24 * 60)], abs=0.011)
