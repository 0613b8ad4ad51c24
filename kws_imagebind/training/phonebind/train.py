"""Trains PhoneBind on a corpus of spoken words.

    python -m kws_imagebind.training.phonebind --corpus training/corpus --run training/run

Every step's batch and augmentation follow from the seed and the step's number, so a run that was stopped goes on from
its last checkpoint as if nothing had happened. The loss is contrastive in both directions, over the batch's
pronunciations, near neighbours of each and random others, plus CTC on the phonemes.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from kws_imagebind.audio.files import load_audio
from kws_imagebind.audio.mel import MelConfig
from kws_imagebind.audio.signal import fit
from kws_imagebind.datasets import load_dataset
from kws_imagebind.datasets.base import Dataset as Recordings
from kws_imagebind.encoders.phonebind import PhoneBindEncoder
from kws_imagebind.files import whole
from kws_imagebind.models.phonebind import (
    BLANK,
    SAMPLES,
    PhoneBind,
    PhoneBindConfig,
    grown,
    load,
    phoneme_indices,
    save,
)
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.text.phonemes import Pronunciation
from kws_imagebind.training.corpora.shards import SAMPLE_RATE, Corpus, Segment
from kws_imagebind.training.corpora.synthesis import ACCENTED, SYNTHESISERS
from kws_imagebind.training.phonebind.augmentation import augment, place
from kws_imagebind.training.phonebind.distillation import SHARPNESS, Lessons, distilled, prepare
from kws_imagebind.training.phonebind.negatives import confusable, made_up, near_neighbours

SHORT = 5  # phonemes


@dataclass(frozen=True)
class Recipe:
    """Everything that the outcome of a run depends on, beside the corpus."""

    steps: int = 3_300
    batch: int = 192
    rate: float = 2.5e-3
    warmup: int = 200  # steps
    plateau: float = 0.25  # share of the steps before the cosine decay sets in
    floor: float = 0.01  # of the rate, at the end
    decay: float = 0.03  # weight decay of matrices
    average: float = 0.998  # of the exponential moving average that becomes the model
    human: float = 0.6  # share of the draws that are recordings of people, where there are any
    accented: float = 0.5  # share of the synthesisers' draws that are in accents of `accents`, where there are any
    short: float = 3.0  # how much oftener single words of at most five phonemes are drawn: keywords are short
    phrases: float = 0.3  # the same, of several words
    random_negatives: int = 256
    neighbours: int = 24  # nearest pronunciations of each
    near_negatives: int = 3  # of those, in each step
    made_up: int = 0  # pronunciations a phoneme or two away from each of the batch's own, in each step
    mining: int = 1_000  # steps between two looks at which pronunciations the model itself takes for neighbours
    light: float = 0.3  # share of the steps in which augmentation grows from light to heavy
    forward: float = 1.0  # weight of the audio-to-text loss
    backward: float = 0.5  # weight of the text-to-audio loss
    spelling: float = 0.3  # weight of CTC
    taught: float = 1.0  # weight of the cross-entropy with the teachers' softmax, where there are teachers
    alike: float = 30.0  # weight of the squared error of the teachers' cosines
    max_scale: float = 40.0
    seed: int = 0


class Sampler:
    """Draws batches: what there is little of oftener than its size, so that few voices do not drown in many.

    A synthesiser's voices are drawn by their number to the power 0.65, people and what they say by the root of theirs.
    """

    def __init__(self, corpus: Corpus, recipe: Recipe) -> None:
        self.corpus, self.recipe = corpus, recipe
        sources = np.array([_group(segment) for segment in corpus.segments])
        weights = _weights(corpus.segments, sources, recipe)
        self._cumulative = np.cumsum(weights)
        self.shares = {str(name): float(weights[sources == name].sum()) for name in np.unique(sources)}
        self.pronunciations: list[Pronunciation] = sorted({segment.pronunciation for segment in corpus.segments})
        index_of = {said: index for index, said in enumerate(self.pronunciations)}
        self.classes = np.array([index_of[segment.pronunciation] for segment in corpus.segments])

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Waveforms (batch, samples) and the indices of their segments (batch,)."""
        rng = np.random.default_rng((self.recipe.seed, step))
        drawn = np.searchsorted(self._cumulative, rng.random(self.recipe.batch)).clip(max=len(self.corpus) - 1)
        waveforms = np.stack([place(self.corpus.audio(index), rng) for index in drawn])
        return torch.from_numpy(waveforms), torch.from_numpy(drawn)


@dataclass
class Batches(Dataset[tuple[Tensor, Tensor]]):
    """The augmented batch of every step: features (batch, mels, frames) and the indices of segments (batch,)."""

    sampler: Sampler
    front_end: MelConfig

    def __len__(self) -> int:
        return self.sampler.recipe.steps

    @torch.no_grad()
    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        recipe = self.sampler.recipe
        waveforms, drawn = self.sampler.batch(step)
        torch.manual_seed(hash((recipe.seed, step, 2)))
        strength = min(1.0, 0.3 + 0.7 * step / (recipe.light * recipe.steps))
        return augment(waveforms, self.front_end, strength), drawn

    def loader(self, start: int) -> DataLoader[tuple[Tensor, Tensor]]:
        """The batches from step `start` on, prepared ahead by one more process, which is a third of the work."""
        steps = range(start, len(self))
        return DataLoader(self, batch_size=None, sampler=steps, num_workers=1, prefetch_factor=3)


def _weights(segments: list[Segment], sources: np.ndarray, recipe: Recipe) -> np.ndarray:
    """How often each segment is drawn; `sources` are their groups."""
    synthetic = np.array([segment.source in SYNTHESISERS for segment in segments])
    speakers = np.array([f"{segment.source}:{segment.speaker}" for segment in segments])
    words = np.array(["" if segment.source in SYNTHESISERS else segment.word for segment in segments])
    weights = np.where(synthetic, _rarity(sources, 0.35), _rarity(speakers, 0.5) * _rarity(words, 0.5))
    weights *= [_keyword_likeness(segment, recipe) for segment in segments]
    accented = np.array([segment.speaker.endswith(ACCENTED) for segment in segments])
    in_accents = recipe.accented if accented.any() else 0.0
    shares = (1 - recipe.human) * (1 - in_accents), (1 - recipe.human) * in_accents, recipe.human
    for own, share in zip((synthetic & ~accented, accented, ~synthetic), shares, strict=True):
        weights[own] *= share / max(weights[own].sum(), 1e-9)
    return weights / weights.sum()


def _rarity(labels: np.ndarray, power: float) -> np.ndarray:
    """The number of elements with the same label, to the power `-power`."""
    _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return counts[index].astype(float) ** -power


def _group(segment: Segment) -> str:
    if segment.source in ("flite", "festival"):
        return f"{segment.source}:{segment.speaker}"
    return segment.source + (ACCENTED if segment.speaker.endswith(ACCENTED) else "")


def _keyword_likeness(segment: Segment, recipe: Recipe) -> float:
    if " " in segment.word:
        return recipe.phrases
    return recipe.short if len(segment.pronunciation) <= SHORT else 1.0


def rate_at(step: int, recipe: Recipe) -> float:
    """Warm-up, plateau, cosine."""
    progress = step / recipe.steps
    decayed = 0.5 * (1 + math.cos(math.pi * (progress - recipe.plateau) / (1 - recipe.plateau)))
    shape = 1.0 if progress < recipe.plateau else max(recipe.floor, decayed)
    return recipe.rate * min(1.0, (step + 1) / recipe.warmup) * shape


class Trainer:
    """A model under training, its average, and all that a checkpoint holds."""

    def __init__(self, model: PhoneBind, sampler: Sampler, recipe: Recipe) -> None:
        self.model, self.sampler, self.recipe = model, sampler, recipe
        self.lessons: Lessons | None = None  # of teachers, where the recipe gives them a weight
        self.batches = Batches(sampler, model.config.front_end)
        self.average = copy.deepcopy(model).eval()
        matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": recipe.decay}, {"params": others, "weight_decay": 0.0}],
            lr=recipe.rate,
            betas=(0.9, 0.98),
        )
        self.texts = sampler.pronunciations + made_up(sampler.pronunciations, recipe.made_up, recipe.seed)
        self.indices = phoneme_indices(self.texts)
        self.lengths = (self.indices != BLANK).sum(1)
        self.step = 0

    @cached_property
    def neighbours(self) -> np.ndarray:
        """(pronunciations, neighbours): by edit distance, unless a checkpoint has brought its own."""
        return near_neighbours(self.sampler.pronunciations, self.recipe.neighbours, self.recipe.seed)

    def candidates(self, present: np.ndarray) -> np.ndarray:
        """The batch's own pronunciations, near neighbours of each, made-up and random ones; sorted, without repeats."""
        rng, words = np.random.default_rng((self.recipe.seed, self.step, 1)), len(self.sampler.pronunciations)
        columns = rng.choice(self.recipe.neighbours, self.recipe.near_negatives, replace=False)
        near = self.neighbours[present][:, columns].ravel()
        others = rng.integers(words, size=self.recipe.random_negatives)
        unlike = words + (present[:, None] * self.recipe.made_up + np.arange(self.recipe.made_up)).ravel()
        return np.unique(np.concatenate([present, near, others, unlike]))

    def losses(self, x: Tensor, drawn: Tensor) -> dict[str, Tensor]:
        """Audio-to-text and text-to-audio (InfoNCE, arXiv:1807.03748), CTC, and the teachers'; means over the batch."""
        classes = torch.from_numpy(self.sampler.classes[drawn.numpy()])
        present = classes.unique().numpy()
        chosen = self.candidates(present)
        with torch.autocast("cpu", torch.bfloat16):
            heard, spelling = self.model.audio(x)
            read = self.model.text(self.indices[chosen])
        cosines = heard @ read.T
        scores = self.model.log_scale.exp().clamp(max=self.recipe.max_scale) * cosines
        match = torch.from_numpy(np.searchsorted(chosen, classes.numpy()))
        own = torch.from_numpy(np.searchsorted(chosen, present))
        by_text = scores[:, own].T.log_softmax(1)
        same = F.one_hot(match, len(chosen))[:, own].T.float()
        spelled = spelling.float().log_softmax(-1).transpose(0, 1)
        frames = torch.full((len(classes),), len(spelled))
        losses = {
            "forward": F.cross_entropy(scores, match),
            "backward": -((by_text * same).sum(1) / same.sum(1)).mean(),
            "spelling": F.ctc_loss(spelled, self.indices[classes], frames, self.lengths[classes], zero_infinity=True),
        }
        if self.lessons is not None:
            losses["taught"], losses["alike"] = distilled(cosines, self.lessons.cosines(drawn.numpy(), chosen))
        return losses

    def advance(self, x: Tensor, drawn: Tensor) -> dict[str, float]:
        """One step of the optimiser on features and the indices of their segments; returns the losses."""
        torch.manual_seed(hash((self.recipe.seed, self.step)))
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.step, self.recipe)
        self.model.train()
        losses = self.losses(x, drawn)
        total = sum((getattr(self.recipe, name) * loss for name, loss in losses.items()), torch.zeros(()))
        self.optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        self.optimiser.step()
        self._average()
        self.step += 1
        if self.step % self.recipe.mining == 0:
            self._mine()
        return {name: loss.item() for name, loss in losses.items()}

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(self.recipe.average, (self.step + 1) / (self.step + 20))
        for mean, parameter in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(parameter, 1 - keep)
        for kept, buffer in zip(self.average.buffers(), self.model.buffers(), strict=True):
            kept.copy_(buffer)

    def _mine(self) -> None:
        """Half of the neighbours become those that the model finds hardest to tell apart; the others stay."""
        half = self.recipe.neighbours // 2
        self.neighbours[:, :half] = confusable(self.average, self.indices[: len(self.neighbours)], half)

    def save(self, path: Path) -> None:
        state = {
            "neighbours": torch.from_numpy(self.neighbours),
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        with whole(path) as part:
            torch.save(state, part)

    def restore(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.neighbours = state["neighbours"].numpy()
        self.step = state["step"]


class Check:
    """How well a model hears a data set whose words are all candidates: what a run is chosen by."""

    def __init__(self, dataset: Recordings) -> None:
        clips = [fit(load_audio(utterance.path, SAMPLE_RATE), SAMPLES) for utterance in dataset.utterances]
        self.waveforms, self.targets, self.keywords = torch.stack(clips), dataset.targets, dataset.keywords

    @torch.inference_mode()
    def scores(self, model: PhoneBind) -> Tensor:
        """(clips, keywords): the cosine of each keyword's best pronunciation."""
        encoder = PhoneBindEncoder(model, "in training", torch.device("cpu"))
        heard = torch.cat([encoder.encode_audio(list(part)) for part in self.waveforms.split(256)])
        return ZeroShotClassifier(encoder, self.keywords)(heard).values

    def measure(self, model: PhoneBind) -> tuple[float, float]:
        """Accuracy, and the mean negative log-likelihood in nats: it moves less by chance than the accuracy does."""
        scores = self.scores(model)
        likelihood = F.cross_entropy(SHARPNESS * scores, self.targets)
        return float((scores.argmax(1) == self.targets).float().mean()), float(likelihood)


def checks(folder: Path | None, speech_commands: Path | None) -> dict[str, Check]:
    """Held-out voices and, where the recordings are at hand, the validation and training clips of Speech Commands."""
    found = {}
    if folder is not None:
        found["voices"] = Check(load_dataset("folder", root=folder))
    if speech_commands is not None:
        for split in ("validation", "training"):
            found[split] = Check(load_dataset("speech-commands", root=speech_commands, split=split, task="v2-35"))
    return found


def train(trainer: Trainer, run: Path, every: int, checks: dict[str, Check]) -> None:
    """Runs to the end of the recipe, leaving a checkpoint, weights and a line of `log.jsonl` every so many steps."""
    recipe, checkpoint = trainer.recipe, run / "checkpoint.pt"
    bar = tqdm(total=recipe.steps, initial=trainer.step, unit="step", desc="training")
    recent: list[dict[str, float]] = []
    started, first = time.perf_counter(), trainer.step
    for x, drawn in trainer.batches.loader(trainer.step):
        recent.append(trainer.advance(x, drawn))
        bar.update()
        if trainer.step % every and trainer.step != recipe.steps:
            continue
        line: dict[str, float] = {name: round(float(np.mean([r[name] for r in recent])), 4) for name in recent[0]}
        for name, check in checks.items():
            accuracy, likelihood = check.measure(trainer.average)
            line |= {name: round(accuracy, 4), f"{name}_nll": round(likelihood, 4)}
        speed = (trainer.step - first) * recipe.batch / (time.perf_counter() - started)
        line |= {"step": trainer.step, "clips_per_second": round(speed, 1)}
        with (run / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        bar.set_postfix(line, refresh=False)
        trainer.save(checkpoint)
        save(trainer.average, run / f"phonebind-{trainer.step}.safetensors", {"recipe": repr(recipe)})
        recent = []
    bar.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("training/corpus"))
    parser.add_argument("--run", type=Path, default=Path("training/run"), help="checkpoint, log and weights go here")
    parser.add_argument("--shards", default="*", help="pattern of the shards to train on")
    parser.add_argument("--start", type=Path, help="weights to go on from; they bring their own sizes")
    parser.add_argument("--deepen", type=int, default=0, help="blocks to add to the audio tower of --start")
    parser.add_argument(
        "--bands", action="store_true", help="have the model of --start see each mel band by itself, too"
    )
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=int, default=200, help="steps between checkpoints")
    parser.add_argument("--voices", type=Path, help="folder of held-out voices speaking the 35 words, word/clip.wav")
    parser.add_argument(
        "--speech-commands", type=Path, help="validation and training clips to choose by, never to learn"
    )
    parser.add_argument("--model", type=json.loads, default={}, help='sizes other than the default, {"blocks": 8}')
    parser.add_argument("--teachers", nargs="+", type=Path, help="weights whose mean the model is to hear as")
    parser.add_argument("--lessons", type=Path, help="folder for what the teachers hear (default: that of the run)")
    parser.add_argument("--recipe", type=json.loads, default={}, help='settings other than the default, {"rate": 2e-3}')
    arguments = parser.parse_args()
    if arguments.start and arguments.model:
        parser.error("--start brings its own sizes; leave --model away")
    if arguments.deepen < 0 or (arguments.deepen and not arguments.start):
        parser.error("--deepen adds blocks to the model of --start; give both, and a number of 1 or more")
    if arguments.bands and not arguments.start:
        parser.error("--bands is for the model of --start; afresh, a model sees them anyway")
    if arguments.lessons and not arguments.teachers:
        parser.error("--lessons is where --teachers keep what they hear; give --teachers too")
    torch.set_num_threads(arguments.threads)
    recipe = Recipe(**{"steps": arguments.steps, "seed": arguments.seed, **arguments.recipe})
    torch.manual_seed(recipe.seed)
    arguments.run.mkdir(parents=True, exist_ok=True)
    corpus = Corpus(arguments.corpus.glob(f"{arguments.shards}.tsv"))
    model = PhoneBind(PhoneBindConfig(**arguments.model))
    if arguments.start:
        model = grown(load(arguments.start), arguments.deepen, arguments.bands)
    trainer = Trainer(model, Sampler(corpus, recipe), recipe)
    if arguments.teachers:
        folder = arguments.lessons or arguments.run
        trainer.lessons = prepare(arguments.teachers, corpus, trainer.texts, folder)
    print(
        f"{len(corpus):,} segments, {len(trainer.sampler.pronunciations):,} pronunciations; drawn:",
        trainer.sampler.shares,
        flush=True,
    )
    if (arguments.run / "checkpoint.pt").is_file():
        trainer.restore(arguments.run / "checkpoint.pt")
    train(trainer, arguments.run, arguments.every, checks(arguments.voices, arguments.speech_commands))
    save(trainer.average, arguments.run / "phonebind.safetensors", {"recipe": repr(recipe)})


if __name__ == "__main__":
    main()
