"""From recordings or videos to the folder of a finished run, and to what it is worth on pairs that it never met."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.datasets.audio_visual import AudioVisualFolder, Ontology, Segment, labels_of
from kws_imagebind.datasets.base import ClipIdentity, Dataset
from kws_imagebind.datasets.reading_aloud import WordPainter, bundled_fonts
from kws_imagebind.encoders.avenet import CorrespondenceRun, is_correspondence_run, load_network
from kws_imagebind.encoders.base import resolve_device
from kws_imagebind.encoders.cards import Card
from kws_imagebind.evaluation.guards import CORPUS_NAME, check_disjoint
from kws_imagebind.evaluation.retrieval import DirectionResult, measure_directions
from kws_imagebind.files import make_folder, whole
from kws_imagebind.metrics.intervals import Interval
from kws_imagebind.models.avenet import AVENet, AVOLNet, L3Net, build
from kws_imagebind.training.correspondence.artefacts import draw, draw_report, write_page
from kws_imagebind.training.correspondence.evaluate import (
    Encoded,
    correspondence,
    directions,
    encode,
    log_odds,
    mean_by_group,
    same_label,
)
from kws_imagebind.training.correspondence.localisation import GRID, LocalisationResult, Page, localise, score
from kws_imagebind.training.correspondence.pairs import Pairs, SpokenWords, VideoMoments, standardised
from kws_imagebind.training.correspondence.recipes import CorrespondenceRecipe
from kws_imagebind.training.supervised.clips import Splits, decoded
from kws_imagebind.training.supervised.recipes import TrainingError

PLAN, RESULTS = "plan.json", "correspondence_results.json"
FEWEST_VIDEOS = 6
REPORT_SEED = 1712  # of the pictures that are reported


@dataclass(frozen=True)
class Part:
    """Pairs and what is known of them for evaluation.

    Attributes:
        pairs: to be encoded.
        relevance: (n, n) of each pair to each other, from 0 to 1.
        labels: of each, for figures and pages.
        groups: the speaker or the video of each.
        identities: for the guard.
    """

    pairs: Pairs
    relevance: NDArray[np.float64]
    labels: tuple[str, ...]
    groups: tuple[str | None, ...]
    identities: tuple[ClipIdentity, ...]


@dataclass(frozen=True)
class Material:
    """What learns, what chooses the epoch and what is reported.

    Attributes:
        training: pairs, without any labels.
        validation, testing: with what is known of them; None where there is nothing to report.
        learnt: identities of the training pairs, for the guard.
        trained_on: names of the data sets, for the card.
        note: how they were divided.
    """

    training: Pairs
    validation: Part
    testing: Part | None
    learnt: tuple[ClipIdentity, ...]
    trained_on: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class CorrespondencePlan:
    """What is to be trained.

    Attributes:
        material: the pairs.
        output: folder of the run.
        recipe: of the training.
        begin: folder of a finished AVE-Net whose towers an AVOL-Net begins with; None begins at random.
        seed: of everything that is random.
        device: to train on.
    """

    material: Material
    output: Path
    recipe: CorrespondenceRecipe
    begin: Path | None = None
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class CorrespondenceResult:
    """What a network is worth on pairs that it never met.

    Attributes:
        pairs: how many pictures and sounds there are.
        accuracy: own pairs against all others, half each, nobody knowing which others say the same; chance is 50 %.
        apart: the same against pairs that are known not to belong together.
        directions: retrieval within and across.
        localisation: of an AVOL-Net that reads aloud.
    """

    pairs: int
    accuracy: Interval
    apart: Interval
    directions: tuple[DirectionResult, ...]
    localisation: LocalisationResult | None = None

    def as_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "n": self.pairs,
            "correspondence": {**self.accuracy.as_dict(), "chance": 0.5},
            "correspondence_without_accidental_matches": {**self.apart.as_dict(), "chance": 0.5},
            "directions": [each.as_dict() for each in self.directions],
        }
        if self.localisation:
            found["localisation"] = {**self.localisation.hits.as_dict(), "chance": self.localisation.chance}
        return found

    def __str__(self) -> str:
        lines = [
            f"pairs told right: {self.accuracy}; chance 50 %",
            f"  against pairs of other labels only: {self.apart}; chance 50 %",
            *map(str, self.directions),
        ]
        return "\n".join([*lines, str(self.localisation)] if self.localisation else lines)


def reading_aloud(splits: Splits, recipe: CorrespondenceRecipe, cache: Path, progress: bool = False) -> Material:
    """Recordings, and pictures of their words in fonts that are kept apart by part."""

    def pairs(dataset: Dataset, use: str) -> SpokenWords:
        return SpokenWords(
            decoded(dataset, recipe.sound, cache, progress),
            tuple(each.label for each in dataset.utterances),
            WordPainter(bundled_fonts(use), recipe.config.image),
            recipe.grid,
            recipe.others,
        )

    def part(dataset: Dataset, use: str) -> Part:
        made = pairs(dataset, use)
        speakers = tuple(each.speaker for each in dataset.utterances)
        return Part(made, same_label(made.written), made.written, speakers, made.clips.identities)

    training = pairs(splits.training, "training")
    named = any(CORPUS_NAME.search(each.key) for each in splits.training.utterances)
    source = splits.training.name
    return Material(
        training,
        part(splits.validation, "validation"),
        part(splits.testing, "testing") if splits.testing else None,
        training.clips.identities,
        ("Speech Commands" if named and source != "sample" else source, "words drawn in matplotlib's fonts"),
        splits.note,
    )


def videos(
    folder: AudioVisualFolder,
    cache: Path,
    segments: Sequence[Segment] = (),
    ontology: Ontology | None = None,
    seed: int = 0,
    share: float = 0.2,
) -> Material:
    """A folder of videos, dealt out whole into those that learn, choose and are reported.

    What is relevant to a video is told by AudioSet's labels where they are given, or else by the folder it lies in.

    Raises:
        DatasetError: no video can be used.
        TrainingError: there are fewer than six videos.
    """
    shards = folder.decoded(cache)
    if len(shards) < FEWEST_VIDEOS:
        raise TrainingError(f"{shards.note}; expected {FEWEST_VIDEOS} or more, to learn from, to choose and to report")
    labels = labels_of(shards.names, segments) if segments else tuple((str(Path(n).parent),) for n in shards.names)
    order = sorted(
        range(len(shards)), key=lambda row: hashlib.sha256(f"{seed}:{shards.contents[row]}".encode()).digest()
    )
    part = max(2, round(share * len(order)))

    def told(rows: Sequence[int]) -> Part:
        chosen = [labels[row] for row in rows]
        relevance = ontology.relevance(chosen) if ontology else _shared(chosen)
        return Part(
            VideoMoments(shards, tuple(rows)),
            relevance,
            tuple(", ".join(each) for each in chosen),
            tuple(shards.names[row] for row in rows),
            tuple(ClipIdentity(shards.contents[row]) for row in rows),
        )

    testing, validation, training = order[:part], order[part : 2 * part], order[2 * part :]
    return Material(
        VideoMoments(shards, tuple(training)),
        told(validation),
        told(testing),
        tuple(ClipIdentity(shards.contents[row]) for row in training),
        (folder.root.name,),
        f"{shards.note}; {len(training):,} learn, {len(validation):,} choose, {len(testing):,} are reported, drawn "
        f"with seed {seed}",
    )


def _shared(labels: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """(n, n) 1 where two videos have a label in common."""
    return np.array([[float(bool(set(mine) & set(other))) for other in labels] for mine in labels])


def train(plan: CorrespondencePlan, progress: bool = False) -> AVENet | AVOLNet | L3Net:
    """Trains a network, or goes on with a training that was interrupted, and writes the run.

    Raises:
        TrainingError: the folder holds another training, or this one cannot go on.
        MetricError: a recording or video is in two of the parts.
    """
    from kws_imagebind.training.correspondence.loop import CorrespondenceLoop, fit  # Lightning takes seconds to import
    from kws_imagebind.training.supervised.loop import check_lightning

    check_lightning()
    recipe, material = plan.recipe, plan.material
    check_disjoint(material.learnt, material.validation.identities, "what the network learnt")
    _begin(plan)
    torch.manual_seed(plan.seed)
    network = build(recipe.network, recipe.config)
    if plan.begin is not None:
        begin(network, plan.begin)
    sound = standardised(recipe.sound, material.training)
    history = fit(
        CorrespondenceLoop(
            network.to(memory_format=torch.channels_last),
            material.training,
            material.validation.pairs,
            sound,
            recipe,
            material.validation.relevance,
            plan.output,
            plan.seed,
            plan.device,
            progress,
        )
    )
    chosen = min(history, key=lambda each: each.validation_loss)
    details = {
        "recipe": recipe.as_dict(),
        "seed": plan.seed,
        "pairs": {"training": len(material.training), "validation": len(material.validation.pairs)},
        "division": material.note,
        "epochs": len(history),
        "best_epoch": chosen.epoch,
        "validation_accuracy": chosen.validation_accuracy,
    }
    CorrespondenceRun(recipe.network, recipe.config, sound, _card(plan, network), details).save(plan.output, network)
    _draw(plan, history, chosen.epoch)
    return network


def _begin(plan: CorrespondencePlan) -> None:
    """Notes the plan in the folder, or holds the plan to the one that was begun there."""
    if is_correspondence_run(plan.output):
        raise TrainingError(f"'{plan.output}' holds a finished training; name another folder with --output")
    content = json.loads(
        json.dumps({"recipe": plan.recipe.as_dict(), "seed": plan.seed, "pairs": len(plan.material.training),
                    "begin": None if plan.begin is None else str(plan.begin)})
    )  # fmt: skip
    path = make_folder(plan.output) / PLAN
    if path.is_file():
        try:
            begun = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise TrainingError(f"'{path}' is damaged; remove '{plan.output}' and start again") from error
        if begun != content:
            raise TrainingError(
                f"'{plan.output}' holds a training that was begun otherwise; repeat its command to go on, or name "
                "another folder with --output"
            )
        return
    with whole(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def begin(network: AVENet | AVOLNet | L3Net, folder: Path) -> None:
    """Gives an AVOL-Net the towers and heads of an AVE-Net of the same sizes.

    Raises:
        TrainingError: the networks are others.
        EncoderError: the folder holds no finished run.
    """
    run, trained = load_network(folder)
    if not (isinstance(network, AVOLNet) and isinstance(trained, AVENet)):
        raise TrainingError(f"'{folder}' holds {run.network}; only avolnet begins, and with the towers of an avenet")
    state = network.state_dict()
    for name, value in trained.state_dict().items():
        if name in state and not name.startswith("tiny"):
            if state[name].numel() != value.numel():
                raise TrainingError(f"'{folder}' has other sizes than this recipe; train both with the same --width")
            state[name] = value.reshape(state[name].shape)  # a linear layer is a convolution of 1x1
    network.load_state_dict(state)


def _card(plan: CorrespondencePlan, network: AVENet | AVOLNet | L3Net) -> Card:
    return Card(
        name=f"avenet:{plan.output}",
        parameters=sum(each.numel() for each in network.parameters()),
        sample_rate=plan.recipe.sound.sample_rate,
        trained_on=plan.material.trained_on,
        citation="Arandjelović and Zisserman 2018, arXiv:1712.06651",
    )


def _draw(plan: CorrespondencePlan, history: Sequence[Any], best: int) -> None:
    def figure() -> object:
        from kws_imagebind.reporting.figures.training import history_figure

        return history_figure(
            ([each.loss for each in history], [each.accuracy for each in history]),
            ([each.validation_loss for each in history], [each.validation_accuracy for each in history]),
            best,
            f"{plan.recipe.network}, {len(plan.material.training):,} pairs; chance is ln 2 and 50 %",
        )

    draw(plan.output, {"history.png": figure})


def report(plan: CorrespondencePlan, part: Part | None = None) -> CorrespondenceResult:
    """Measures a finished run on the pairs that are reported, and writes the results into its folder.

    Args:
        plan: of the run.
        part: what is reported; by default the plan's testing pairs.

    Raises:
        TrainingError: there is nothing to report.
        MetricError: what is reported trained the network or chose its epoch.
    """
    part = part or plan.material.testing
    if part is None:
        raise TrainingError("no pairs are left to report on; name a data set with a testing split or more speakers")
    used = (*plan.material.learnt, *plan.material.validation.identities)
    check_disjoint(used, part.identities, "what the network learnt")
    run, network = load_network(plan.output)
    network.to(resolve_device(plan.device))
    result, pages, encoded = measure(network, part, run.sound)
    with whole(plan.output / RESULTS) as file:
        file.write_text(json.dumps(result.as_dict(), indent=2) + "\n", encoding="utf-8")
    rate = run.sound.sample_rate
    write_page(plan.output, part.pairs, encoded, part.relevance, part.labels, rate, REPORT_SEED)
    draw_report(plan.output, part.pairs, part.labels, pages, run.sound)
    return result


def measure(
    network: AVENet | AVOLNet | L3Net, part: Part, sound: FrontEnd
) -> tuple[CorrespondenceResult, list[Page], Encoded]:
    """All that is measured on some pairs, the pages of the localisation, and what the towers made of the pairs."""
    encoded = encode(network, part.pairs, sound, REPORT_SEED)
    odds = log_odds(network, encoded)
    found = directions(encoded, part.relevance, part.groups)
    pages: list[Page] = []
    if isinstance(network, AVOLNet) and isinstance(part.pairs, SpokenWords):
        height, width = network.config.image
        rows, columns = part.pairs.grid
        # Six cells of the size that the network learnt from.
        size = (height * GRID[0] // rows, width * GRID[1] // columns)
        painter = WordPainter(part.pairs.painter.fonts, size)
        pages = localise(network, part.pairs, sound, painter, REPORT_SEED)
    result = CorrespondenceResult(
        len(part.pairs),
        mean_by_group(correspondence(odds), part.groups),
        mean_by_group(correspondence(odds, part.relevance == 0), part.groups),
        tuple(measure_directions(found)),
        score(pages, part.groups) if pages else None,
    )
    return result, pages, encoded
