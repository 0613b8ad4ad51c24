"""Which prompt is best? Chosen on the validation split, reported on the testing split, each against the bare word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kws_imagebind.embeddings.embed import Embeddings
from kws_imagebind.encoders import Encoder
from kws_imagebind.evaluation.guards import check_disjoint
from kws_imagebind.metrics.classification import MetricError, measure, ranking
from kws_imagebind.metrics.intervals import Interval
from kws_imagebind.metrics.paired import PairedComparison, compare_paired, holm, p_text
from kws_imagebind.readouts.base import AVERAGES, Average
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.text.prompts import BARE, TEMPLATE_SETS, render

BARE_SET = "bare"


@dataclass(frozen=True)
class Trial:
    """One set of templates, averaged in one space.

    Attributes:
        name: of the set.
        average: "embedding" or "score".
        templates: of the set.
        validation: accuracy that the choice is made by.
        testing: accuracy that is reported.
        against_bare: on the testing clips, this less the bare word; None for the bare word itself.
        corrected: its p after Holm's correction for all trials.
    """

    name: str
    average: Average
    templates: tuple[str, ...]
    validation: Interval
    testing: Interval
    against_bare: PairedComparison | None
    corrected: float


@dataclass(frozen=True)
class PromptStudy:
    """Every trial, the best on validation clips first. `str()` gives the table."""

    trials: tuple[Trial, ...]
    encoder: str

    @property
    def chosen(self) -> Trial:
        """The best on validation clips; of equals, the one with the fewest templates."""
        return self.trials[0]

    def as_dict(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder,
            "chosen": {"templates": list(self.chosen.templates), "average": self.chosen.average},
            "trials": [
                {
                    "name": trial.name,
                    "average": trial.average,
                    "templates": list(trial.templates),
                    "validation": trial.validation.as_dict(),
                    "testing": trial.testing.as_dict(),
                    "less_bare": _against(trial),
                }
                for trial in self.trials
            ],
        }

    def __str__(self) -> str:
        width = max(len(trial.name) for trial in self.trials)
        lines = [f"{'set':<{width}}  average    {'validation':<30}  {'testing':<30}  testing, less the bare word"]
        for trial in self.trials:
            found = trial.against_bare
            less = "" if found is None else found.difference_text
            if found is not None and not found.identical:
                less += f", {p_text(trial.corrected)} by Holm"
            validation, testing = str(trial.validation), str(trial.testing)
            lines.append(f"{trial.name:<{width}}  {trial.average:<9}  {validation:<30}  {testing:<30}  {less}".rstrip())
        best = ", ".join(f"'{template}'" for template in self.chosen.templates)
        lines += [
            "",
            f"chosen on validation clips for {self.encoder}: {self.chosen.name}, by {self.chosen.average}: {best}",
        ]
        return "\n".join(lines)


def by_template(encoder: Encoder, audio: Embeddings, templates: Sequence[str] | None = None) -> dict[str, Interval]:
    """The accuracy with each template alone, taken at its word by every encoder; it looks, and chooses nothing.

    An encoder that hears sounds compares a recording with the sound of the whole sentence, which nobody said. That is
    why it otherwise leaves the sentence out.

    Args:
        encoder: that the clips were encoded with.
        audio: clips of its data set's keywords.
        templates: sentences with '{}'; by default all of `prompts.TEMPLATE_SETS`.
    """
    if templates is None:
        templates = [template for some in TEMPLATE_SETS.values() for template in some]
    labels, found = audio.dataset.labels, {}
    for template in dict.fromkeys(templates):
        said = [f"{word}={render(template, word)}" for word in labels]
        values = ZeroShotClassifier(encoder, said, (BARE,))(audio).values
        found[template] = measure(values, audio.targets, speakers=_speakers(audio)).accuracy
    return found


def check_encoder(encoder: Encoder) -> None:
    """Refuses, before any audio is read, an encoder for which there are no prompts to choose between.

    Raises:
        MetricError: it hears sounds and reads no sentences.
    """
    if encoder.default_template == BARE:
        raise MetricError(
            f"{encoder.name} hears sounds, not sentences: it always uses the bare word, so there is no prompt to choose"
        )


def study(
    encoder: Encoder,
    keywords: Sequence[str],
    validation: Embeddings,
    testing: Embeddings,
    sets: Mapping[str, Sequence[str]] | None = None,
) -> PromptStudy:
    """Tries every set of templates, averaged as embeddings and as scores.

    Args:
        encoder: what reads the prompts.
        keywords: of both data sets.
        validation: clips that the choice is made by.
        testing: clips that are reported.
        sets: templates by name, besides the bare word; by default `prompts.TEMPLATE_SETS`.

    Raises:
        MetricError: a clip is in both, the two are of other keywords, or the encoder hears sounds and reads no
            sentences.
    """
    check_encoder(encoder)
    check_disjoint(validation.identities, testing.identities, "the prompt")
    if validation.dataset.labels != testing.dataset.labels:
        raise MetricError("the validation and the testing clips are of other keywords; expected the same")
    tried = {BARE_SET: (BARE,), **(TEMPLATE_SETS if sets is None else sets)}
    runs = [
        (name, tuple(templates), average)
        for name, templates in tried.items()
        for average in (AVERAGES if len(templates) > 1 else AVERAGES[:1])  # one template has nothing to average
    ]
    speakers = _speakers(testing)
    measured, hits = [], []
    for _, templates, average in runs:
        scorer = ZeroShotClassifier(encoder, keywords, templates, average)
        chosen, reported = scorer(validation).values, scorer(testing).values
        measured.append(
            (
                measure(chosen, validation.targets, speakers=_speakers(validation)).accuracy,
                measure(reported, testing.targets, speakers=speakers).accuracy,
            )
        )
        hits.append((ranking(reported)[:, 0] == testing.targets).numpy())
    compared = [compare_paired(own, hits[0], speakers) for own in hits[1:]]
    corrected = [1.0, *holm([each.p for each in compared])]
    trials = [
        Trial(name, average, templates, *intervals, paired, p)
        for (name, templates, average), intervals, paired, p in zip(
            runs, measured, [None, *compared], corrected, strict=True
        )
    ]
    trials.sort(key=lambda trial: (-trial.validation.estimate, len(trial.templates)))
    return PromptStudy(tuple(trials), encoder.name)


def _speakers(audio: Embeddings) -> list[str] | None:
    names = [utterance.speaker for utterance in audio.utterances]
    known = [name for name in names if name is not None]
    return known if len(known) == len(names) and len(set(known)) > 1 else None


def _against(trial: Trial) -> dict[str, Any] | None:
    found = trial.against_bare
    if found is None:
        return None
    return {
        **found.difference_as_dict(),
        "p": found.p,
        "p_holm": trial.corrected,
        "mcnemar_p": found.mcnemar,
    }
