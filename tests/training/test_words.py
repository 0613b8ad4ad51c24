"""Nothing that PhoneBind is tested on was in what it learnt from: the published manifest against rules of its own.

The rules here do not call `vocabulary.is_excluded`, which built the manifest; they are written a second time.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import pytest

from kws_imagebind.text.phonemes import PHONEMES, entries, lookup
from kws_imagebind.text.tasks import SPEECH_COMMANDS_WORDS
from kws_imagebind.training.corpora.accents import mnemonics, without_accent
from kws_imagebind.training.corpora.manifest import MANIFEST, Entry, published_recordings, read_manifest
from kws_imagebind.training.corpora.synthesis import (
    ESPEAK_ACCENTS,
    ESPEAK_VARIANTS,
    SAMPLE_VOICES,
    SHARES,
    SYNTHESISERS,
    VALIDATION_VOICES,
    plan,
    plan_accents,
    shards,
)
from kws_imagebind.training.corpora.vocabulary import excluded_pronunciations, is_excluded

# By hand: what sounds like one of the 35 words, and their forms, regular or not.
HOMOPHONES = "for fore won know too to write wright rite ate".split()
FORMS = """
beds bedding bedded birds cats dogs doggy downs downed eights eighth eighty eighteen fives fifth follows followed
following follower fours fourth fourteen goes going gone went happier happiest happily houses housed housing learns
learned learning learner learnt lefts nines ninth ninety nineteen ones rights rightly sevens seventh seventy seventeen
sixes sixth sixty sixteen sixteenth happiness bedroom downtown bluebird someone birdhouse treehouse
stops stopped stopping stopper threes trees twos ups visuals visually wows yeses zeros zeroes
zeroed forwards forwarded forwarding backwards
""".split()


@cache
def manifest() -> tuple[Entry, ...]:
    return tuple(read_manifest())


@cache
def first_release() -> tuple[Entry, ...]:
    return tuple(read_manifest(MANIFEST.with_name("training_manifest_first.tsv.gz")))


def test_the_manifest_is_that_of_a_whole_corpus() -> None:
    assert sum(entry.segments for entry in manifest()) > 150_000
    assert len({word for entry in manifest() for word in entry.word.split()}) > 15_000
    assert {"espeak-ng", "flite", "festival", "speechocean762", "librispeech_251spk"} <= {e.source for e in manifest()}
    assert all(set(entry.pronunciation) <= set(PHONEMES) for entry in manifest())


def test_no_training_word_is_one_of_the_35_a_homophone_or_a_form_of_one() -> None:
    forbidden = {*SPEECH_COMMANDS_WORDS, *HOMOPHONES, *FORMS}
    leaks = {entry.word for entry in manifest() if forbidden & set(entry.word.split())}
    assert not leaks


def test_the_first_release_heard_no_more_than_words_built_on_one_of_the_35() -> None:
    """It is a member of phonebind-large, and older than the rule that leaves compounds and derivations out as well."""
    heard = {word for entry in first_release() for word in entry.word.split()}
    assert not heard & {*SPEECH_COMMANDS_WORDS, *HOMOPHONES}
    assert heard & set(FORMS) == {"someone", "bedroom", "happiness", "downtown", "sixteenth"}
    assert sum(e.segments for e in first_release() if any(map(is_excluded, e.word.split()))) == 566


def test_no_training_pronunciation_is_one_of_the_35s() -> None:
    forbidden = {said for word in SPEECH_COMMANDS_WORDS for said in lookup(word)}
    assert len(forbidden) > 35
    assert not {entry.word for entry in (*manifest(), *first_release()) if entry.pronunciation in forbidden}


def test_no_training_word_has_another_pronunciation_that_is_one_of_the_35s() -> None:
    forbidden = {said for word in SPEECH_COMMANDS_WORDS for said in lookup(word)}
    heard = {word for entry in (*manifest(), *first_release()) for word in entry.word.split()}
    assert not {word for word, said in entries() if word in heard and said in forbidden}


def test_no_recording_of_speech_commands_trained() -> None:
    heard = list(published_recordings())
    assert len({recording.sha256 for recording in heard}) > 4_000
    assert {entry.source for entry in manifest()} <= {recording.source for recording in heard} | set(SYNTHESISERS)
    clips = sorted(Path("../shared/data/SpeechCommands").rglob("*.wav"))
    if not clips:
        pytest.skip("no Speech Commands clips in ../shared/data")
    sums = {hashlib.sha256(clip.read_bytes()).hexdigest() for clip in clips}
    assert len(sums) > 2_000 and not sums & {recording.sha256 for recording in heard}
    speakers = {clip.name.split("_")[0] for clip in clips}
    assert not speakers & {recording.speaker for recording in heard}


@pytest.mark.parametrize("word", [*SPEECH_COMMANDS_WORDS, *HOMOPHONES, *FORMS])
def test_the_rule_of_the_corpus_excludes(word: str) -> None:
    assert is_excluded(word)


@pytest.mark.parametrize(
    "word", ["lamp", "knight", "street", "outside", "doll", "grass", "nose", "garden", "nothing", "cattle", "upon"]
)
def test_the_rule_of_the_corpus_allows_other_words(word: str) -> None:
    assert not is_excluded(word) and not set(lookup(word)) & excluded_pronunciations()


def test_voices_of_the_sample_and_of_validation_never_train() -> None:
    held_out = {(voice.engine, voice.name.split("+")[-1]) for voice in (*SAMPLE_VOICES, *VALIDATION_VOICES)}
    training = {("espeak-ng", variant) for variant in ESPEAK_VARIANTS}
    training |= {tuple(share.split(":")) for share in SHARES if ":" in share}
    assert len(held_out) == 14 and not held_out & training
    assert len(SAMPLE_VOICES) >= 8 and not set(SAMPLE_VOICES) & set(VALIDATION_VOICES)
    assert all(voice.name.split("+")[0] in ESPEAK_ACCENTS for voice in SAMPLE_VOICES if voice.engine == "espeak-ng")


def test_the_plan_of_the_synthesis_follows_from_its_seed_alone() -> None:
    pytest.importorskip("wordfreq", reason="the 'train' extra is not installed")
    small = {"espeak-ng": 300, "flite:rms": 100}
    assert plan(small, seed=1) == plan(small, seed=1) != plan(small, seed=2)
    assert not any(is_excluded(word) for job in plan(small, seed=1) for word in job.text.split())
    accents = plan_accents(20, seed=1)
    assert accents == plan_accents(20, seed=1) and not any(is_excluded(job.text) for job in accents)
    assert all(job.spelling.startswith("[[") and job.pronunciation == lookup(job.text)[0] for job in accents)
    said_alike = {mnemonics(said) for word in (*SPEECH_COMMANDS_WORDS, *HOMOPHONES) for said in lookup(word)[:1]}
    assert not said_alike & {without_accent(job.spelling) for job in plan_accents(40_000, seed=0)}
    assert [name for name, _ in shards(accents)] == ["synthetic-espeak-ng-accents-000"]
    named = shards(plan(small, seed=1))
    assert [name for name, _ in named] == ["synthetic-espeak-ng-000", "synthetic-flite-rms-000"]
    assert sum(len(jobs) for _, jobs in named) == 400
