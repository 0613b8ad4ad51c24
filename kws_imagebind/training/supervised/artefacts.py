"""What a finished training leaves beside its weights: figures, the model card and the report on testing clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kws_imagebind.datasets.base import ClipIdentity, Dataset
from kws_imagebind.datasets.waveforms import load_utterance
from kws_imagebind.embeddings.embed import embed
from kws_imagebind.embeddings.map import MOST, draw_map
from kws_imagebind.encoders.trained import TrainedNetwork, unit
from kws_imagebind.evaluation.evaluate import Evaluation
from kws_imagebind.evaluation.guards import unseen
from kws_imagebind.evaluation.run import Plan as Measurement
from kws_imagebind.evaluation.run import Run
from kws_imagebind.files import whole
from kws_imagebind.training.supervised.history import HISTORY
from kws_imagebind.training.supervised.train import Plan, Trained

CARD, REPORT = "card.md", "report"
BATCH = 64


def report(trained: Trained, plan: Plan, folder: Path | None = None) -> Evaluation:
    """The testing clips, which neither trained nor chose: results, tables and report.html in `run/report`.

    Where the same recording lies in a folder twice, it may be in two splits; such testing clips are left out.

    Raises:
        MetricError: no testing clip is left.
    """
    assert plan.splits.testing is not None
    learnt = [ClipIdentity(clip.content) for clip in trained.network.support]
    result = Run.prepare(unseen(plan.splits.testing, learnt), Measurement()).measure(
        trained.network, lambda encoder, clips: embed(encoder, clips)
    )
    result.save(folder or plan.output / REPORT)
    return result


def draw(trained: Trained, plan: Plan) -> list[str]:
    """Writes card.md and, with matplotlib, history.png, validation.png and heads.png; returns the names.

    Raises:
        MapError: the map cannot be drawn, for example because scikit-learn is not installed; the rest is written.
    """
    with whole(plan.output / CARD) as part:
        part.write_text(card(trained, plan), encoding="utf-8")
    names = [HISTORY, CARD]
    try:
        from kws_imagebind.reporting.figures.accuracy import confusion_matrix_figure
        from kws_imagebind.reporting.figures.style import save_figure
        from kws_imagebind.reporting.figures.training import heads_figure, history_figure
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        return names
    history, network = trained.history, trained.network
    figure = history_figure(
        ([each.loss for each in history], [each.accuracy for each in history]),
        ([each.validation_loss for each in history], [each.validation_accuracy for each in history]),
        trained.best.epoch,
        f"{network.name}, {len(plan.splits.training):,} training and {trained.validation:,} validation clips",
    )
    save_figure(figure, plan.output / "history.png")
    clips = plan.splits.validation
    heads, logits = _outputs(network, clips)
    matrix = np.zeros((len(network.labels),) * 2, dtype=np.int64)
    np.add.at(matrix, (clips.targets.numpy(), logits.argmax(1).numpy()), 1)
    title = f"{network.name} on the validation clips that chose its epoch: no result"
    save_figure(confusion_matrix_figure(matrix, network.labels, title), plan.output / "validation.png")
    names += ["history.png", "validation.png"]
    shown = clips.subset(MOST)
    rows = [index for index, each in enumerate(clips.utterances) if each in set(shown.utterances)]
    keys, spoken = [each.key for each in shown.utterances], [each.label for each in shown.utterances]
    panels = [(_head_name(i, len(heads)), draw_map(unit(head[rows].flatten(1)).numpy(), keys).places)
              for i, head in enumerate(heads)]  # fmt: skip
    save_figure(heads_figure(panels, spoken, f"{network.name}, validation clips"), plan.output / "heads.png")
    return [*names, "heads.png"]


def _head_name(index: int, heads: int) -> str:
    """
    >>> _head_name(0, 1), _head_name(1, 2)
    ('the vector before the classifier', 'head 2, before the classifier')
    """
    if heads == 1:
        return "the vector before the classifier"
    return f"head {index + 1}" + (", before the classifier" if index == heads - 1 else "")


def _outputs(network: TrainedNetwork, dataset: Dataset) -> tuple[tuple[Tensor, ...], Tensor]:
    """The vectors of each head, and the logits."""
    heads: list[tuple[Tensor, ...]] = []
    logits: list[Tensor] = []
    for start in range(0, len(dataset), BATCH):
        clips = [load_utterance(each, network.sample_rate) for each in dataset.utterances[start : start + BATCH]]
        heads.append(network.heads(clips))
        logits.append(network.logits(clips))
    return tuple(torch.cat(each) for each in zip(*heads, strict=True)), torch.cat(logits)


def card(trained: Trained, plan: Plan) -> str:
    """The model card, in Markdown."""
    network, splits, found = trained.network, plan.splits, trained.best
    recipe = plan.chosen
    source = splits.training.note or splits.training.name
    share = 100 * found.validation_accuracy
    lines = [
        f"# {network.name}: {len(network.labels)} words",
        "",
        "A keyword spotter that learnt its words from labelled recordings. It is supervised: do not set its numbers "
        "beside zero-shot ones without saying so.",
        "",
        f"- Words: {', '.join(network.labels)}",
        f"- Learnt from: {len(splits.training):,} clips ({_speakers(splits.training)}), {source}",
        f"- Epoch {found.epoch} of {len(trained.history)} was chosen on {trained.validation:,} other clips "
        f"({_speakers(splits.validation)}); {share:.1f} % of them were right (mean of the words "
        f"{100 * trained.macro_accuracy:.1f} %), which is no result, because they chose",
        *([f"- Never named on them: {', '.join(trained.never_named)}"] if trained.never_named else []),
        f"- Clips divided: {splits.note}",
        f"- Trained on: {', '.join(network.card.trained_on or ('not recorded',))}",
        f"- Recipe: {recipe.optimiser}, rate {recipe.rate:g} ({recipe.schedule}, {recipe.warmup:g} epochs of warm-up), "
        f"weight decay {recipe.decay:g}, batch {recipe.batch}, at most {recipe.epochs} epochs, seed {plan.seed}",
        f"- Hears: {_heard(network)}",
        f"- Fingerprint: {network.fingerprint}",
        "",
        "```",
        str(trained.complexity),
        "```",
        "",
        "It knows no other words: whatever is said, it names one of its own, unless silence and unknown are among "
        "them. The licence of the recordings applies to what was learnt from them; Speech Commands is CC BY 4.0.",
        "",
    ]
    return "\n".join(lines)


def _speakers(dataset: Dataset) -> str:
    known: Sequence[str] = sorted({each.speaker for each in dataset.utterances if each.speaker})
    whole_set = all(each.speaker for each in dataset.utterances)
    return f"{len(known):,} speakers" if known and whole_set else "speakers unknown"


def _heard(network: TrainedNetwork) -> str:
    seen = network.run.front_end
    if seen is None:
        return f"the vectors of {network.run.encoder[0] if network.run.encoder else 'an encoder'}"
    what = f"{seen.mels} mel bands" if seen.kind == "log-mel" else f"{seen.shape[0]} bins"
    window, hop = (1000 * samples / seen.sample_rate for samples in (seen.window, seen.hop))
    rate = f"{seen.sample_rate / 1000:g} kHz"
    return f"{seen.seconds:g} s at {rate}, {what}, windows of {window:g} ms every {hop:g} ms"
