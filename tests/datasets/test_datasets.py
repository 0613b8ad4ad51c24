"""Data sets: tiny files in the official layout, the real clips where at hand, and every way to get it wrong."""

from __future__ import annotations

import builtins
import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from kws_imagebind.audio.files import extensions
from kws_imagebind.datasets import DATASETS, Dataset, DatasetError, Utterance, load_dataset, sample, speech_commands
from kws_imagebind.datasets.registry import check_sibling, outsiders, sibling
from kws_imagebind.datasets.speech_commands import VERSIONS, official_split, version_held
from kws_imagebind.text.keywords import KeywordError
from kws_imagebind.text.tasks import ADDED_IN_V2, SPEECH_COMMANDS_WORDS

REAL = Path(__file__).parents[3] / "shared" / "data"
CORPUS = "speech_commands_v0.02"
needs_real_clips = pytest.mark.skipif(not REAL.is_dir(), reason="the real clips are not at hand")
needs_sample = pytest.mark.skipif(
    not any((place / "yes").is_dir() for place in sample.PLACES), reason="the bundled sample is not made yet"
)

# What each split of the toy corpus holds; the lists need not follow the corpus's rule for torchaudio to read them.
TESTING = ("yes/aaaa1111_nohash_0.wav", "no/aaaa1111_nohash_1.wav", "bed/bbbb2222_nohash_0.wav")
VALIDATION = ("yes/cccc3333_nohash_0.wav",)
TRAINING = ("no/dddd4444_nohash_0.wav", "yes/dddd4444_nohash_0.wav")


def _write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(160, dtype=np.float32), 16_000)


def _corpus(folder: Path) -> Path:
    """A corpus of six clips in the official layout."""
    for key in TESTING + VALIDATION + TRAINING:
        _write(folder / key)
    _write(folder / "_background_noise_" / "white_noise.wav")
    _write(folder / "yes" / "._aaaa1111_nohash_0.wav")  # what macOS leaves on foreign disks
    (folder / "testing_list.txt").write_text("\n".join(TESTING) + "\n")
    (folder / "validation_list.txt").write_text("\n".join(VALIDATION) + "\n")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    _corpus(tmp_path / "data" / "SpeechCommands" / CORPUS)
    return tmp_path / "data"


def _keys(dataset: Dataset) -> list[str]:
    return [utterance.key for utterance in dataset.utterances]


# Speech Commands


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("testing", TESTING),
        ("validation", VALIDATION),
        ("training", TRAINING),
        ("all", sorted(TESTING + VALIDATION + TRAINING)),
    ],
)
def test_the_official_splits(data: Path, split: str, expected: tuple[str, ...]) -> None:
    dataset = load_dataset("speech-commands", root=data, split=split)
    assert _keys(dataset) == list(expected)
    assert (dataset.split, dataset.task, dataset.keywords) == (split, "v2-35", SPEECH_COMMANDS_WORDS)
    for utterance in dataset.utterances:
        word, name = utterance.key.split("/")
        assert utterance.label == word
        assert utterance.speaker == name[:8]
        assert utterance.path == (data / "SpeechCommands" / CORPUS / utterance.key).resolve()
        assert utterance.path.is_file()


def test_testing_is_the_default_split_and_the_note_says_it_is_a_part(data: Path) -> None:
    dataset = load_dataset("speech-commands", root=data)
    assert dataset.split == "testing"
    assert dataset.note == "Speech Commands v0.02, 3 of the testing split's 11,005 clips"


@pytest.mark.parametrize("inner", [".", "SpeechCommands", f"SpeechCommands/{CORPUS}"])
def test_the_corpus_is_found_from_each_of_its_folders(data: Path, inner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_dataset("speech-commands", root=data)
    assert load_dataset("speech-commands", root=data / inner).utterances == expected.utterances
    monkeypatch.chdir(data / inner)
    assert load_dataset("speech-commands", root=".").utterances == expected.utterances
    assert load_dataset("speech-commands", root=str(data / inner)).utterances == expected.utterances


def test_a_corpus_in_a_folder_of_another_name_is_found(tmp_path: Path) -> None:
    dataset = load_dataset("speech-commands", root=_corpus(tmp_path / "unpacked here"))
    assert _keys(dataset) == list(TESTING)


def test_a_task_restricts_the_clips_and_keeps_every_candidate(data: Path) -> None:
    dataset = load_dataset("speech-commands", root=data, task="v2-10")
    assert _keys(dataset) == list(TESTING[:2])
    assert len(dataset.keywords) == 10
    assert dataset.targets.tolist() == [0, 1]  # yes, no
    assert dataset.targets.dtype == torch.int64


def test_a_task_of_one_version_refuses_the_other(tmp_path: Path, data: Path) -> None:
    with pytest.raises(DatasetError, match=r"'v1-30' is defined on Speech Commands v0\.01.*holds v0\.02.*--task v2-35"):
        load_dataset("speech-commands", root=data / "SpeechCommands" / "speech_commands_v0.02", task="v1-30")
    with pytest.raises(DatasetError, match=r"'v1-12' is defined on Speech Commands v0\.01"):
        load_dataset("speech-commands", root=data, task="v1-12")  # found there, not named
    _corpus(tmp_path / "old" / "speech_commands_v0.01")
    with pytest.raises(DatasetError, match=r"'v2-10' is defined on Speech Commands v0\.02.*--task v1-30"):
        load_dataset("speech-commands", root=tmp_path / "old", task="v2-10")
    assert load_dataset("speech-commands", root=data, task="mini").task == "mini"  # of no version


def test_a_renamed_corpus_is_known_by_the_words_it_holds(tmp_path: Path) -> None:
    plain = _corpus(tmp_path / "unpacked")
    newer = _corpus(tmp_path / "newer")
    (newer / "backward").mkdir(exist_ok=True)
    assert version_held(newer) == "v0.02"
    assert version_held(plain) == ("v0.02" if any((plain / word).is_dir() for word in ADDED_IN_V2) else "v0.01")


def test_the_other_words_and_the_noise_of_a_source_are_its_outsiders(tmp_path: Path) -> None:
    for word in ("yes", "no", "lamp"):
        _write(tmp_path / "mine" / word / "a_nohash_0.wav")
    two = load_dataset("folder", root=tmp_path / "mine", keywords="yes,no")
    assert [each.label for each in outsiders(two).utterances] == ["lamp"]
    with pytest.raises(DatasetError, match=r"no clip of other words and no background noise.*fewer keywords"):
        outsiders(load_dataset("folder", root=tmp_path / "mine"))
    by_hand = Dataset("toy", two.utterances, two.keywords, "custom")
    with pytest.raises(DatasetError, match="was made by hand"):
        sibling(by_hand, "validation")
    with pytest.raises(DatasetError, match=r"the prompt needs a validation split.*it has no splits"):
        check_sibling(two, "validation", "the prompt")


def test_version_1_is_read_by_its_own_name(tmp_path: Path) -> None:
    _corpus(tmp_path / "SpeechCommands" / "speech_commands_v0.01")
    for options in ({"task": "v1-30"}, {"version": "v0.01"}, {}):
        dataset = load_dataset("speech-commands", root=tmp_path, **options)
        assert (dataset.task, len(dataset.keywords)) == ("v1-30", 30)
        assert "v0.01" in dataset.note
    named = load_dataset("speech-commands", root=tmp_path / "SpeechCommands" / "speech_commands_v0.01")
    assert named.task == "v1-30"
    with pytest.raises(DatasetError, match=r"no Speech Commands v0\.02"):  # a folder's name is believed
        load_dataset("speech-commands", root=named.utterances[0].path.parents[1], version="v0.02")


def test_a_missing_corpus_is_told_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no Speech Commands v0\.02 in '.*empty'.*--download.*2\.4 GB"):
        load_dataset("speech-commands", root=tmp_path / "empty")


def test_a_listed_clip_that_is_missing_is_named(data: Path) -> None:
    (data / "SpeechCommands" / CORPUS / TESTING[1]).unlink()
    with pytest.raises(DatasetError, match=r"lacks 1 of the 3 clips of its testing split.*no/aaaa1111_nohash_1.wav"):
        load_dataset("speech-commands", root=data)
    assert len(load_dataset("speech-commands", root=data, split="validation")) == 1


def test_a_missing_list_and_a_broken_list_are_named(data: Path) -> None:
    corpus = data / "SpeechCommands" / CORPUS
    (corpus / "testing_list.txt").write_text("yes/aaaa1111_nohash_0.wav\n\n")
    with pytest.raises(DatasetError, match="a line that is not a clip"):
        load_dataset("speech-commands", root=data)
    (corpus / "testing_list.txt").unlink()
    with pytest.raises(DatasetError, match=r"lacks testing_list\.txt"):
        load_dataset("speech-commands", root=data)


def test_an_empty_split_is_refused(data: Path) -> None:
    (data / "SpeechCommands" / CORPUS / "testing_list.txt").write_text("")
    with pytest.raises(DatasetError, match="has no clip of its testing split"):
        load_dataset("speech-commands", root=data)


def test_a_torchaudio_that_cannot_be_imported_is_explained(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def broken(name: str, *rest: Any) -> Any:
        if name == "torchaudio.datasets":
            raise OSError("libc10_cuda.so: cannot open shared object file")
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(DatasetError, match=r"torchaudio cannot be imported \(libc10_cuda.so.*pip install"):
        load_dataset("speech-commands", root=data)


# Download, with a local archive in place of the network


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    source, path = _corpus(tmp_path / "source"), tmp_path / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for entry in sorted(source.iterdir()):
            tar.add(entry, f"./{entry.name}")
    return path


def _serve(monkeypatch: pytest.MonkeyPatch, fetch: Callable[[str], None]) -> list[tuple[str, str]]:
    """Puts `fetch(destination)` in place of torchaudio's download; returns the (address, checksum) asked for."""
    asked = []

    def fake(url: str, destination: str, hash_prefix: str) -> None:
        asked.append((url, hash_prefix))
        fetch(destination)

    monkeypatch.setattr("torchaudio.datasets.speechcommands.download_url_to_file", fake)
    return asked


@pytest.mark.parametrize("inner", ["fresh", "fresh/SpeechCommands", f"fresh/SpeechCommands/{CORPUS}"])
@pytest.mark.filterwarnings("ignore:.*extract.*:DeprecationWarning")
def test_download_puts_the_corpus_where_it_is_found_again(
    tmp_path: Path, archive: Path, inner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _serve(monkeypatch, lambda destination: Path(destination).write_bytes(archive.read_bytes()))
    root = tmp_path / inner
    dataset = load_dataset("speech-commands", root=root, download=True)
    assert _keys(dataset) == list(TESTING)
    assert asked == [(speech_commands.URL.format(CORPUS), VERSIONS["v0.02"].sha256)]
    assert load_dataset("speech-commands", root=root, download=True) == dataset  # and fetches nothing more
    assert len(asked) == 1
    assert (tmp_path / "fresh" / "SpeechCommands" / CORPUS).is_dir()
    assert not list((tmp_path / "fresh").rglob("*.part"))


@pytest.mark.filterwarnings("ignore:.*extract.*:DeprecationWarning")
def test_a_failed_download_leaves_no_half_corpus(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(destination: str) -> None:
        raise RuntimeError("invalid hash value")

    def truncate(destination: str) -> None:
        Path(destination).write_bytes(archive.read_bytes()[:-200])

    for fetch, message in ((refuse, "invalid hash value"), (truncate, "end-of-stream")):
        _serve(monkeypatch, fetch)
        with pytest.raises(DatasetError, match=rf"could not be fetched.*{message}.*unpack http"):
            load_dataset("speech-commands", root=tmp_path / "fresh", download=True)
        assert not (tmp_path / "fresh" / "SpeechCommands" / CORPUS).exists()


def test_an_archive_that_is_already_there_is_verified(tmp_path: Path) -> None:
    (tmp_path / f"{CORPUS}.tar.gz").write_bytes(b"half of it")
    with pytest.raises(DatasetError, match=r"is damaged: its sha256 is not af14739ee7dc"):
        load_dataset("speech-commands", root=tmp_path, download=True)


# The rule of the splits


@needs_real_clips
@pytest.mark.parametrize(("split", "n"), [("testing", 1142), ("validation", 578), ("training", 723)])
def test_the_rule_agrees_with_the_official_lists(split: str, n: int) -> None:
    dataset = load_dataset("speech-commands", root=REAL, split=split)
    assert len(dataset) == n
    assert {official_split(key) for key in _keys(dataset)} == {split}


def test_the_rule_sees_the_speaker_alone() -> None:
    expected = official_split("0cb74144_nohash_0.wav")
    for name in (
        "0cb74144_nohash_7.wav",
        "yes/0cb74144_nohash_0.wav",
        Path("any/where/0cb74144_nohash_1.flac").as_posix(),
    ):
        assert official_split(name) == expected


def test_the_rule_cuts_at_a_tenth_and_a_fifth() -> None:
    for i in range(3000):
        speaker = f"{i:08x}"
        bits = int(hashlib.sha1(speaker.encode()).hexdigest()[-7:], 16) & 0x7FFFFFF  # the last 27
        expected = "validation" if bits < 0x7FFFFFF / 10 else "testing" if bits < 0x7FFFFFF / 5 else "training"
        assert official_split(f"{speaker}_nohash_0.wav") == expected


def test_the_rule_needs_a_speaker() -> None:
    with pytest.raises(DatasetError, match=r"'white_noise\.wav' is not a clip of Speech Commands"):
        official_split("_background_noise_/white_noise.wav")


@needs_real_clips
def test_the_real_clips() -> None:
    dataset = load_dataset("speech-commands", root=REAL)
    assert len(dataset) == 1142
    assert len({utterance.speaker for utterance in dataset.utterances}) == 68
    assert len(load_dataset("speech-commands", root=REAL, task="v2-10")) == 1050
    assert [dataset.labels[i] for i in dataset.targets] == [utterance.label for utterance in dataset.utterances]


# Folders


def test_a_folder_of_words(tmp_path: Path) -> None:
    for name in ("yes/b.wav", "yes/a.flac", "yes/C.OGG", "turn on/ab_nohash_0.wav", "_noise_/n.wav", ".git/x.wav"):
        _write(tmp_path / name)
    _write(tmp_path / "yes" / ".hidden.wav")
    (tmp_path / "yes" / "notes.txt").write_text("recorded at home")
    (tmp_path / "yes" / "d.doc").write_bytes(b"")
    (tmp_path / "README").write_text("at the top, files are passed over")
    dataset = load_dataset("folder", root=tmp_path)
    assert _keys(dataset) == ["turn on/ab_nohash_0.wav", "yes/C.OGG", "yes/a.flac", "yes/b.wav"]
    assert dataset.keywords == ("turn on", "yes")
    assert [utterance.speaker for utterance in dataset.utterances] == ["ab", None, None, None]
    assert (dataset.task, dataset.split) == ("folder", None)
    assert dataset.note == "2 files left out that cannot be read as audio (.doc, .txt)"


def test_the_extensions_are_libsndfiles() -> None:
    assert {".wav", ".flac", ".ogg", ".mp3", ".opus", ".aiff", ".aif", ".au"} <= extensions(with_ffmpeg=False)
    assert ".raw" not in extensions(with_ffmpeg=False)


def test_keywords_choose_and_keep_those_without_clips(tmp_path: Path) -> None:
    for name in ("Yes/1.wav", "no/1.wav", "stop/1.wav"):
        _write(tmp_path / name)
    dataset = load_dataset("folder", root=tmp_path, keywords="no,kettle=/K EH T AH L/,yes=/Y EH S/")
    assert dataset.keywords == ("no", "kettle=/K EH T AH L/", "yes=/Y EH S/")
    assert dataset.labels == ("no", "kettle", "yes")
    assert _keys(dataset) == ["Yes/1.wav", "no/1.wav"]
    assert [utterance.label for utterance in dataset.utterances] == ["yes", "no"]
    assert dataset.targets.tolist() == [2, 0]
    assert dataset.task == "custom"
    assert load_dataset("folder", root=tmp_path, keywords=["no", "yes"]).targets.tolist() == [1, 0]


def test_speech_commands_reads_as_a_folder_too(data: Path) -> None:
    dataset = load_dataset("folder", root=data / "SpeechCommands" / CORPUS)
    assert len(dataset) == 6
    assert dataset.keywords == ("bed", "no", "yes")


def _empty_word(root: Path) -> None:
    _write(root / "yes" / "1.wav")
    (root / "no").mkdir()


def _no_audio(root: Path) -> None:
    (root / "yes").mkdir()
    (root / "yes" / "1.doc").write_bytes(b"")


def _too_deep(root: Path) -> None:
    _write(root / "mine" / "yes" / "1.wav")


def _no_words(root: Path) -> None:
    _write(root / "1.wav")


def _same_words(root: Path) -> None:
    _write(root / "yes" / "1.wav")
    _write(root / "Yes" / "1.wav")
    if len(list(root.iterdir())) == 1:
        pytest.skip("this file system does not tell the two apart")


def _equals(root: Path) -> None:
    _write(root / "a=b" / "1.wav")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_empty_word, r"no' holds no recording: it is empty; put WAV"),
        (_no_audio, r"yes' holds no recording: it holds only \.doc; put WAV"),
        (_too_deep, r"mine' holds no recording: it holds folders, which are not searched"),
        (_no_words, r"holds 1 recording of its own, but no folder with the name of a word; expected recordings such"),
        (_same_words, r"folders 'Yes' and 'yes' name the same keyword"),
        (_equals, r"folder 'a=b' has a '='"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    make(tmp_path)
    with pytest.raises(DatasetError, match=message):
        load_dataset("folder", root=tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere' is not a folder"):
        load_dataset("folder", root=tmp_path / "nowhere")


@pytest.mark.parametrize("form", [str, Path])
def test_a_folder_in_place_of_a_name_is_told_where_it_belongs(tones: Path, form: Callable[[Path], str]) -> None:
    with pytest.raises(DatasetError) as caught:
        load_dataset(form(tones))
    said = str(caught.value)
    remedy = said[said.index("kws.load_dataset") : said.index(", or --data")]
    assert remedy == f'kws.load_dataset("folder", root="{tones}")' and "\n" not in said
    assert len(load_dataset("folder", root=tones)) == 24


def test_accents_are_spelt_one_way(tmp_path: Path) -> None:
    _write(tmp_path / "cafe\u0301" / "1.wav")  # as macOS writes it
    dataset = load_dataset("folder", root=tmp_path, keywords="caf\u00e9")
    assert _keys(dataset) == ["caf\u00e9/1.wav"]
    assert dataset.utterances[0].path.is_file()


# The sample


def test_the_sample_is_looked_for_in_the_package_and_in_the_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel, clone = tmp_path / "package" / "sample", tmp_path / "sample"
    monkeypatch.setattr(sample, "PLACES", (wheel, clone))
    with pytest.raises(DatasetError, match="lacks its sample"):
        load_dataset("sample")
    _write(clone / "yes" / "kal_nohash_0.wav")
    assert load_dataset("sample").utterances[0].path.is_relative_to(clone)
    _write(wheel / "yes" / "kal_nohash_0.wav")
    dataset = load_dataset("sample")
    assert dataset.utterances[0] == Utterance(wheel / "yes" / "kal_nohash_0.wav", "yes", "kal", "yes/kal_nohash_0.wav")
    assert (dataset.task, len(dataset.keywords), dataset.split) == ("v2-35", 35, None)


@needs_sample
def test_the_bundled_sample() -> None:
    dataset = load_dataset("sample")
    assert {utterance.label for utterance in dataset.utterances} == set(SPEECH_COMMANDS_WORDS)
    assert len({utterance.speaker for utterance in dataset.utterances} - {None}) >= 8
    assert sum(utterance.path.stat().st_size for utterance in dataset.utterances) <= 6_000_000
    assert set(load_dataset("sample", task="digits").labels) <= set(dataset.labels)


# What every data set does


def _dataset(n: int = 100) -> Dataset:
    words = ("yes", "no")
    utterances = [Utterance(Path(f"{i}.wav"), words[i % 2], None, f"{words[i % 2]}/{i}.wav") for i in range(n)]
    return Dataset("toy", tuple(utterances), words, "custom")


def test_a_subset_keeps_the_order_and_is_the_same_everywhere() -> None:
    dataset = _dataset()
    subset = dataset.subset(8, seed=0)
    # Fixed here so that a draw never changes: results name their subset by limit and seed alone.
    assert _keys(subset) == [
        "no/3.wav",
        "no/11.wav",
        "yes/24.wav",
        "no/27.wav",
        "yes/42.wav",
        "no/67.wav",
        "no/75.wav",
        "yes/80.wav",
    ]
    assert _keys(subset) == [key for key in _keys(dataset) if key in set(_keys(subset))]
    assert subset.note == "8 of 100 clips, drawn with seed 0"
    assert subset.keywords == dataset.keywords


def test_subsets_are_nested_and_differ_by_seed() -> None:
    dataset = _dataset()
    assert set(_keys(dataset.subset(8))) < set(_keys(dataset.subset(20)))
    assert _keys(dataset.subset(8, seed=1)) != _keys(dataset.subset(8, seed=2))


def test_a_subset_does_not_depend_on_the_order_of_the_clips() -> None:
    dataset = _dataset()
    turned = Dataset("toy", dataset.utterances[::-1], dataset.keywords, "custom")
    assert _keys(turned.subset(9)) == _keys(dataset.subset(9))[::-1]


def test_every_clip_has_the_same_chance() -> None:
    dataset, drawn = _dataset(20), np.zeros(20)
    for seed in range(2000):
        for key in _keys(dataset.subset(5, seed)):
            drawn[int(key.split("/")[1][:-4])] += 1
    # 500 draws of each clip are expected, with a standard deviation of 19.
    assert np.all(np.abs(drawn - 500) < 90)


def test_a_limit_beyond_the_data_set_is_the_data_set() -> None:
    dataset = _dataset()
    assert dataset.subset(100) is dataset
    assert dataset.subset(5000) is dataset
    with pytest.raises(DatasetError, match="a limit of 0 clips"):
        dataset.subset(0)


def test_a_data_set_holds_together() -> None:
    utterance = Utterance(Path("1.wav"), "yes", None, "yes/1.wav")
    with pytest.raises(DatasetError, match="'toy' has no clips"):
        Dataset("toy", (), ("yes", "no"), "custom")
    with pytest.raises(DatasetError, match="labelled yes, which is not one of its keywords"):
        Dataset("toy", (utterance,), ("no", "stop"), "custom")
    with pytest.raises(DatasetError, match=r"names clip 'yes/1\.wav' 2 times"):
        Dataset("toy", (utterance, utterance), ("yes", "no"), "custom")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "speech-command"}, DatasetError, r"did you mean speech-commands\?.*sample, speech-commands, folder"),
        ({"name": "folder"}, DatasetError, r"needs the path of the folder.*--data"),
        (
            {"name": "sample", "root": "data"},
            DatasetError,
            r"'sample' takes no folder, and 'data' is given.*--dataset folder",
        ),
        ({"name": "sample", "split": "testing"}, DatasetError, r"data set 'sample' has no split"),
        ({"name": "sample", "download": True}, DatasetError, r"data set 'sample' has no download"),
        ({"name": "folder", "root": ".", "version": "v0.01"}, DatasetError, r"data set 'folder' has no version"),
        ({"name": "sample", "task": "v2-11"}, KeywordError, r"unknown task 'v2-11'"),
        ({"name": "sample", "task": "v2-10", "keywords": "yes,no"}, KeywordError, r"a task and keywords are given"),
        ({"name": "sample", "keywords": "yes,,no"}, KeywordError, r"keyword 2 is blank"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_dataset(**options)


def test_speech_commands_options_that_make_no_sense(data: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no split 'test'; its splits are testing, training, validation, all"):
        load_dataset("speech-commands", root=data, split="test")
    with pytest.raises(DatasetError, match=r"unknown version 'v0\.03'.*v0\.01, v0\.02"):
        load_dataset("speech-commands", root=data, version="v0.03")
    with pytest.raises(DatasetError, match=r"split 'testing' of data set 'speech-commands' has no clip of lamp"):
        load_dataset("speech-commands", root=data, keywords="lamp")


def test_each_name_is_described() -> None:
    assert set(DATASETS) == {"sample", "speech-commands", "folder", "pictures"}
