"""Whisper as a `Scorer`: how likely its decoder finds each word after the clip.

Ma et al. 2023 (arXiv:2311.09363) classify audio with a recogniser by the probability of a text given the sound, and
divide by the probability of the same text given a null input, which takes away what the decoder believes before it has
heard anything (their "null-input" prior correction). Here the text is the transcript of the word itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kws_imagebind.encoders.base import check_waveforms
from kws_imagebind.encoders.hub import (
    Checkpoint,
    check_architecture,
    choose,
    loading,
    needs,
    precision_name,
    running,
    sampling_rate,
)
from kws_imagebind.encoders.scorer import WithoutVectors
from kws_imagebind.text.keywords import label, spoken
from kws_imagebind.text.phonemes import is_arpabet

EXAMPLE = "openai/whisper-tiny"
PREPROCESSING = "whisper-1"  # to be changed with anything that changes scores
TEMPLATE = " {}."  # as Whisper itself writes a sentence of one word
START = "<|startoftranscript|>"
TASK = ("<|en|>", "<|transcribe|>")  # only multilingual checkpoints have them
NO_TIMES = "<|notimestamps|>"


class WhisperScorer(WithoutVectors):
    """A Whisper checkpoint as a `Scorer`: log P(word | clip) - log P(word | silence), in nats.

    Args:
        prior: whether the second term is taken away.
        template: the transcript of a word, which begins with a capital.
    """

    padding = "silence up to 30 s; the first 30 s of longer ones"

    def __init__(
        self, checkpoint: Checkpoint, model: Any, extractor: Any, tokenizer: Any, device: torch.device,
        prior: bool = True, template: str = TEMPLATE,
    ) -> None:  # fmt: skip
        self._model, self._extractor, self._tokenizer = model.to(device).eval(), extractor, tokenizer
        self._device, self._dtype, self._template = device, next(model.parameters()).dtype, template
        self.name = f"whisper:{checkpoint.name}"
        self.sample_rate = sampling_rate(checkpoint, extractor)
        self.precision = precision_name(self._dtype)
        self._corrects = prior
        suffix = f"{'' if prior else '-no-prior'}{'' if template == TEMPLATE else f'-{template}'}"
        self.fingerprint = f"{PREPROCESSING}-{checkpoint.fingerprint}-{self.precision}{suffix}"
        self.card = checkpoint.card(self.name, model, self.sample_rate, "Radford et al. 2022, arXiv:2212.04356")
        self._start = self._prompt()
        self._priors: tuple[tuple[str, ...], Tensor] | None = None

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        prior: bool = True,
        template: str = TEMPLATE,
    ) -> WhisperScorer:
        """The scorer of a checkpoint.

        Args:
            checkpoint: a name on the Hugging Face hub ("openai/whisper-tiny"), or a folder.
            device: "auto" takes an accelerator where there is one.
            precision: "fp32", which is "auto", "bf16", or "fp16" (not on a CPU).
            prior: take away the likelihood of the word given silence.
            template: the transcript of a word.

        Raises:
            EncoderError: transformers is not installed, or the checkpoint is missing or not Whisper.
        """
        try:
            from transformers import AutoFeatureExtractor, AutoTokenizer, WhisperForConditionalGeneration
        except ModuleNotFoundError as error:
            raise needs("transformers", "whisper", "transformers") from error
        chosen = choose("whisper", checkpoint, EXAMPLE, device, precision)
        found = chosen.checkpoint
        check_architecture(found, f"'whisper', such as {EXAMPLE}", "which has no decoder of Whisper's", "whisper")
        with loading(found):
            extractor, tokenizer = chosen.load(AutoFeatureExtractor), chosen.load(AutoTokenizer)
            model = chosen.model(WhisperForConditionalGeneration)
            return cls(found, model, extractor, tokenizer, chosen.device, prior, template)

    @torch.inference_mode()
    def score(self, waveforms: Sequence[Tensor], keywords: Sequence[str]) -> Tensor:
        """Log likelihoods in nats, less those given silence.

        Raises:
            EncoderError: a waveform is not one, or memory ran out.
        """
        check_waveforms(waveforms)
        if not len(waveforms):
            return torch.zeros(0, len(keywords))
        texts = self._transcripts(keywords)
        with running(self.name):
            scores = self._likelihoods(waveforms, texts)
            return scores - self._prior(tuple(keywords), texts) if self._corrects else scores

    def _prior(self, keywords: tuple[str, ...], texts: Sequence[list[int]]) -> Tensor:
        """(keywords,) log likelihoods given silence, kept for the next batch."""
        if self._priors is None or self._priors[0] != keywords:
            silence = torch.zeros(self.sample_rate)
            self._priors = keywords, self._likelihoods([silence], texts)[0]
        return self._priors[1]

    def _prompt(self) -> list[int]:
        """What stands before a transcript: English, transcribed, without times."""
        known = self._tokenizer.get_vocab()
        return [known[token] for token in (START, *TASK, NO_TIMES) if token in known]

    def _transcripts(self, keywords: Sequence[str]) -> list[list[int]]:
        """The tokens of each word's transcript, the end of the text included."""
        end = self._tokenizer.eos_token_id
        found = []
        for keyword in keywords:
            text = label(keyword) if is_arpabet(spoken(keyword)) else spoken(keyword)
            written = self._template.format(text[:1].upper() + text[1:])
            found.append([*self._tokenizer(written, add_special_tokens=False)["input_ids"], end])
        return found

    def _likelihoods(self, waveforms: Sequence[Tensor], texts: Sequence[list[int]]) -> Tensor:
        """(clips, texts) log P(text | clip) in nats, on the CPU."""
        heard = self._extractor(
            [waveform.numpy() for waveform in waveforms], sampling_rate=self.sample_rate, return_tensors="pt"
        )
        features = heard["input_features"].to(self._device, self._dtype)
        states = self._model.get_encoder()(features).last_hidden_state  # (clips, frames, dim)
        prompt, longest = len(self._start), max(map(len, texts))
        targets = torch.full((len(texts), longest), -1, dtype=torch.long, device=self._device)
        for row, text in enumerate(texts):
            targets[row, : len(text)] = torch.tensor(text)
        start = torch.tensor(self._start, device=self._device).expand(len(texts), -1)
        inputs = torch.cat([start, targets[:, :-1].clamp(min=0)], 1)  # what follows a text's end is never looked at
        rows = []
        for state in states:
            given = state.expand(len(texts), -1, -1)
            logits = self._model(encoder_outputs=(given,), decoder_input_ids=inputs, use_cache=False).logits
            likely = logits[:, prompt - 1 :].float().log_softmax(-1)
            each = likely.gather(2, targets.clamp(min=0).unsqueeze(2)).squeeze(2)
            rows.append((each * (targets >= 0)).sum(1))
        return torch.stack(rows).cpu()
