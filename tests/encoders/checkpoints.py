"""Tiny checkpoints with random weights, each saved by the real library: the same files as those on the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")  # doctests look into every file

from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import (  # noqa: E402
    BertConfig,
    BertModel,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    PreTrainedTokenizerFast,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

LETTERS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, **{chr(65 + i): 5 + i for i in range(26)}}
IPA_SYMBOLS = "ɑː æ ʌ ɔː aʊ aɪ b tʃ d ð ɛ ɚ eɪ f ɡ h ɪ iː dʒ k l m n ŋ oʊ ɔɪ p ɹ s ʃ t θ ʊ uː v w j z ʒ".split()


def clap(folder: Path, truncation: str = "rand_trunc", seed: int = 0) -> Path:
    """A CLAP of 0.1 M parameters whose window is 2 s at 48 kHz."""
    torch.manual_seed(seed)
    config = ClapConfig(
        text_config={
            "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "max_position_embeddings": 90, "projection_dim": 16,
        },
        audio_config={
            "spec_size": 64, "num_mel_bins": 16, "patch_embeds_hidden_size": 8, "depths": [1, 1],
            "num_attention_heads": [1, 2], "hidden_size": 16, "window_size": 2, "num_classes": 4,
            "patch_size": 4, "patch_stride": [4, 4], "projection_dim": 16,
            "enable_fusion": truncation == "fusion", "aff_block_r": 1, "projection_hidden_size": 16,
        },
        projection_dim=16,
    )  # fmt: skip
    ClapModel(config).eval().save_pretrained(folder)
    # 16 mel bands of at most 256 frames fill the 64 x 64 patches of the toy.
    ClapFeatureExtractor(
        feature_size=16, sampling_rate=48_000, hop_length=400, max_length_s=2, fft_window_size=1024,
        padding="repeatpad", truncation=truncation,
    ).save_pretrained(folder)  # fmt: skip
    words(folder)
    return folder


def words(folder: Path) -> None:
    """A tokeniser that knows single letters."""
    symbols = ["<pad>", "<unk>", *"abcdefghijklmnopqrstuvwxyzT.<|>"]
    tokenizer = Tokenizer(models.WordLevel({each: i for i, each in enumerate(symbols)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)


def ctc(folder: Path, vocabulary: dict[str, int] | None = None, rate: int = 16_000, seed: int = 0) -> Path:
    """A wav2vec 2.0 of 10 k parameters with a CTC head; the vocabulary is that of wav2vec2-base-960h."""
    vocabulary = vocabulary or LETTERS
    torch.manual_seed(seed)
    config = Wav2Vec2Config(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8, 8, 8), conv_kernel=(10, 8, 4), conv_stride=(5, 8, 4), num_feat_extract_layers=3,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, pad_token_id=0,
    )  # fmt: skip
    Wav2Vec2ForCTC(config).eval().save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=rate, do_normalize=True).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    return folder


def phonemes(folder: Path) -> Path:
    """The same with the labels of a phoneme model."""
    return ctc(folder, {"<pad>": 0, **{symbol: i + 1 for i, symbol in enumerate(IPA_SYMBOLS)}})


def whisper(folder: Path, seed: int = 0) -> Path:
    """A Whisper of a few thousand parameters that hears 30 s, as all do."""
    torch.manual_seed(seed)
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    symbols = [*special, " ", ".", "<unk>", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    tokenizer = Tokenizer(models.WordLevel({each: i for i, each in enumerate(symbols)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>", unk_token="<unk>",
        additional_special_tokens=special[1:],
    ).save_pretrained(folder)  # fmt: skip
    config = WhisperConfig(
        vocab_size=len(symbols), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=80, pad_token_id=0,
        bos_token_id=0, eos_token_id=0, decoder_start_token_id=1, max_target_positions=48,
        begin_suppress_tokens=None, suppress_tokens=None,
    )  # fmt: skip
    WhisperForConditionalGeneration(config).eval().save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def bert(folder: Path) -> Path:
    """A text model: no audio side."""
    BertModel(
        BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ).save_pretrained(folder)
    words(folder)
    return folder


def glap(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> Path:
    """A GLAP of its package's classes: Dasheng with one small block, a small BERT instead of SONAR, 8 dimensions.

    The package has no smaller Dasheng than its base, whose weights it fetches; `monkeypatch` puts a tiny one there.
    """
    from dasheng.pretrained.pretrained import Dasheng
    from glap_model.models import GLAP
    from glap_model.models.audioencoders import dasheng_audioencoder

    def tiny(**_: object) -> Dasheng:
        return Dasheng(embed_dim=8, depth=1, num_heads=2, outputdim=None)

    monkeypatch.setattr(dasheng_audioencoder, "dasheng_base", tiny)
    torch.manual_seed(seed)
    text = bert(folder / "text")
    arguments = {
        "text_encoder": "BertTextEncoder", "text_encoder_args": {"model_name": str(text)}, "audio_encoder_args": {},
        "embed_size": 8,
    }  # fmt: skip
    model = GLAP(**arguments)  # type: ignore[arg-type]
    path = folder / "glap.pt"
    config = {"train_data": {}, "test_data": {}, "model": "GLAP", "model_args": arguments}
    torch.save({"config": config, "model": model.state_dict()}, path)
    return path


def quiet() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
