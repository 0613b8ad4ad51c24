"""Checkpoints of transformers and sentence-transformers through the command line, held against the libraries.

Every model is tiny, has random weights and was saved by its own library; no test may open a connection.
"""

from __future__ import annotations

import csv
import json
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kws_imagebind.cli import main
from kws_imagebind.encoders import hub
from kws_imagebind.encoders.base import Encoder, EncoderError, Scorer
from kws_imagebind.encoders.registry import load_encoder

transformers = pytest.importorskip("transformers")

from tests.encoders import checkpoints  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # notices of other libraries about their own future

WORDS = ["yes", "no", "follow"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection, and a library of the hub that knows it."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a test reached for a network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    checkpoints.quiet()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny checkpoint of each kind, made when it is first asked for."""
    made: dict[str, Path] = {}
    build: dict[str, Callable[[Path], Path]] = {
        "clap": checkpoints.clap,
        "fusion": lambda folder: checkpoints.clap(folder, "fusion"),
        "ctc": checkpoints.ctc,
        "phonemes": checkpoints.phonemes,
        "whisper": checkpoints.whisper,
        "bert": checkpoints.bert,
    }

    def find(name: str) -> Path:
        if name not in made:
            made[name] = build[name](tmp_path_factory.mktemp(name) / name)
        return made[name]

    return find


def noise(seconds: Sequence[float], rate: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(round(length * rate), generator=generator).clamp(-9, 9) for length in seconds]


def clap_by_hand(folder: Path, waveforms: Sequence[Tensor], texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """What transformers itself gives, one clip at a time, with `is_longer` put right."""
    model = transformers.ClapModel.from_pretrained(folder).eval()
    processor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    heard = []
    with torch.inference_mode():
        for waveform in waveforms:
            rounded = (waveform.numpy() * 32767).astype(np.int16).astype(np.float32) / 32767
            inputs = processor(rounded, sampling_rate=48_000, return_tensors="pt")
            inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])
            found = model.get_audio_features(**inputs)
            heard.append(getattr(found, "pooler_output", found))
        read = model.get_text_features(**tokenizer(list(texts), padding=True, return_tensors="pt"))
    return F.normalize(torch.cat(heard), dim=-1), F.normalize(getattr(read, "pooler_output", read), dim=-1)


@pytest.mark.parametrize("kind", ["clap", "fusion"])
def test_clap_equals_transformers(folders: Callable[[str], Path], kind: str) -> None:
    encoder = load_encoder(f"clap:{folders(kind)}", device="cpu")
    assert isinstance(encoder, Encoder) and encoder.sample_rate == 48_000 and encoder.dim == 16
    waveforms = noise([1.0, 0.7, 2.0], 48_000)
    audio, text = clap_by_hand(folders(kind), waveforms, WORDS)
    assert torch.allclose(encoder.encode_audio(waveforms), audio, atol=1e-5)
    assert torch.allclose(encoder.encode_text(WORDS), text, atol=1e-5)


def test_claps_batches_change_nothing_and_draw_nothing(folders: Callable[[str], Path]) -> None:
    encoder = load_encoder(f"clap:{folders('fusion')}", device="cpu")
    waveforms = noise([1.0, 0.5, 3.5, 1.0], 48_000)  # the third is longer than the window of 2 s
    at_once = encoder.encode_audio(waveforms)
    np.random.seed(7)
    assert torch.allclose(at_once, torch.cat([encoder.encode_audio([each]) for each in waveforms]), atol=1e-5)
    assert torch.allclose(at_once[2], encoder.encode_audio([waveforms[2][:96_000]])[0], atol=1e-6)


def test_claps_features_may_be_a_tensor_or_an_output_object() -> None:
    from kws_imagebind.encoders.clap import _unit

    class Output:
        pooler_output = torch.tensor([[3.0, 4.0]])

    assert _unit(Output()).tolist() == _unit(torch.tensor([[3.0, 4.0]])).tolist()
    assert torch.allclose(_unit(Output()), torch.tensor([[0.6, 0.8]]))


def ctc_by_hand(likely: Tensor, labels: Sequence[int]) -> float:
    """log P(labels | frames) by summing over every alignment, with blank 0."""
    from itertools import product

    total = -np.inf
    frames, symbols = likely.shape
    for path in product(range(symbols), repeat=frames):
        merged = [label for i, label in enumerate(path) if i == 0 or label != path[i - 1]]
        if [label for label in merged if label] == list(labels):
            total = np.logaddexp(total, sum(float(likely[t, label]) for t, label in enumerate(path)))
    return float(total)


def test_ctc_scores_are_the_sum_over_all_alignments(folders: Callable[[str], Path]) -> None:
    scorer = load_encoder(f"ctc:{folders('ctc')}", device="cpu")
    likely = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(3)).log_softmax(-1)
    spelt = [(0, [1, 2]), (1, [3, 3]), (2, [2]), (3, [1, 2, 3, 1, 2, 3])]
    found = scorer._scored(likely, spelt, 4)[0]  # type: ignore[attr-defined]
    assert found[:3].tolist() == pytest.approx([ctc_by_hand(likely[0], labels) for _, labels in spelt[:3]], abs=1e-4)
    assert found[3] == -1e4  # six labels in five frames


def test_ctc_equals_the_loss_of_transformers(folders: Callable[[str], Path]) -> None:
    scorer = load_encoder(f"ctc:{folders('ctc')}", device="cpu")
    assert isinstance(scorer, Scorer)
    model = transformers.Wav2Vec2ForCTC.from_pretrained(folders("ctc")).eval()
    model.config.ctc_loss_reduction = "sum"
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folders("ctc"))
    waveforms = noise([1.0, 0.6], 16_000)
    expected = []
    with torch.inference_mode():
        for waveform in waveforms:
            heard = extractor(waveform.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
            labels = [[checkpoints.LETTERS[letter] for letter in word.upper()] for word in WORDS]
            expected.append([-float(model(heard, labels=torch.tensor([each])).loss) for each in labels])
    assert torch.allclose(scorer.score(waveforms, WORDS), torch.tensor(expected), atol=1e-2, rtol=1e-4)
    per_label = load_encoder(f"ctc:{folders('ctc')}", device="cpu", per_label=True)
    lengths = torch.tensor([len(word) for word in WORDS])
    assert torch.allclose(per_label.score(waveforms, WORDS) * lengths, torch.tensor(expected), atol=1e-2, rtol=1e-4)


def test_a_phoneme_model_reads_words_as_they_sound(folders: Callable[[str], Path]) -> None:
    scorer = load_encoder(f"ctc:{folders('phonemes')}", device="cpu")
    clips = noise([1.0], 16_000)
    alike = scorer.score(clips, ["right", "write", "right=/R AY T/", "left"])[0]
    assert alike[0] == alike[1] == alike[2] != alike[3]
    assert scorer.score(clips, ["zyzzyvic"]).isfinite().all()  # by letter-to-sound rules


def whisper_by_hand(folder: Path, waveform: Tensor, written: str) -> float:
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    start = tokenizer.convert_tokens_to_ids(["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"])
    ids = [*start, *tokenizer(written, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    heard = extractor(waveform.numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    with torch.inference_mode():
        likely = model(input_features=heard, decoder_input_ids=torch.tensor([ids[:-1]])).logits[0].log_softmax(-1)
    return sum(float(likely[i - 1, ids[i]]) for i in range(len(start), len(ids)))


def test_whisper_equals_transformers_less_the_prior(folders: Callable[[str], Path]) -> None:
    folder = folders("whisper")
    scorer = load_encoder(f"whisper:{folder}", device="cpu")
    plain = load_encoder(f"whisper:{folder}", device="cpu", prior=False)
    waveforms, written = noise([1.0, 0.4], 16_000), [" Yes.", " No.", " Follow."]
    expected = torch.tensor([[whisper_by_hand(folder, each, text) for text in written] for each in waveforms])
    prior = torch.tensor([whisper_by_hand(folder, torch.zeros(16_000), text) for text in written])
    assert torch.allclose(plain.score(waveforms, WORDS), expected, atol=1e-3)
    assert torch.allclose(scorer.score(waveforms, WORDS), expected - prior, atol=1e-3)
    assert scorer.score([torch.zeros(16_000)], WORDS).abs().max() < 1e-4  # the null input itself


def test_sentence_transformers_equals_its_own_encode(folders: Callable[[str], Path]) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = load_encoder(f"sentence-transformers:{folders('clap')}", device="cpu")
    model = sentence_transformers.SentenceTransformer(str(folders("clap")), device="cpu", local_files_only=True)
    waveforms = noise([2.0, 2.0], 48_000)
    clips = [{"array": each.numpy(), "sampling_rate": 48_000} for each in waveforms]
    assert encoder.sample_rate == 48_000
    for found, inputs in ((encoder.encode_audio(waveforms), clips), (encoder.encode_text(WORDS), WORDS)):
        direct = torch.as_tensor(model.encode(inputs, show_progress_bar=False))
        assert torch.allclose(found, F.normalize(direct, dim=-1), atol=1e-5)


@pytest.fixture
def spoken(tmp_path: Path, write_tone: Callable[..., Path]) -> Path:
    root = tmp_path / "clips"
    for index, word in enumerate(WORDS):
        for take in range(2):
            write_tone(root / word / f"{take}.wav", hertz=300 + 200 * index, seconds=1.0, seed=10 * index + take)
    return root


@pytest.mark.parametrize("name", ["clap", "sentence-transformers", "ctc", "whisper"])
def test_the_command_line_gives_the_library_s_predictions(
    name: str, folders: Callable[[str], Path], spoken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folders("clap" if name == "sentence-transformers" else name)
    command = [
        "evaluate", "--encoder", f"{name}:{folder}", "--dataset", "folder", "--data", str(spoken), "--device", "cpu",
        "--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "report"), "--json", "--quiet",
    ]  # fmt: skip
    assert main(command) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["card"]["parameters"] > 1_000 and results["n"] == 6
    scorer = name in ("ctc", "whisper")
    assert results["protocol"]["kind"] == ("likelihood" if scorer else "zero-shot")

    from kws_imagebind import load_audio

    encoder = load_encoder(f"{name}:{folder}", device="cpu")
    with (tmp_path / "report" / "predictions.csv").open() as table:
        lines = list(csv.DictReader(table))
    clips = [load_audio(spoken / line["path"], encoder.sample_rate) for line in lines]
    words = sorted(WORDS)
    if scorer:
        scores = encoder.score(clips, words)  # type: ignore[attr-defined]
    else:
        prompts = [encoder.default_template.format(word) for word in words]
        scores = encoder.encode_audio(clips) @ encoder.encode_text(prompts).T
    best = scores.max(1)
    assert [line["prediction"] for line in lines] == [words[int(index)] for index in best.indices]
    assert [float(line["score"]) for line in lines] == pytest.approx(best.values.tolist(), abs=2e-3)
    assert main([*command[:-4], "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["cached"] == 6  # scores are cached as vectors are


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("clap", "bert", "is of the architecture 'bert', so it lacks an audio or a text side"),
        ("whisper", "bert", "is of the architecture 'bert', which has no decoder of Whisper's"),
        ("ctc", "bert", "is a BertModel without a CTC head"),
        ("ctc", "whisper", "without a CTC head"),
        ("sentence-transformers", "bert", "takes no audio, only text"),
    ],
)
def test_another_architecture_is_one_sentence(
    name: str, kind: str, sentence: str, folders: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--encoder", f"{name}:{folders(kind)}", "--limit", "2", "--quiet"]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and sentence in told[0] and "expected" in told[0]


@pytest.mark.parametrize("name", ["clap", "ctc", "whisper", "sentence-transformers"])
def test_bad_input_is_one_sentence_on_the_command_line(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for checkpoint in ("", ":some/thing", ":some/thing@v9", ":./nowhere", f":{tmp_path}"):
        assert main(["evaluate", "--encoder", f"{name}{checkpoint}", "--limit", "2", "--quiet"]) == 2
        told = capsys.readouterr().err.strip().splitlines()
        assert len(told) == 1, told


@pytest.mark.parametrize("name", ["clap", "ctc", "whisper", "sentence-transformers"])
def test_a_missing_checkpoint_says_how_to_get_it(name: str) -> None:
    with pytest.raises(
        EncoderError, match=r"'some/thing' is not in the Hugging Face cache, and HF_HUB_OFFLINE is set; "
    ):
        load_encoder(f"{name}:some/thing")
    with pytest.raises(EncoderError, match="'hf download some/thing --revision v9'"):
        load_encoder(f"{name}:some/thing@v9")
    with pytest.raises(EncoderError, match=f"'{name}' needs a checkpoint after a colon, such as '{name}:"):
        load_encoder(name)
    with pytest.raises(EncoderError, match=r"'\./nowhere' is not a folder"):
        load_encoder(f"{name}:./nowhere")


def test_a_known_checkpoint_is_refused_with_its_size_and_licence() -> None:
    with pytest.raises(EncoderError, match=r"'openai/whisper-tiny' \(0.15 GB, Apache-2.0\) is not in"):
        load_encoder("whisper:openai/whisper-tiny")


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"holds no checkpoint: it has no config\.json"):
        load_encoder(f"clap:{tmp_path}")


def test_a_damaged_checkpoint_is_one_sentence(folders: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(folders("ctc"), tmp_path / "damaged"))
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(EncoderError, match=r"^checkpoint '.*damaged' cannot be loaded: [^\n]+$"):
        load_encoder(f"ctc:{folder}")


def test_a_rate_that_makes_no_sense_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = checkpoints.ctc(tmp_path / "rate", rate=16)
    sentence = "names the sampling rate 16; expected hertz from 4000 to 192000"
    with pytest.raises(EncoderError, match=sentence):
        load_encoder(f"ctc:{folder}")
    assert main(["evaluate", "--encoder", f"ctc:{folder}", "--limit", "2", "--quiet"]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and sentence in told[0]


def test_a_vocabulary_that_is_neither_letters_nor_phonemes_is_refused(tmp_path: Path) -> None:
    folder = checkpoints.ctc(tmp_path / "odd", {"<pad>": 0, **{chr(0x4E00 + i): i + 1 for i in range(30)}})
    with pytest.raises(EncoderError, match="is neither English letters nor ARPAbet nor IPA; it begins with '<pad>'"):
        load_encoder(f"ctc:{folder}")


def test_out_of_memory_is_one_sentence(
    folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kws_imagebind.encoders.ctc import CtcScorer

    def full(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(CtcScorer, "_log_probabilities", full)
    assert main(["evaluate", "--encoder", f"ctc:{folders('ctc')}", "--limit", "2", "--quiet", "--no-cache"]) == 2
    assert "ran out of memory; take a smaller --batch-size" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--template", "say {}"], ["--reject"]])
def test_a_scorer_refuses_what_needs_prompts_or_vectors(
    option: list[str], folders: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--encoder", f"ctc:{folders('ctc')}", "--limit", "2", "--quiet", *option]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_what_the_hub_refuses_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the hub's library raises it where there is a network."""
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    response = httpx.Response(404, request=httpx.Request("GET", "http://127.0.0.1/"))
    monkeypatch.setattr(hub, "is_offline", lambda: False)
    for error, sentence in (
        (RevisionNotFoundError("no", response=response), "checkpoint 'laion/x' has no revision 'v9'; leave out '@v9'"),
        (RepositoryNotFoundError("no", response=response), "there is no checkpoint 'laion/x@v9' on the Hugging Face"),
        (GatedRepoError("no", response=response), "'laion/x@v9' must be unlocked by its authors"),
        (httpx.ConnectError("no"), "and the Hugging Face hub cannot be reached; fetch it with 'hf download laion/x"),
    ):

        def answer(*_: object, raised: Exception = error, **__: object) -> None:
            raise raised

        monkeypatch.setattr(HfApi, "model_info", answer)
        with pytest.raises(EncoderError, match=sentence):
            load_encoder("clap:laion/x@v9")
        assert main(["evaluate", "--encoder", "clap:laion/x@v9", "--limit", "2", "--quiet"]) == 2
        told = capsys.readouterr().err.strip().splitlines()
        assert len(told) == 1 and sentence in told[0]


def test_a_fetch_says_its_size_and_licence_and_leaves_out_what_is_not_needed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, folders: Callable[[str], Path]
) -> None:
    from types import SimpleNamespace

    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked: dict[str, object] = {}

    def snapshot(repository: str, local_files_only: bool = False, **options: object) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not cached")
        asked.update(options, repository=repository)
        return str(folders("ctc"))

    sizes = {"model.safetensors": 2_000_000_000, "pytorch_model.bin": 2_000_000_000, "tf_model.h5": 9, "vocab.json": 0}
    info = SimpleNamespace(
        siblings=[SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()],
        card_data=SimpleNamespace(license="mit"),
    )
    monkeypatch.setattr(hub, "is_offline", lambda: False)
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: info)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    load_encoder("ctc:laion/x@v9", device="cpu")
    assert "fetching checkpoint 'laion/x@v9', 2.00 GB, licence mit" in caplog.text
    assert asked["repository"] == "laion/x" and asked["revision"] == "v9"
    assert {"*.bin", "*.h5"} <= set(asked["ignore_patterns"])  # type: ignore[call-overload]


def test_a_card_tells_what_the_checkpoint_s_own_card_does(tmp_path: Path) -> None:
    folder = checkpoints.ctc(tmp_path / "told")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ndatasets:\n- speech_commands\n---\n# A model\n")
    card = load_encoder(f"ctc:{folder}").card  # type: ignore[attr-defined]
    assert card.licence == "apache-2.0" and card.saw_speech_commands
    assert card.bytes == (folder / "model.safetensors").stat().st_size
