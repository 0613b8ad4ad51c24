"""Running speech whose content is known: who chooses, what is said where, how loud noise is; and what is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.false_alarms import Tally, at_missed, group, missed, summary
from kws_imagebind.encoders.confidence import SpeechConfidence, Weighing
from kws_imagebind.training.corpora.alignment import Recording
from kws_imagebind.training.corpora.people import half
from kws_imagebind.training.corpora.running_speech import KEYWORDS, Scene, Span, at_level, scenes, with_noise
from kws_imagebind.training.corpora.shards import SAMPLE_RATE
from kws_imagebind.training.corpora.soundscape import Said, Soundscape
from kws_imagebind.training.phonebind.running_speech import Examples, of_words, tell


def recording(path: Path, words: str, kind: str = "sentence", source: str = "speechocean762") -> Recording:
    return Recording(path, kind, "someone", tuple(words.split()), frozenset(), source)


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    rng = np.random.default_rng(0)
    made = []
    for number, words in enumerate(("the little computers", "a computer", "nothing at all", "computer")):
        sound = rng.normal(0, 1e-3, SAMPLE_RATE)
        sound[4_000:12_000] += rng.normal(0, 0.02 * (number + 1), 8_000)
        soundfile.write(tmp_path / f"{number}.wav", sound, SAMPLE_RATE)
        made.append(recording(tmp_path / f"{number}.wav", words, "word" if number == 3 else "sentence"))
    return made


def test_a_scene_holds_every_recording_once_where_it_says(recordings: list[Recording]) -> None:
    (scene,) = scenes(recordings, seed=3)
    assert {span.recording.path for span in scene.spans} == {each.path for each in recordings}
    assert scene.seconds == pytest.approx(scene.spans[-1].end + 0.875, abs=0.63)
    for span, after in zip(scene.spans, scene.spans[1:], strict=False):
        assert span.end - span.start == pytest.approx(1.0) and 0.25 <= after.start - span.end <= 1.5
        inside = scene.samples[round((span.start + 0.3) * SAMPLE_RATE) : round((span.start + 0.7) * SAMPLE_RATE)]
        pause = scene.samples[round(span.end * SAMPLE_RATE) : round(after.start * SAMPLE_RATE)]
        assert -33 < 20 * np.log10(inside.std()) < -18 and pause.std() < 0.5 * inside.std()
    again = next(scenes(recordings, seed=3))
    assert np.array_equal(again.samples, scene.samples)
    assert len(list(scenes(recordings, minutes=0.02))) == 4


def test_noise_is_as_far_below_as_is_asked(recordings: list[Recording]) -> None:
    scene = next(scenes(recordings))
    noisy = with_noise(scene, [np.random.default_rng(1).normal(0, 1, 5_000).astype(np.float32)], 10.0)
    speech = np.concatenate(
        [scene.samples[round(s.start * SAMPLE_RATE) : round(s.end * SAMPLE_RATE)] for s in scene.spans]
    )
    noise = noisy.samples - scene.samples
    assert 10 * np.log10((speech**2).mean() / (noise**2).mean()) == pytest.approx(10, abs=0.3)


def test_levels_and_halves() -> None:
    sound = np.zeros(16_000, np.float32)
    sound[:8_000] = np.random.default_rng(0).normal(0, 0.3, 8_000)
    assert 20 * np.log10(at_level(sound, -26.0)[:8_000].std()) == pytest.approx(-26, abs=0.1)
    people = [half(str(number)) for number in range(2_000)]
    assert 0.45 < people.count("choose") / len(people) < 0.55


def test_what_is_said_and_what_only_resembles_it() -> None:
    plural, own = (Span(recording(Path("x"), words), 0.0, 1.0) for words in ("two computers", "my computer is on"))
    assert own.holds("computer") and not plural.holds("computer") and plural.resembles("computer")
    assert own.holds("my computer") and not own.holds("computer my") and not own.resembles("lamp")


def test_hits_are_counted_where_they_belong() -> None:
    spans = tuple(
        Span(recording(Path(f"/speechocean762/{place}"), words, kind), start, start + 2)
        for place, (words, kind, start) in enumerate(
            [("a computer", "sentence", 0), ("two computers", "sentence", 5), ("nothing", "sentence", 10),
             ("computer", "word", 15), ("my computer", "sentence", 20)]
        )
    )  # fmt: skip
    tally = Tally()
    times, scores = np.array([1.0, 1.8, 6.0, 11.0, 12.5, 16.0]), np.array([0.4, 0.6, 0.9, 0.7, 0.2, 0.8])
    tally.add("computer", Scene(np.zeros(SAMPLE_RATE * 25, np.float32), spans), times, scores)
    assert tally.sentence == [0.6, 0.0] and tally.alone == [0.8] and tally.wrong == [0.7, 0.2]
    assert tally.places == ["speechocean762"] * 2 and missed(tally.sentence, 0.5) == 1
    table = summary({"computer": tally}, hours=0.5, thresholds=(0.1, 0.5))
    assert [row["false_alarms_per_hour"] for row in table["at"]] == [4.0, 2.0] and table["keyword_hours"] == 0.5


def test_false_alarms_where_a_tenth_is_missed() -> None:
    said = [0.1, *[0.5] * 9]
    assert at_missed(said, [0.6, 0.5, 0.4], hours=2.0, share_missed=0.1) == 1.0
    assert at_missed([0.0, 0.5], [0.6], hours=1.0, share_missed=0.1) == float("inf")


def test_keywords_of_reports_are_of_every_length() -> None:
    groups = [group(keyword) for keyword in KEYWORDS]
    assert len(KEYWORDS) == 46 and [groups.count(kind) for kind in ("1", "2", "3+")] == [8, 12, 26]


def test_examples_of_words_alone_are_one_a_word_and_every_other_candidate() -> None:
    scene = Soundscape(np.zeros(6 * SAMPLE_RATE, np.float32), (Said("yes", None, 1.0, 1.5), Said("no", None, 3.0, 3.4)))
    features = np.zeros((61, 2, 6))
    features[..., 0] = -0.001 * np.arange(61)[:, None]  # flat places would all be candidates
    features[..., 3], features[..., 4] = -20.0, 3.0
    for place, keyword in ((11, 0), (14, 0), (32, 0), (52, 0), (33, 1)):
        features[place, keyword, :2] = 0.5 + 0.001 * place, 0.1
        features[place, keyword, 3] = -1.0

    class Heard:
        levels = np.where(np.isin(np.arange(61), (11, 14, 32, 33, 52)), -20.0, -100.0)

    class Asked:
        keywords = ("yes", "no")

        def features(self, heard: object) -> np.ndarray:
            return features

    found = of_words(Asked(), Heard(), scene)  # type: ignore[arg-type]
    assert sorted(found.kinds) == ["alone", "alone", "pause", "word"] and found.hours == 0
    cosines = dict(zip(found.kinds, found.features[:, 0].round(3).tolist(), strict=True))
    assert cosines["word"] == 0.532 and cosines["pause"] == 0.552
    assert sorted(found.features[found.kinds == "alone"][:, 0].round(3).tolist()) == [0.514, 0.533]


def test_the_table_of_a_fit_has_a_line_for_each_length_and_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    weighing = Weighing(10.0, 0.0, 0.0, 0.0, 0.0, -5.0)
    features = np.array([[cosine, 0, 0, -1, 3, 0] for cosine in (0.9, 0.6, 0.4, 0.3)], float)
    kinds = np.array(["said", "speech", "speech", "alone"])
    found = Examples(features, kinds, hours=2.0)
    tell(SpeechConfidence(weighing, weighing), found, found, np.array([3.0]))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert len(lines) == 12 and lines[1] == ["1-3", "0.5", "100.0", "0.0", "0.50", "-", "-"]
