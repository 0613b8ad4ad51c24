"""The way to the weights: corpus, augmentation, alignment, and training that goes on where it stopped."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from kws_imagebind.datasets import load_dataset
from kws_imagebind.models.phonebind import PHONEME_INDEX, SAMPLES, PhoneBind, PhoneBindConfig, phoneme_indices, save
from kws_imagebind.text.phonemes import PHONEMES, Pronunciation, lookup
from kws_imagebind.training.corpora.accents import ACCENTS, BEFORE_R, ESPEAK_PHONEMES, accented, is_sayable, mnemonics
from kws_imagebind.training.corpora.alignment import (
    AFTER,
    BEFORE,
    FOUND,
    FRAME,
    Cut,
    Recording,
    _settle,
    align,
    allowed,
)
from kws_imagebind.training.corpora.manifest import (
    HeardRecording,
    published_recordings,
    read_manifest,
    write_manifest,
    write_recordings,
)
from kws_imagebind.training.corpora.shards import Corpus, Segment, condition, is_written, write_shard
from kws_imagebind.training.corpora.vocabulary import excluded_pronunciations
from kws_imagebind.training.phonebind import augmentation
from kws_imagebind.training.phonebind.averaging import average
from kws_imagebind.training.phonebind.negatives import confusable, made_up, near_neighbours
from kws_imagebind.training.phonebind.train import Check, Recipe, Sampler, Trainer, rate_at

CONFIG = PhoneBindConfig(mels=16, stem=(4, 8), width=24, blocks=1, text_width=16, text_blocks=1, dim=12)
WORDS = ("lamp", "kettle", "window", "garden", "pillow", "river", "candle", "monkey", "rocket", "yellow")
RECIPE = Recipe(steps=6, batch=8, warmup=2, random_negatives=3, neighbours=4, mining=2)


def tone(hertz: float, seconds: float = 0.4) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(16_000 * seconds)) / 16_000).astype(np.float32)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Ten words of ten segments by two sources; each word is a tone of its own."""
    for source in ("espeak-ng", "speechocean762"):
        segments = [
            Segment(audio, source, f"voice{take}", word, lookup(word)[0])
            for take in range(5)
            for number, word in enumerate(WORDS)
            if (audio := condition(tone(300 + 400 * number, 0.3 + 0.05 * take))) is not None
        ]
        write_shard(tmp_path / "corpus", source, segments)
    return Corpus((tmp_path / "corpus").glob("*.tsv"))


def test_a_shard_comes_back_as_it_was_written(tmp_path: Path) -> None:
    segments = [
        Segment(np.arange(number, dtype=np.int16), "flite", "rms", word, lookup(word)[0])
        for number, word in enumerate(WORDS)
    ]
    write_shard(tmp_path, "a", segments)
    corpus = Corpus(tmp_path.glob("*.tsv"))
    assert is_written(tmp_path, "a") and not is_written(tmp_path, "b")
    for index, segment in enumerate(segments):
        np.testing.assert_array_equal(corpus.audio(index), segment.audio)
        assert corpus.segments[index].word == segment.word
        assert corpus.segments[index].pronunciation == segment.pronunciation
    assert not list(tmp_path.glob("*.part"))


def test_an_unfinished_shard_does_not_count(tmp_path: Path) -> None:
    np.save(tmp_path / "cut.npy", np.zeros(3, np.int16))
    with pytest.raises(FileNotFoundError, match="no finished shard"):
        Corpus(tmp_path.glob("*.tsv"))


def test_words_that_may_not_be_learnt_from_are_left_out_of_old_shards(tmp_path: Path) -> None:
    said = [("lamp", 10), ("tree", 20), ("river", 30), ("small bird", 40), ("candle", 50)]
    pronunciation = lookup("lamp")[0]
    segments = [
        Segment(np.full(length, length, np.int16), "flite", "rms", word, pronunciation) for word, length in said
    ]
    write_shard(tmp_path, "old", segments)
    corpus = Corpus(tmp_path.glob("*.tsv"))
    assert [segment.word for segment in corpus.segments] == ["lamp", "river", "candle"]
    assert [len(corpus.audio(index)) for index in range(3)] == [10, 30, 50]


def test_a_segment_is_the_word_without_the_silence_around() -> None:
    silence = np.zeros(8_000, np.float32)
    audio = condition(np.concatenate([silence, 0.1 * tone(440), silence]))
    assert audio is not None and 6_400 <= len(audio) <= 7_300 and np.abs(audio).max() == 30_000
    for unusable in (silence, tone(440, 0.05), tone(440, 2.0), np.zeros(0, np.float32), np.full(8_000, np.nan)):
        assert condition(unusable) is None


def test_a_placed_segment_lies_within_one_second(corpus: Corpus) -> None:
    rng = np.random.default_rng(0)
    for index in range(len(corpus)):
        window = augmentation.place(corpus.audio(index), rng)
        assert window.shape == (SAMPLES,) and window.dtype == np.float32 and 0.5 < np.abs(window).max() <= 1


def test_augmentation_follows_from_the_seed_and_is_finite() -> None:
    waveforms = torch.cat([torch.zeros(2, SAMPLES), torch.randn(6, SAMPLES) * 0.1])
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(augmentation.augment(waveforms, CONFIG.front_end))
    assert torch.equal(*results) and results[0].shape == (8, 16, 98) and results[0].isfinite().all()


def test_reverberation_is_causal_and_keeps_the_direct_sound() -> None:
    torch.manual_seed(0)
    impulse = torch.zeros(50, 16, 98)
    impulse[:, :, 40] = 1
    wet = augmentation.reverberation(impulse)
    assert torch.equal(wet[:, :, :40], impulse[:, :, :40]) and torch.equal(wet[:, :, 40], impulse[:, :, 40])
    rung = wet[:, 0, 41:].sum(1)
    assert 10 < int((rung > 0).sum()) < 40  # happens to about half of the clips
    assert (wet[:, 0, 41:-1] >= wet[:, 0, 42:]).all()


def test_the_time_warp_keeps_the_centre_and_invents_no_energy_bands() -> None:
    torch.manual_seed(0)
    mel = torch.zeros(64, 16, 98)
    mel[:, 5, 30:60] = 1
    warped = augmentation.tempo(mel)
    assert warped[:, [0, 4, 6, 15]].abs().max() == 0 and warped.max() <= 1
    time = torch.arange(98.0)
    centres = (warped[:, 5] * time).sum(1) / warped[:, 5].sum(1)
    assert (centres - 44.5).abs().max() < 15 and centres.std() > 1


@dataclass
class Speller:
    """Stands for PhoneBind: its spelling is given."""

    logits: Tensor
    config: PhoneBindConfig = CONFIG

    def audio(self, _: Tensor) -> tuple[None, Tensor]:
        return None, self.logits


def test_alignment_finds_the_words_where_they_are_spelled() -> None:
    lamp, go = lookup("lamp")[0], ("G", "OW")
    logits = torch.zeros(1, 40, 40)
    logits[:, :, 0] = 8
    for frame, phoneme in zip((5, 7, 9, 11, 25, 28), lamp + go, strict=True):
        logits[0, frame, PHONEME_INDEX[phoneme]] = 16
    found = align(Speller(logits), torch.randn(40 * FRAME), [("lamp", lamp), ("go", go)])  # type: ignore[arg-type]
    assert [(word.word, word.start, word.end) for word in found] == [
        ("lamp", 5 * FRAME - BEFORE, 12 * FRAME + AFTER),
        ("go", 25 * FRAME - BEFORE, 29 * FRAME + AFTER),
    ]
    assert all(word.confidence > 0.9 for word in found)
    assert align(Speller(logits[:, :5]), torch.randn(5 * FRAME), [("lamp", lamp), ("go", go)]) == []  # type: ignore[arg-type]


def test_a_word_is_found_between_wildcards_where_the_rest_is_unknown() -> None:
    lamp = lookup("lamp")[0]
    logits = torch.zeros(1, 40, 40)
    logits[:, :, 0] = 8
    for frame, phoneme in zip((5, 7, 9), ("K", "AE", "T"), strict=True):  # nobody wrote this down
        logits[0, frame, PHONEME_INDEX[phoneme]] = 16
    for frame, phoneme in zip((20, 22, 24, 26), lamp, strict=True):
        logits[0, frame, PHONEME_INDEX[phoneme]] = 16
    waveform = torch.randn(40 * FRAME)
    (found,) = align(Speller(logits), waveform, [("lamp", lamp)], whole=False)  # type: ignore[arg-type]
    assert (found.start, found.end) == (20 * FRAME - BEFORE, 27 * FRAME + AFTER) and found.confidence > 0.9
    (absent,) = align(Speller(logits), waveform, [("goose", lookup("goose")[0])], whole=False)  # type: ignore[arg-type]
    assert absent.confidence < FOUND


def test_a_segment_takes_the_reading_that_it_sounds_like() -> None:
    first, second = lookup("tomato")
    recording = Recording(Path("x.ogg"), "sentence", "s", ("tomato",), frozenset(), "x")
    audio = np.ones(8_000, np.int16)

    class Listener:
        def encode_audio(self, waveforms: Tensor) -> Tensor:
            return torch.eye(3)[: len(waveforms)]

        def encode_text(self, readings: list[Pronunciation]) -> Tensor:
            return torch.tensor([[1.0, 0, 0] if said == second else [0.1, 1, 0] for said in readings])

    cuts = [Cut(audio, ("tomato",), (first, second)), Cut(audio, ("tomato",), (second,))]
    (kept,) = _settle(recording, cuts, Listener())  # type: ignore[arg-type]
    assert kept.pronunciation == second  # the second cut is like no reading of its own


def test_an_accent_shifts_sounds_and_keeps_the_rest() -> None:
    assert mnemonics(("G", "OW"), {"OW": "VU"}) == "[[g|'VU]]" and mnemonics(("G", "OW")) == "[[g|'oU]]"
    assert mnemonics(("S", "T", "AA", "R"), {"AA": "O"}) == "[[s|t|'A@]]"  # before r a vowel stays what it is
    assert mnemonics(("S", "T", "AO", "R", "IY")) == "[[s|t|'O:|r|i:]]"  # this r belongs to the next vowel
    assert is_sayable(("S", "T", "AA", "R")) and not is_sayable(("F", "AY", "R"))
    heard = {accented(("L", "OW", "TH"), random.Random(seed)) for seed in range(200)}
    assert {"[[l|'oU|T]]", "[[l|'VU|T]]", "[[l|'o:|T]]", "[[l|'o:|t]]"} <= heard
    sounds = {sound for shifts in ACCENTS.values() for choices in shifts.values() for sound in choices}
    assert {phoneme for shifts in ACCENTS.values() for phoneme in shifts} <= set(PHONEMES) and len(sounds) > 20


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_espeak_has_every_sound_of_the_accents() -> None:
    sounds = {sound for shifts in ACCENTS.values() for choices in shifts.values() for sound in choices}
    for sound in sorted(sounds | set(ESPEAK_PHONEMES.values()) | set(BEFORE_R.values())):
        command = ["espeak-ng", "-q", "-v", "en-us", "--ipa", f"[[b|'{sound}|a]]"]
        spoken = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        assert len(spoken) >= 3, sound  # of a sound that it lacks nothing but the b comes out


def test_a_babble_and_a_closed_gate_and_a_codec_do_what_they_say() -> None:
    torch.manual_seed(0)
    mel = torch.rand(400, 16, 60) * 0.01 + 0.001
    mel[:, :, 20:40] += 1
    loudness = mel.mean((1, 2), keepdim=True)
    busy = augmentation.babble(mel, loudness)
    louder = (busy.sum((1, 2)) > 1.001 * mel.sum((1, 2))).float().mean()
    assert 0.1 < louder < 0.2 and (busy >= mel).all()
    gated = augmentation.voice_gate(mel)
    assert torch.equal(gated[:, :, 20:40], mel[:, :, 20:40]) and (gated <= mel).all()
    assert 0.05 < (gated[:, :, :10].sum((1, 2)) < 0.2 * mel[:, :, :10].sum((1, 2))).float().mean() < 0.3
    mel[:, 3] *= 1e-6
    coded = augmentation.codec(mel)
    assert ((coded == mel) | (coded == 0)).all() and 0.15 < (coded[:, 3] == 0).all(1).float().mean() < 0.35
    assert (coded[:, 10] > 0).all()


def test_light_augmentation_leaves_most_clips_as_they_were_spoken() -> None:
    waveforms = torch.from_numpy(np.stack([np.pad(tone(800), 4_800)] * 64))
    spread = []
    for strength in (0.0, 1.0):
        torch.manual_seed(0)
        spread.append(float(augmentation.augment(waveforms, CONFIG.front_end, strength).std(0).mean()))
    assert spread[0] < 0.9 * spread[1]


def test_flagged_and_excluded_words_are_not_cut_out() -> None:
    recording = Recording(Path("x.ogg"), "sentence", "s", ("a", "lamp", "for", "you"), frozenset({"you"}), "x")
    assert allowed(("lamp",), recording)
    for words in (("you",), ("lamp", "for"), ("three",)):
        assert not allowed(words, recording)


def test_near_neighbours_are_the_nearest_by_edit_distance() -> None:
    pytest.importorskip("rapidfuzz", reason="the 'train' extra is not installed")
    said = [lookup(word)[0] for word in ("cat", "bat", "cap", "cut", "kettle", "antidisestablishmentarianism")]
    assert set(near_neighbours(said, 3, seed=0)[0]) == {1, 2, 3}
    assert all(index not in row for index, row in enumerate(near_neighbours(said, 3, seed=0)))


def test_made_up_pronunciations_are_near_and_never_those_that_are_tested_on() -> None:
    rapidfuzz = pytest.importorskip("rapidfuzz.distance", reason="the 'train' extra is not installed")
    said = [pronunciation for word in (*WORDS, "aught", "ought", "bead") for pronunciation in lookup(word)]
    found = made_up(said, 200, seed=3)
    apart = [rapidfuzz.Levenshtein.distance(found[index], said[index // 200]) for index in range(len(found))]
    assert set(apart) == {1, 2} and not set(found) & excluded_pronunciations()
    bead = {made for made, own in zip(found, np.repeat(np.arange(len(said)), 200), strict=True) if own == len(said) - 1}
    assert ("B", "IY", "T") in bead and ("B", "EH", "D") not in bead


def test_made_up_pronunciations_are_held_against_those_of_the_batch(corpus: Corpus) -> None:
    pytest.importorskip("rapidfuzz", reason="the 'train' extra is not installed")
    recipe = replace(RECIPE, made_up=2)
    trainer = Trainer(PhoneBind(CONFIG), Sampler(corpus, recipe), recipe)
    words = len(trainer.sampler.pronunciations)
    assert len(trainer.indices) == 3 * words
    assert set(trainer.candidates(np.array([1, 4]))) >= {1, 4, *(words + np.array([2, 3, 8, 9]))}
    for step in range(4):  # past a look at which pronunciations the model takes for neighbours
        trainer.advance(*trainer.batches[step])
    assert trainer.neighbours.max() < words


def test_small_sources_are_drawn_oftener_than_their_size(corpus: Corpus) -> None:
    shares = Sampler(corpus, RECIPE).shares
    assert shares == pytest.approx({"espeak-ng": 1 - RECIPE.human, "speechocean762": RECIPE.human})
    waveforms, drawn = Sampler(corpus, RECIPE).batch(4)
    assert waveforms.shape == (8, SAMPLES) and drawn.max() < len(corpus)
    assert torch.equal(Sampler(corpus, RECIPE).batch(4)[0], waveforms)


def test_people_and_words_with_few_segments_are_drawn_oftener_than_their_number(tmp_path: Path) -> None:
    audio = np.ones(4_000, np.int16)
    said = [("anna", "lamp")] * 16 + [("ben", "river")] * 4 + [("flo", "candle")]
    people = [Segment(audio, "speechocean762", who, word, lookup(word)[0]) for who, word in said]
    write_shard(tmp_path, "people", people)
    write_shard(tmp_path, "voices", [Segment(audio, "flite", name, "lamp", lookup("lamp")[0]) for name in "abbbb"])
    sampler = Sampler(Corpus(tmp_path.glob("*.tsv")), replace(RECIPE, short=1.0))
    drawn = np.diff(sampler._cumulative, prepend=0)
    # A person's share is n / sqrt(n) / sqrt(n) where each says one word only: the same for all three.
    assert [drawn[:16].sum(), drawn[16:20].sum(), drawn[20]] == pytest.approx([RECIPE.human / 3] * 3)
    assert sampler.shares["flite:b"] / sampler.shares["flite:a"] == pytest.approx(4**0.65)


def test_short_words_are_drawn_oftener_and_phrases_less_often(tmp_path: Path) -> None:
    audio = np.ones(4_000, np.int16)
    lamp, kettles = lookup("lamp")[0], lookup("kettles")[0]
    said = {"lamp": lamp, "kettles": kettles, "lamp lamp": lamp + lamp}
    write_shard(tmp_path, "a", [Segment(audio, "espeak-ng", "s", text, phonemes) for text, phonemes in said.items()])
    sampler = Sampler(Corpus(tmp_path.glob("*.tsv")), replace(RECIPE, short=4.0, phrases=0.5))
    drawn = np.diff(sampler._cumulative, prepend=0)
    assert drawn[0] / drawn[1] == pytest.approx(4) and drawn[2] / drawn[1] == pytest.approx(0.5)


def test_accents_have_the_share_of_the_recipe(tmp_path: Path) -> None:
    audio, lamp = np.ones(4_000, np.int16), lookup("lamp")[0]
    for name, source, speaker, count in (
        ("people", "mycroft", "anna", 2),
        ("voices", "espeak-ng", "en+f1", 9),
        ("accents", "espeak-ng", "en+f1 (accented)", 1),
    ):
        write_shard(tmp_path, name, [Segment(audio, source, speaker, "lamp", lamp)] * count)
    recipe = replace(RECIPE, human=0.6, accented=0.25)
    shares = Sampler(Corpus(tmp_path.glob("*.tsv")), recipe).shares
    assert shares == pytest.approx({"mycroft": 0.6, "espeak-ng": 0.3, "espeak-ng (accented)": 0.1})


def test_the_model_finds_its_own_confusions() -> None:
    torch.manual_seed(0)
    model = PhoneBind(CONFIG).eval()
    said = [lookup(word)[0] for word in WORDS] + [lookup("lamp")[0]]
    nearest = confusable(model, phoneme_indices(said), 3)
    assert nearest.shape == (11, 3)
    assert nearest[0, 0] == 10 and nearest[10, 0] == 0  # the same pronunciation twice is nearest to itself
    alike = model.encode_text(said)[1] @ model.encode_text(said).T
    alike[1] = -1
    assert set(nearest[1]) == set(alike.topk(3).indices.tolist())


def test_the_rate_warms_up_holds_and_decays() -> None:
    recipe = Recipe(steps=1_000, warmup=100)
    rates = [rate_at(step, recipe) for step in range(1_000)]
    assert rates[0] == pytest.approx(recipe.rate / 100) and max(rates) == recipe.rate == rates[200]
    assert rates[99:] == sorted(rates[99:], reverse=True) and rates[-1] == pytest.approx(recipe.rate / 100, rel=0.05)


def trainer(corpus: Corpus) -> Trainer:
    pytest.importorskip("rapidfuzz", reason="the 'train' extra is not installed")
    torch.manual_seed(0)
    return Trainer(PhoneBind(CONFIG), Sampler(corpus, RECIPE), RECIPE)


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(corpus: Corpus, tmp_path: Path) -> None:
    whole = trainer(corpus)
    for batch in whole.batches.loader(0):
        whole.advance(*batch)
    stopped = trainer(corpus)
    for step in range(3):
        stopped.advance(*stopped.batches[step])
    stopped.save(tmp_path / "checkpoint.pt")
    resumed = trainer(corpus)
    resumed.restore(tmp_path / "checkpoint.pt")
    assert resumed.step == 3
    for batch in resumed.batches.loader(3):
        resumed.advance(*batch)
    found = resumed.average.state_dict()
    for name, expected in whole.average.state_dict().items():
        assert torch.equal(expected, found[name]), name


@torch.inference_mode()
def test_a_check_measures_accuracy_and_likelihood_by_the_best_pronunciation(tmp_path: Path) -> None:
    for word, hertz in (("lamp", 400), ("tomato", 900)):  # tomato has two pronunciations
        (tmp_path / word).mkdir()
        for take in range(3):
            soundfile.write(tmp_path / word / f"{take}.wav", tone(hertz + take), 16_000)
    check = Check(load_dataset("folder", root=tmp_path))
    torch.manual_seed(0)
    model = PhoneBind(CONFIG).eval()
    heard = model.encode_audio(check.waveforms)
    said = [model.encode_text(list(lookup(word))) for word in ("lamp", "tomato")]
    expected = torch.stack([(heard @ read.T).amax(1) for read in said], 1)
    assert torch.allclose(check.scores(model), expected, atol=1e-6)
    targets = torch.tensor([0, 0, 0, 1, 1, 1])
    accuracy, likelihood = check.measure(model)
    assert accuracy == pytest.approx(float((expected.argmax(1) == targets).float().mean()))
    odds = (30 * (expected[:, 1] - expected[:, 0])) * torch.where(targets == 0, 1, -1)
    assert likelihood == pytest.approx(odds.exp().log1p().mean().item(), rel=1e-4)


def test_training_lowers_the_loss(corpus: Corpus) -> None:
    learner = trainer(corpus)
    learner.recipe = Recipe(**{**vars(RECIPE), "steps": 60})
    losses = [learner.advance(*learner.batches[step])["forward"] for step in range(40)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_the_mean_of_two_models_is_the_mean_of_their_weights(tmp_path: Path) -> None:
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        models.append(PhoneBind(CONFIG))
        save(models[-1], tmp_path / f"{seed}.safetensors", {"recipe": str(seed)})
    mean = average([tmp_path / "0.safetensors", tmp_path / "1.safetensors"], [3, 1])
    for name, tensor in mean.state_dict().items():
        first, second = (model.state_dict()[name] for model in models)
        expected = first if name.endswith("num_batches_tracked") else 0.75 * first + 0.25 * second
        assert torch.allclose(tensor.float(), expected.float(), atol=1e-3), name
    with pytest.raises(ValueError, match="2 weights for 1 model"):
        average([tmp_path / "0.safetensors"], [1, 1])
    with pytest.raises(ValueError, match="have no mean"):
        average([tmp_path / "0.safetensors", tmp_path / "1.safetensors"], [0, 0])
    save(PhoneBind(replace(CONFIG, bands=False)), tmp_path / "plain.safetensors", {})
    both = average([tmp_path / "0.safetensors", tmp_path / "plain.safetensors"], [1, 1]).audio.stem1.weight
    assert torch.allclose(both[:, 1], models[0].audio.stem1.weight[:, 1] / 2, atol=1e-3)
    torch.manual_seed(0)
    save(PhoneBind(replace(CONFIG, width=32)), tmp_path / "wide.safetensors", {})
    with pytest.raises(ValueError, match="other sizes"):
        average([tmp_path / "0.safetensors", tmp_path / "wide.safetensors"], [1, 1])


def test_a_manifest_counts_what_the_corpus_holds(corpus: Corpus, tmp_path: Path) -> None:
    assert write_manifest(corpus, tmp_path / "manifest.tsv.gz") == 20
    entries = list(read_manifest(tmp_path / "manifest.tsv.gz"))
    assert sum(entry.segments for entry in entries) == len(corpus)
    assert {entry.word for entry in entries} == set(WORDS) and {entry.speakers for entry in entries} == {5}


def test_a_manifest_adds_what_other_weights_learnt_from(corpus: Corpus, tmp_path: Path) -> None:
    write_manifest(corpus, tmp_path / "one.tsv.gz")
    own, *rest = read_manifest(tmp_path / "one.tsv.gz")
    others = [replace(own, segments=99, speakers=1), replace(own, word="zebra")]
    assert write_manifest(corpus, tmp_path / "both.tsv.gz", others) == len(rest) + 2
    both = {(entry.word, entry.source): entry for entry in read_manifest(tmp_path / "both.tsv.gz")}
    assert (both[own.word, own.source].segments, both[own.word, own.source].speakers) == (99, own.speakers)
    assert both["zebra", own.source].segments == own.segments


def test_recordings_are_listed_once_with_their_checksums(tmp_path: Path) -> None:
    (tmp_path / "a.ogg").write_bytes(b"abc")  # SHA-256's first example in FIPS 180
    (tmp_path / "b.ogg").write_bytes(b"")
    header = "path\tkind\tspeaker\ttranscript\tseconds\tflagged\tsource\tlicence\n"
    rows = "a.ogg\tsentence\t\tsoy milk | latte\t1\t\tpicovoice_s2i\tx\nb.ogg\tword\tanna\tlamp\t1\t\tmycroft\tx\n"
    (tmp_path / "manifest.tsv").write_text(header + rows)
    assert write_recordings(tmp_path, tmp_path / "heard.tsv.gz") == 2
    assert list(published_recordings(tmp_path / "heard.tsv.gz")) == [
        HeardRecording("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "mycroft", "anna"),
        HeardRecording("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "picovoice_s2i", "a"),
    ]


def test_people_who_report_and_wake_words_said_alone_never_teach(tmp_path: Path) -> None:
    rows = [
        ("speechocean762_more", "103"),  # half("103") is "report"
        ("speechocean762_more", "SPEAKER0001"),
        ("ovos", "SPEAKER0001"),
        ("speechocean762", "103"),
    ]
    lines = ["path\tkind\tspeaker\ttranscript\tseconds\tflagged\tsource\tlicence"]
    for number, (folder, speaker) in enumerate(rows):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{number}.ogg").write_bytes(bytes([number]))
        lines.append(f"{folder}/{number}.ogg\tsentence\t{speaker}\tthe lamp\t1\t\tspeechocean762\tfree")
    (tmp_path / "manifest.tsv").write_text("\n".join(lines) + "\n")
    write_recordings(tmp_path, tmp_path / "heard.tsv.gz")
    heard = {recording.sha256 for recording in published_recordings(tmp_path / "heard.tsv.gz")}
    assert heard == {hashlib.sha256(bytes([number])).hexdigest() for number in (1, 3)}


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_espeak_speaks_within_the_process() -> None:
    from kws_imagebind.training.corpora.espeak import espeak

    slow, fast = (espeak().speak("window", "en-us+f3", speed, 50, 50) for speed in (110, 210))
    assert len(slow) > 1.3 * len(fast) and 0.05 < np.abs(fast).max() <= 1
    with pytest.raises(ValueError, match="no voice 'nobody'"):
        espeak().speak("window", "nobody", 150, 50, 50)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_made_up_speakers_differ_from_each_other() -> None:
    from kws_imagebind.training.corpora.espeak import MADE_UP, espeak, made_up_variant

    assert made_up_variant("made001") == made_up_variant("made001") != made_up_variant("made002")
    spoken = [espeak().speak("window", f"en-us+{name}", 150, 50, 50) for name in MADE_UP[:6]]
    assert all(np.abs(samples).max() > 0.02 and len(samples) > 4_000 for samples in spoken)
    assert len({samples.tobytes() for samples in spoken}) == 6


@pytest.mark.skipif(shutil.which("festival") is None or shutil.which("flite") is None, reason="no flite or festival")
def test_every_synthesiser_speaks() -> None:
    from kws_imagebind.training.corpora.synthesis import Job, Voice, speak

    for number, voice in enumerate(
        (Voice("espeak-ng", "en-us+f3"), Voice("flite", "rms"), Voice("festival", "kal_diphone"))
    ):
        jobs = [Job(10 * number + index, voice, word, lookup(word)[0]) for index, word in enumerate(WORDS[:2])]
        spoken = speak(jobs, seed=0)
        assert [segment.word for segment in spoken] == list(WORDS[:2]), voice
        again = speak(jobs, seed=0)  # the same style; espeak-ng draws its breath noise again
        assert [len(segment.audio) for segment in again] == pytest.approx([len(s.audio) for s in spoken], rel=0.03)
