"""The main job from a data set to an evaluation, with what was asked for beside the accuracy.

Every option is checked, and every clip that chooses or is to be turned away is found, before any audio is read
(`Run.prepare`); only then is anything encoded (`Run.measure`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from kws_imagebind.datasets.base import Dataset
from kws_imagebind.datasets.registry import VALIDATION, check_sibling, outsiders, sibling
from kws_imagebind.embeddings.embed import Embeddings
from kws_imagebind.embeddings.map import EmbeddingMap, MapError, check_map, draw_map
from kws_imagebind.encoders.base import Encoder, Scorer
from kws_imagebind.encoders.scorer import refuse_vectors
from kws_imagebind.evaluation.evaluate import Evaluation, evaluate, fit_temperature_on
from kws_imagebind.evaluation.guards import check_other_clips
from kws_imagebind.evaluation.open_set import Outcome, open_set
from kws_imagebind.metrics.classification import MetricError
from kws_imagebind.readouts.base import Average, Readout, Scores
from kws_imagebind.readouts.fillers import filler_scores, filler_vectors
from kws_imagebind.readouts.likelihood import readout_of
from kws_imagebind.readouts.rejection import Rejection, fit_rejection
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.text.keywords import KeywordError
from kws_imagebind.text.tasks import SILENCE, UNKNOWN

Embed = Callable[[Encoder, Dataset], Embeddings]


@dataclass(frozen=True)
class Plan:
    """What is measured beside the accuracy.

    Attributes:
        templates: sentences with '{}'; None leaves the encoder its own.
        average: of several templates, "embedding" or "score".
        calibrate: fit a temperature on the validation split.
        reject: thresholds chosen on the validation split stand in for prompts of `silence` and `unknown`.
        open_set: also turn away the data set's other words and background noise.
        map: lay out the clips by t-SNE.
        seed: of the subset, if the clips are one.
    """

    templates: tuple[str, ...] | None = None
    average: Average = "embedding"
    calibrate: bool = False
    reject: bool = False
    open_set: bool = False
    map: bool = False
    seed: int | None = None


@dataclass(frozen=True)
class Run:
    """A plan whose every option can be met.

    Attributes:
        dataset: what is reported.
        plan: what was asked for.
        choosing: the validation clips, where something is chosen.
        outside: clips of none of the keywords, where there is an open-set test.
    """

    dataset: Dataset
    plan: Plan
    choosing: Dataset | None = None
    outside: Dataset | None = None

    @classmethod
    def prepare(cls, dataset: Dataset, plan: Plan, output: Path | None = None) -> Run:
        """Checks every option before any audio is read.

        Args:
            dataset: what is to be reported.
            plan: what is asked for.
            output: the folder of the report, if one is to be written.

        Raises:
            MetricError, DatasetError, KeywordError, MapError: an option cannot succeed, with the reason and the remedy.
        """
        if plan.reject and plan.calibrate:
            raise MetricError(
                "--reject decides by thresholds, so there is no temperature for --calibrate; take one of them"
            )
        if plan.reject and plan.open_set:
            raise MetricError("--reject has labels for other words, and --open-set has not; take one of them")
        if plan.reject and not {SILENCE, UNKNOWN} <= set(dataset.labels):
            raise KeywordError(
                f"task '{dataset.task}' has no labels {SILENCE} and {UNKNOWN} to reject into; take --task v2-12"
            )
        if plan.map:
            _check_map(dataset, output)
        return cls(dataset, plan, _choosing(dataset, plan), _outside(dataset) if plan.open_set else None)

    def measure(self, encoder: Encoder | Scorer, embed: Embed) -> Evaluation:
        """Encodes and evaluates.

        Args:
            encoder: what is measured; a scorer takes no templates, no rejection by fillers and no map.
            embed: encodes a data set, with whatever cache and progress bar the caller wants.

        Raises:
            EncoderError: the plan needs vectors or prompts, and `encoder` is a scorer.
        """
        plan, dataset = self.plan, self.dataset
        if isinstance(encoder, Scorer) and (plan.reject or (plan.map and not isinstance(encoder, Encoder))):
            refuse_vectors(encoder.name)
        rejected = {SILENCE, UNKNOWN} if plan.reject else set()
        words = [word for word in dataset.keywords if word not in rejected]
        listener, scorer = readout_of(encoder, words, plan.templates, plan.average)
        choosing = embed(listener, self.choosing) if self.choosing else None
        audio = embed(listener, dataset)
        scores, rejection, temperature = scorer(audio), None, None
        if plan.reject and choosing and isinstance(scorer, ZeroShotClassifier):
            scores, rejection = _rejected(listener, scorer, choosing, audio)
        if plan.calibrate and choosing:
            temperature = fit_temperature_on(scorer(choosing), choosing)
        result = evaluate(scores, audio, plan.seed, temperature)
        outcomes = _outcomes(scorer, audio, embed(listener, self.outside)) if self.outside else ()
        # A trained network is heard by its scores, and its map shows its vectors.
        mapped = (
            embed(encoder, dataset) if plan.map and isinstance(encoder, Encoder) and listener is not encoder else audio
        )
        return replace(result, open_set=outcomes, rejection=rejection, map=_map(mapped) if plan.map else None)


def _choosing(dataset: Dataset, plan: Plan) -> Dataset | None:
    what = "the thresholds of --reject" if plan.reject else "the temperature of --calibrate"
    if not (plan.reject or plan.calibrate):
        return None
    return validation_of(dataset, what)


def validation_of(dataset: Dataset, what: str) -> Dataset:
    """The validation clips of a data set's source, none of which may be reported.

    Args:
        dataset: what is reported.
        what: is chosen with them, for messages.

    Raises:
        DatasetError: the source has no validation split.
        MetricError: the reported clips are among them.
    """
    check_sibling(dataset, VALIDATION, what, "; leave that out, or measure a data set with splits: speech-commands")
    found = sibling(dataset, VALIDATION)
    check_other_clips(found, dataset, what)
    return found


def _outside(dataset: Dataset) -> Dataset:
    if {SILENCE, UNKNOWN} & set(dataset.labels):
        raise MetricError(
            f"task '{dataset.task}' has prompts for {SILENCE} and {UNKNOWN}; "
            "take --reject, or another task for --open-set"
        )
    return outsiders(dataset)


def _check_map(dataset: Dataset, output: Path | None) -> None:
    if output is None:
        raise MapError("--map writes map.csv and draws it in the report; name their folder with --output")
    check_map(len(dataset))


def _map(audio: Embeddings) -> EmbeddingMap:
    return draw_map(audio.features.numpy(), [utterance.key for utterance in audio.utterances])


def _rejected(
    encoder: Encoder, scorer: ZeroShotClassifier, choosing: Embeddings, audio: Embeddings
) -> tuple[Scores, Rejection]:
    """Scores with thresholds for silence and unknown words, chosen on other clips."""
    fillers = filler_vectors(encoder, scorer)
    spoken = [utterance.label for utterance in choosing.utterances]
    chosen = fit_rejection(scorer(choosing), filler_scores(choosing.features, fillers), spoken, choosing.identities)
    return chosen(scorer(audio), filler_scores(audio.features, fillers), audio.dataset.labels), chosen


def _outcomes(scorer: Readout, audio: Embeddings, outside: Embeddings) -> tuple[Outcome, ...]:
    """How well clips that say none of the keywords can be turned away."""
    inside, others = ([utterance.speaker for utterance in each.utterances] for each in (audio, outside))
    kinds = [utterance.label for utterance in outside.utterances]
    return open_set(scorer(audio), scorer(outside), kinds, (inside, others))
