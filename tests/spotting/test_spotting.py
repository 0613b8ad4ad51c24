"""Words found in time: silence, level, length, overlap, and what a score is worth."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional as F

import kws_imagebind as kws
from kws_imagebind.cli import main
from kws_imagebind.encoders import EncoderError
from kws_imagebind.encoders.confidence import Confidence, ConfidenceError
from kws_imagebind.encoders.phonebind import WEIGHTS, PhoneBindEncoder
from kws_imagebind.spotting.detect import Detector, find_hits
from kws_imagebind.spotting.hits import APART
from kws_imagebind.spotting.windows import FAR_BELOW, HOP, Ear, Heard, Loudness, _Rows, apart, listen_to, smooth, tenths
from kws_imagebind.text.fillers import FILLERS
from kws_imagebind.training.corpora.soundscape import Said, Soundscape, compose, extent
from kws_imagebind.training.phonebind.confidence import SHARES, Examples, clips, fit

SAMPLE = Path(__file__).parents[2] / "sample"
RATE = 16_000
SURE = Confidence(keyword=20.0, fillers=0.0, bias=-10.0)  # of a cosine of 0.5 it is half sure


def clip(word: str, voice: int = 0) -> np.ndarray:
    return soundfile.read(sorted((SAMPLE / word).glob("*.wav"))[voice], dtype="float32")[0]


def joined(*parts: np.ndarray | float) -> tuple[np.ndarray, list[float]]:
    """Sounds, and silences of so many seconds, end to end; and the middle of each sound."""
    pieces, middles, position = [], [], 0
    for part in parts:
        piece = np.zeros(round(part * RATE), np.float32) if isinstance(part, float) else part
        if not isinstance(part, float):
            middles.append((position + len(piece) / 2) / RATE)
        pieces.append(piece)
        position += len(piece)
    return np.concatenate(pieces), middles


@pytest.fixture(scope="module")
def encoder() -> PhoneBindEncoder:
    return PhoneBindEncoder.from_weights(device="cpu")


class ToneSpotter:
    """Hears half a second: its spectrum in steps of 40 Hz. A text that is no number is nothing that can be heard."""

    name, sample_rate, dim, fingerprint, default_template, window = "tone", RATE, 201, "tone-2", "{}", 0.5

    def __init__(self) -> None:
        self.encoded = 0

    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        self.encoded += len(waveforms)
        assert all(len(waveform) == 8_000 for waveform in waveforms)
        spectrum = torch.fft.rfft(torch.stack(list(waveforms))).abs()[:, :4_000]
        return F.normalize(F.pad(spectrum.unflatten(1, (200, 20)).sum(2), (0, 1)) + 1e-9, dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        places = [int(text) // 40 if text.isdigit() else 200 for text in texts]
        return F.one_hot(torch.tensor(places), self.dim).float()

    def confidence(self) -> Confidence:
        return SURE


def tone(hertz: float, seconds: float, gain: float = 0.5) -> np.ndarray:
    return (gain * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    soundfile.write(path, samples, rate)
    return path


def test_tones_are_found_where_they_are(tmp_path: Path) -> None:
    samples, _ = joined(1.3, tone(1_020, 0.3), 2.3, tone(3_020, 0.3), 1.2, tone(1_020, 0.3), 1.0, tone(2_020, 0.3))
    hits = kws.detect(write(tmp_path / "tones.wav", samples), ["1020", "3020"], encoder=ToneSpotter())
    assert [hit.word for hit in hits] == ["1020", "3020", "1020"]
    for hit, start in zip(hits, (1.3, 3.9, 5.4), strict=True):
        assert hit.start == pytest.approx(start, abs=0.06) and hit.end == pytest.approx(start + 0.3, abs=0.06)
        assert 0.5 <= hit.score <= 1


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_another_sample_rate_and_length_of_blocks_change_nothing(tmp_path: Path, rate: int) -> None:
    spotter = ToneSpotter()
    time = np.arange(rate * 25) / rate
    samples = 0.4 * np.sin(2 * np.pi * 1_020 * time) * ((time > 9.8) & (time < 10.2))  # across the border of a block
    (hit,) = kws.detect(write(tmp_path / "tone.wav", samples, rate), ["1020"], encoder=spotter)
    assert hit.start == pytest.approx(9.8, abs=0.06) and hit.end == pytest.approx(10.2, abs=0.06)
    detector = Detector(spotter, kws.ZeroShotClassifier(spotter, ["1020"]))
    waveform = kws.load_audio(tmp_path / "tone.wav", RATE)
    for size in (700, 8_000, 100_000, len(waveform)):
        (again,) = detector.hits(detector.listen_to(waveform.split(size)))
        assert (again.word, again.start, again.end) == (hit.word, hit.start, hit.end)
        assert again.score == pytest.approx(hit.score, abs=1e-4)


def test_every_tenth_of_a_second_is_the_middle_of_one_window() -> None:
    spotter = ToneSpotter()
    scorer = kws.ZeroShotClassifier(spotter, ["1020"])
    for seconds in (0.02, 0.1, 0.5, 1.0, 3.25):
        heard = listen_to([torch.from_numpy(tone(1_020, seconds))], Ear(spotter, scorer, scorer.weights))
        assert len(heard.keywords) == len(heard.levels) == int(seconds / HOP + 1e-6) + 1, seconds
        assert heard.seconds == pytest.approx(seconds)


def test_rows_give_the_numbers_of_all_at_once() -> None:
    draw = torch.Generator().manual_seed(0)
    parts = [torch.randn(count, 37, generator=draw) for count in (1, 64, 64, 900, 5_000, 3)]
    rows = _Rows(37)
    for part in parts:
        rows.add(part)
    assert torch.equal(rows.all(), torch.cat(parts))


def test_words_of_the_sample_are_found_and_nothing_else(tmp_path: Path, encoder: PhoneBindEncoder) -> None:
    said = ("yes", "marvin", "left", "house", "stop", "seven")
    samples, middles = joined(*(part for word in said for part in (0.8, clip(word, 2))), 0.8)
    path = write(tmp_path / "said.wav", samples)
    hits = kws.detect(path, ["yes", "left", "stop", "banana"], encoder=encoder)
    assert [hit.word for hit in hits] == ["yes", "left", "stop"]
    for hit, place in zip(hits, (0, 2, 4), strict=True):
        assert (hit.start + hit.end) / 2 == pytest.approx(middles[place], abs=0.25)
    ranked = kws.spot(path, ["yes", "left", "stop", "banana"], encoder=encoder)
    assert ranked[-1][0] == "banana"  # each word has the score of its best place
    assert kws.detect(path, ["yes", "left"], encoder=encoder, threshold=1.0) == []


def test_a_recording_of_a_second_is_ranked_as_its_one_vector_says(encoder: PhoneBindEncoder) -> None:
    path = sorted((SAMPLE / "seven").glob("*.wav"))[1]
    scorer = kws.ZeroShotClassifier(encoder, ["seven", "eleven", "lamp"])
    values = scorer(encoder.encode_audio([kws.load_audio(path, RATE)])).values[0].tolist()
    assert dict(kws.spot(path, ["seven", "eleven", "lamp"], encoder=encoder)) == dict(
        zip(scorer.labels, values, strict=True)
    )


@pytest.mark.parametrize(
    "noise",
    [
        lambda rng: np.zeros(10 * RATE),
        lambda rng: np.full(10 * RATE, 0.25),
        lambda rng: np.round(rng.normal(0, 0.6, 10 * RATE)) / 32_768,  # the last bit of 16
        lambda rng: rng.normal(0, 1e-3, 10 * RATE),
        lambda rng: rng.normal(0, 0.2, 10 * RATE),
        lambda rng: np.cumsum(rng.normal(0, 1e-4, 10 * RATE)),
        lambda rng: 0.3 * np.sin(2 * np.pi * 50 * np.arange(10 * RATE) / RATE),
    ],
    ids=["digital silence", "a constant", "dither", "hiss", "white noise", "brown noise", "hum"],
)
def test_silence_and_noise_hold_no_word(
    tmp_path: Path, encoder: PhoneBindEncoder, noise: Callable[[np.random.Generator], np.ndarray]
) -> None:
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise(np.random.default_rng(3)), RATE, subtype="FLOAT")
    assert kws.detect(path, ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"], encoder) == []


def test_digital_silence_is_not_even_encoded() -> None:
    spotter = ToneSpotter()
    scorer = kws.ZeroShotClassifier(spotter, ["1020"])
    heard = listen_to([torch.zeros(5 * RATE)], Ear(spotter, scorer, scorer.weights))
    assert spotter.encoded == 0 and not heard.audible.any()
    with pytest.raises(kws.AudioError, match="without any sample"):
        listen_to([], Ear(spotter, scorer, scorer.weights))


def test_a_last_block_of_a_few_samples_is_heard_without_a_warning(tmp_path: Path) -> None:
    # pytest makes errors of warnings here; 50 samples are less than the hundredth of a second that is measured.
    loudness = Loudness(RATE)
    assert loudness.frames.shape == (0,)
    for count, frames in ((1_600, 10), (50, 10), (110, 11)):
        loudness.add(torch.randn(count))
        assert len(loudness.frames) == frames


def test_the_command_line_finds_nothing_in_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "silence.wav", np.zeros(5 * RATE))
    assert main(["spot", str(path), "--words", "yes,no", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["scores"] == answer["detections"] == []
    assert main(["spot", str(path), "--words", "yes,no", "--threshold", "0.5"]) == 0
    said = capsys.readouterr()
    assert not said.out and "holds only silence, so no word was said" in said.err


def test_a_long_silence_has_no_ranks(tmp_path: Path, encoder: PhoneBindEncoder) -> None:
    with pytest.raises(kws.AudioError, match="holds only silence"):
        kws.spot(write(tmp_path / "silence.wav", np.zeros(5 * RATE)), ["yes", "no"], encoder=encoder)


def test_gain_does_not_matter_but_what_is_far_below_the_rest_does(tmp_path: Path, encoder: PhoneBindEncoder) -> None:
    loud, _ = joined(1.0, clip("yes"), 1.0)
    words = ["yes", "stop"]
    hits = [kws.detect(write(tmp_path / "gain.wav", gain * loud), words, encoder=encoder) for gain in (1.0, 0.1, 0.02)]
    assert [[hit.word for hit in each] for each in hits] == [["yes"]] * 3
    faint, _ = joined(1.0, clip("yes"), 1.0, 10 ** (-(FAR_BELOW + 8) / 20) * clip("stop"), 1.0)
    assert [hit.word for hit in kws.detect(write(tmp_path / "faint.wav", faint), words, encoder=encoder)] == ["yes"]


def test_one_word_is_one_hit_and_two_are_two(encoder: PhoneBindEncoder) -> None:
    detector = Detector(encoder, kws.ZeroShotClassifier(encoder, ["yes", "yet", "stop"]), threshold=0.1)
    once, _ = joined(1.0, clip("yes"), 1.0)
    assert len(detector.hits(detector.listen_to([torch.from_numpy(once)]))) == 1
    twice, middles = joined(1.0, clip("yes"), 0.3, clip("yes", 1), 1.0)
    hits = detector.hits(detector.listen_to([torch.from_numpy(twice)]))
    assert len(hits) == 2 and hits[0].end <= hits[1].start
    assert [(hit.start + hit.end) / 2 for hit in hits] == pytest.approx(middles, abs=0.25)


def test_an_hour_needs_no_more_memory_than_a_minute() -> None:
    """Of the sound itself: what is kept of each window is a few numbers."""

    def blocks(count: int) -> Sequence[Tensor]:
        return (torch.zeros(10 * RATE) for _ in range(count))  # type: ignore[return-value]

    spotter = ToneSpotter()
    scorer = kws.ZeroShotClassifier(spotter, ["1020"])
    listen_to(blocks(2), Ear(spotter, scorer, scorer.weights))
    heard = listen_to(blocks(360), Ear(spotter, scorer, scorer.weights))
    kept = heard.keywords.nbytes + heard.fillers.nbytes + heard.levels.nbytes + heard.frames.nbytes
    assert heard.seconds == 3600 and len(heard.levels) == 36_001 and kept < 2_500_000  # the sound takes 230 MB


def heard_of(keywords: list[list[float]]) -> Heard:
    count, values = len(keywords), torch.tensor(keywords)
    frames = np.full(round((count - 1) * HOP * 100), -20.0, np.float32)
    levels = np.full(count, -20.0, np.float32)
    scores = SURE(values.amax(1).double(), torch.zeros(count)).numpy()
    words = values.argmax(1).numpy()
    zeros = torch.zeros(count)
    return Heard((count - 1) * HOP, ("a", "b"), values, zeros, zeros, None, zeros, levels, frames, words, scores)


def test_of_hits_that_are_too_near_the_best_stays() -> None:
    flat = [[0.0, 0.0] for _ in range(41)]
    for place, row in ((10, [0.8, 0.1]), (14, [0.1, 0.9]), (30, [0.7, 0.1])):
        flat[place] = row
    hits = find_hits(heard_of(flat), 0.5, window=0.4)
    assert [(hit.word, round(hit.time, 1)) for hit in hits] == [("b", 1.4), ("a", 3.0)]
    assert round(APART / HOP) > 4  # else the first two would be apart
    assert hits[0].score == pytest.approx(1 / (1 + np.exp(-8.0)))
    assert find_hits(heard_of(flat), 0.999, window=0.4) == hits[:1]
    assert (
        find_hits(heard_of(flat), {"a": 0.5, "b": 1.0}, window=0.4) == hits[1:]
    )  # "a" at 1.0 s is within reach of "b" at 1.4


def test_a_word_that_was_left_out_for_a_better_one_is_named() -> None:
    spotter = ToneSpotter()
    # Two tones at once fit both words; the third word is said on its own, and again within reach of both.
    both = tone(1_020, 0.3, 0.4) + tone(3_020, 0.3, 0.3)
    samples, _ = joined(1.0, both, 2.0, tone(3_020, 0.3), 2.0, tone(1_020, 0.3), 1.0)
    detector = Detector(spotter, ["1020", "3020", "2020"], threshold=0.3)
    heard = detector.listen_to([torch.from_numpy(samples)])
    hits = detector.hits(heard)
    assert [hit.word for hit in hits] == ["1020", "3020", "1020"]
    ((word, score),), *others = detector.rivals(heard, hits)
    place = round(hits[0].time / HOP)
    assert word == "3020" and others == [[], []]
    assert 0.3 <= score < hits[0].score and score >= detector.word_scores(heard)[place, 1]
    detector.thresholds["3020"] = score + 0.01
    assert detector.rivals(heard, hits)[0] == []
    assert detector.rivals(heard, []) == []


def test_the_command_line_says_which_words_were_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "yes.wav", joined(1.0, clip("yes"), 1.0)[0])
    asked = ["spot", str(path), "--words", "yes,yet=/Y EH S/,lamp", "--threshold", "0.5"]
    assert main(asked) == 0
    said = capsys.readouterr()
    first, second = said.out.splitlines()[1].split()[2], said.err.split("also fits '")[1].split("'")[0]
    assert {first, second} == {"yes", "yet"} and said.err.count("\n") == 1
    assert main([*asked, "--json"]) == 0
    (hit,) = json.loads(capsys.readouterr().out)["detections"]
    (rival,) = hit["also_fits"]
    assert (hit["word"], rival["word"]) == (first, second) and rival["score"] <= hit["score"]
    assert main(["spot", str(path), "--words", "yes,lamp", "--threshold", "0.5"]) == 0
    assert not capsys.readouterr().err


def test_smoothing_is_a_running_mean() -> None:
    values = torch.randn(50, 3)
    expected = torch.stack([values[max(0, i - 2) : i + 3].mean(0) for i in range(50)])
    torch.testing.assert_close(smooth(values), expected)


def test_how_far_a_word_stands_out_of_its_surroundings() -> None:
    rng = np.random.default_rng(0)

    def stands_out(before: float, after: float) -> float:
        """Of half a second of hiss after so many dB less of it, and before so many."""
        gains = np.repeat([10 ** (-before / 20), 1.0, 10 ** (-after / 20)], [4_000 * 4, 8_000, 4_000 * 4])
        sound = torch.from_numpy((0.1 * gains * rng.normal(0, 1, len(gains))).astype(np.float32))
        padded = torch.cat([torch.zeros(RATE // 2), sound, torch.zeros(RATE)])
        found = float(apart(tenths(padded.unfold(0, RATE, RATE // 10), RATE))[12])  # 1.2 s, in the middle of the hiss
        assert found == pytest.approx(min(before, after), abs=2.0)
        return found

    assert stands_out(30, 20) > stands_out(20, 10) > stands_out(30, 0)


def test_fillers_like_a_keyword_say_nothing_against_it(encoder: PhoneBindEncoder) -> None:
    from kws_imagebind.readouts.fillers import filler_vectors

    every = kws.ZeroShotClassifier(encoder, FILLERS).weights
    kept = filler_vectors(encoder, kws.ZeroShotClassifier(encoder, ["kettle", "window"]))
    assert len(every) - 8 <= len(kept) <= len(every) - 2
    assert float((kept @ encoder.encode_text(["kettle"]).T).max()) < 0.7


def test_an_encoder_without_a_window_or_a_confidence_says_so(
    tmp_path: Path, tone_encoder: kws.Encoder, encoder: PhoneBindEncoder
) -> None:
    path = write(tmp_path / "tone.wav", tone(440, 3.0))
    with pytest.raises(ValueError, match="does not find where in a recording"):
        kws.detect(path, ["440", "880"], encoder=tone_encoder)
    assert kws.spot(path, ["440", "880"], encoder=tone_encoder)[0][0] == "440"  # as it hears the whole
    with pytest.raises(ValueError, match="threshold 2; expected a number from 0 to 1"):
        kws.detect(path, ["yes"], encoder=encoder, threshold=2)
    copy = tmp_path / "own.safetensors"
    copy.write_bytes(WEIGHTS.read_bytes())
    with pytest.raises(ValueError, match=r"no 'own\.confidence\.json' beside the weights; fit them with 'python -m"):
        kws.detect(path, ["yes"], encoder=PhoneBindEncoder.from_weights(copy, device="cpu"))


def test_confidence_is_kept_and_only_for_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "x.confidence.json"
    SURE.write(path, "abc", {"made_by": "a test"})
    assert Confidence.read(path, "abc") == SURE and json.loads(path.read_text())["made_by"] == "a test"
    with pytest.raises(ConfidenceError, match="is for other weights"):
        Confidence.read(path, "abd")
    for bad in ("", "[]", "{}", '{"weights": "abc", "keyword": "x", "fillers": 1, "bias": 1}', "\xff"):
        path.write_bytes(bad.encode("latin-1"))
        with pytest.raises(ConfidenceError, match="three numbers and a digest"):
            Confidence.read(path, "abc")
    path.write_text('{"weights": "abc", "keyword": NaN, "fillers": 1, "bias": 1}')
    with pytest.raises(ConfidenceError, match="not finite"):
        Confidence.read(path, "abc")


def test_the_bundled_confidence_is_for_the_bundled_weights(encoder: PhoneBindEncoder) -> None:
    """If this fails, run `python -m kws_imagebind.training.phonebind.confidence --data DIR`."""
    sure = encoder.confidence()
    assert sure.keyword > 0 > sure.bias and sure.fillers < 0


def test_the_fit_is_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    kinds = np.array(["keyword"] * 300 + ["word"] * 200 + ["pause"] * 100 + ["confusion"] * 20)
    centre = {"keyword": (0.6, 0.3), "word": (0.45, 0.4), "pause": (0.3, 0.3), "confusion": (0.6, 0.3)}
    cosines = np.array([centre[kind] for kind in kinds]) + rng.normal(0, 0.08, (len(kinds), 2))
    found = fit(Examples(cosines, kinds))
    counted = kinds != "confusion"
    weight = np.array([SHARES.get(kind, 0) / (kinds == kind).sum() for kind in kinds])
    oracle = LogisticRegression(C=1e6, tol=1e-10, max_iter=10_000).fit(
        cosines[counted], kinds[counted] == "keyword", sample_weight=weight[counted]
    )
    assert [found.keyword, found.fillers] == pytest.approx(oracle.coef_[0], rel=5e-3)
    assert found.bias == pytest.approx(oracle.intercept_[0], rel=5e-3)


def test_a_soundscape_says_what_is_in_it(tmp_path: Path) -> None:
    paths = [sorted((SAMPLE / word).glob("*.wav"))[0] for word in ("yes", "stop", "left")]
    utterances = [kws.Utterance(path, path.parent.name, "me", path.name) for path in paths]
    scene = compose(utterances, [np.random.default_rng(0).normal(0, 0.1, 9_000).astype(np.float32)], seed=1)
    assert isinstance(scene, Soundscape) and {said.word for said in scene.said} == {"yes", "stop", "left"}
    for said in scene.said:
        inside = scene.samples[round(said.start * RATE) : round(said.end * RATE)]
        before = scene.samples[round((said.start - 0.15) * RATE) : round((said.start - 0.05) * RATE)]
        assert inside.std() > 10 * before.std() > 0
    assert scene.said == compose(utterances, [], seed=1).said
    silent = compose(utterances, [], seed=1)
    assert not silent.samples[: round(0.19 * RATE)].any()


def test_the_extent_of_a_word_is_where_it_is_loud() -> None:
    rng = np.random.default_rng(1)
    samples = rng.normal(0, 1e-3, RATE).astype(np.float32)
    samples[4_800:11_200] += tone(500, 0.4)
    assert extent(samples) == pytest.approx((0.3, 0.7), abs=0.03)
    assert Said("yes", None, 1.0, 1.5).is_at(1.7, 0.3) and not Said("yes", None, 1.0, 1.5).is_at(1.9, 0.3)


def test_testing_clips_choose_nothing(real_clips: Path) -> None:
    with pytest.raises(ValueError, match="'testing' chooses nothing"):
        clips(real_clips, "testing")


def test_an_encoder_may_be_given_by_its_name() -> None:
    path = SAMPLE / "stop" / "04098292_nohash_0.wav"
    assert kws.spot(path, ["stop", "left"], encoder="phonebind") == kws.spot(path, ["stop", "left"])
    assert kws.detect(path, ["stop"], encoder="phonebind") == kws.detect(path, ["stop"])
    assert kws.Listener(["stop"], encoder="phonebind").sample_rate == 16_000
    with pytest.raises(EncoderError, match="unknown encoder 'phonebnd'"):
        kws.spot(path, ["stop"], encoder="phonebnd")
