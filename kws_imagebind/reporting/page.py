"""A report as one HTML file that needs no network, and its Markdown twin."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from kws_imagebind.embeddings.map import SEED, perplexity
from kws_imagebind.metrics.intervals import Interval
from kws_imagebind.metrics.roc import RocCurve
from kws_imagebind.reporting import svg
from kws_imagebind.reporting.matrix import MOST_FOLDED, Matrix, matrix_figure, never, occurring
from kws_imagebind.reporting.predictions import Prediction
from kws_imagebind.reporting.protocol import NOT_RECORDED, described, kind
from kws_imagebind.reporting.published import PUBLISHED, PublishedResult
from kws_imagebind.reporting.results import OpenSet
from kws_imagebind.reporting.sounds import Find, data_uri

if TYPE_CHECKING:
    from kws_imagebind.reporting.report import Confusion, Report

TEMPLATES = Path(__file__).parent / "templates"
WORDS = 60  # drawn at first; of more, those with the lowest accuracy
NAMED = 12  # words of a list that is written out
SKIPPED = 200  # recordings that are listed
PLAYED, PLAYED_CLIPS = 5, 3  # confusions that are played, and clips of each

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # a terminal obeys them, and XML forbids them


def html(report: Report, find: Find | None = None) -> str:
    """The page, with the sound of the worst confusions where `find` finds the clips."""
    script = marks_script()
    return _render(
        "report.html.jinja",
        report=report,
        figures=_figures(report),
        matrices=_matrices(report),
        played=_played(report, find),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        html=True,
        **_texts(report),
    )


def markdown(report: Report) -> str:
    """The same in Markdown, without figures and sound."""
    return _render("report.md.jinja", report=report, html=False, **_texts(report))


def marks_script() -> str:
    """What reads a figure's points and cells to touch and keyboard."""
    return (TEMPLATES / "marks.js").read_text(encoding="utf-8")


def facts(report: Report) -> list[tuple[str, str]]:
    """The protocol, as far as it is known."""
    found, candidates = report.results, f"{len(report.words):,} candidates"
    task = f"{report.task}, {candidates}" if report.task else candidates
    if found is None:
        rows = [("task", task), ("kind of run", NOT_RECORDED)]
    else:
        split = f", {found.split} split" if found.split else ""
        rows = [
            ("data", f"{found.dataset}{split}" if found.dataset else ""),
            ("about the data", found.note or ""),
            ("task", task),
            ("kind of run", described(found)),
            ("encoder", found.encoder or ""),
            *_about_encoder(report),
            ("prompts", ", ".join(f"“{template}”" for template in found.templates)),
            ("prompts averaged as", f"{found.average}s" if found.average and len(found.templates) > 1 else ""),
            ("random subset", f"seed {found.seed}" if found.seed is not None else ""),
            ("skipped", f"{len(found.skipped):,} recordings, listed above" if found.skipped else ""),
        ]
    rows.append(("intervals", report.how))
    if found is not None:
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in found.versions.items())))
    return [(name, value) for name, value in rows if value]


def _about_encoder(report: Report) -> list[tuple[str, str]]:
    found = report.results
    assert found is not None
    card = found.card
    size = f"{card.parameters:,} parameters" if card and card.parameters else ""
    megabytes = f"{card.bytes / 1e6:,.1f} MB" if card and card.bytes else ""
    return [
        ("trained on", ", ".join(found.trained_on)),
        ("size", ", ".join(filter(None, [size, megabytes]))),
        ("licence", (card.licence if card else None) or ""),
        ("fingerprint", ", ".join(found.fingerprints.values())),
        ("precision", found.precision or ""),
        ("clips of other lengths", found.padding or ""),
    ]


def _texts(report: Report) -> dict[str, Any]:
    """Sentences and tables that both pages have."""
    same, others = _published(report)
    return {
        "facts": facts(report),
        "kind": described(report.results),
        "about_map": _about_map(report),
        "same": same,
        "others": others,
        "comparable": _comparable(report),
        "without_clips": _listed(report.without_clips),
        "most_predicted": ", ".join(f"{word} {_percent(share)}" for word, share in report.agreement.most_predicted),
        "spoken": len(report.words) - len(report.without_clips),
        "skipped": report.results.skipped[:SKIPPED] if report.results else [],
        "skipped_more": max(0, len(report.results.skipped) - SKIPPED) if report.results else 0,
    }


def _figures(report: Report) -> dict[str, Any]:
    margin = None
    if report.margins is not None and report.sureness:
        margin = Markup(svg.margin_figure(report.margins, report.hits, report.sureness))
    rows = [pair for pair in zip(report.per_class, report.words, strict=True) if pair[0].n]
    per_class, words = [interval for interval, _ in rows], [word for _, word in rows]
    some = WORDS if len(words) > WORDS else None
    return {
        "bar": Markup(svg.accuracy_bar(report.accuracy, report.chance)),
        "map": Markup(svg.map_figure(*_mapped(report))) if report.map else None,
        "words": Markup(svg.words_figure(per_class, words, report.chance, some)),
        "all_words": Markup(svg.words_figure(per_class, words, report.chance)) if some else None,
        "reliability": Markup(svg.reliability_figure(report.calibration)) if report.calibration else None,
        "margin": margin,
        "det": Markup(svg.det_figure(report.detection)) if report.detection else None,
        "open_set": [
            (outcome, Markup(svg.det_figure(curve)), Markup(svg.roc_figure(curve)))
            for outcome in report.open_set
            if outcome.rule == _best_rule(report.open_set)
            for curve in [_curve(outcome)]
        ],
    }


def _matrices(report: Report) -> list[tuple[Matrix, Markup, list[str]]]:
    """The matrix with what it leaves out; where that is much, a larger one too."""
    unheard = len(report.words) - len(report.occurring)
    found = [occurring(report.confusion, report.occurring)]
    if not found[0].whole:
        found.append(occurring(report.confusion, report.occurring, MOST_FOLDED))
    first = [never(unheard)] if unheard else []
    return [(each, Markup(matrix_figure(each)), [*first, *each.notes]) for each in found]


def _mapped(report: Report) -> tuple[np.ndarray, list[Prediction]]:
    """The places of the map, and the row of each."""
    assert report.map is not None
    lines = {line.path: line for line in report.predictions}
    return report.map.places, [lines[path] for path in report.map.paths]


def _about_map(report: Report) -> str:
    """How the map was made and how not to read it."""
    if report.map is None:
        return ""
    drawn = len(report.map)
    clips = f"All {drawn:,} clips" if drawn == report.n else f"A random {drawn:,} of {report.n:,} clips"
    names = ""
    if len({line.label for line in report.predictions}) > svg.MOST_NAMES:
        names = f" Only the {svg.MOST_NAMES} most frequent words are named."
    return (
        f"{clips}, placed by their embeddings alone: t-SNE of the cosines, perplexity {perplexity(drawn):.3g}, seed "
        f"{SEED}. A word's name stands at or near the median of its clips.{names} Near neighbours are alike to the "
        "encoder. The distance between far clusters, the size of a cluster and the axes mean nothing."
    )


def _played(report: Report, find: Find | None) -> list[tuple[Confusion, list[tuple[Prediction, str]]]]:
    """The worst confusions with the sound of their clips as data URIs, those that have any."""
    found = [
        (
            confusion,
            [(line, sound) for line in confusion.clips[:PLAYED_CLIPS] if (sound := data_uri(find, line.path))],
        )
        for confusion in report.confusions[:PLAYED]
    ]
    return [(confusion, sounds) for confusion, sounds in found if sounds]


def _published(report: Report) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What others report: of this run's task, with the run itself, the best first; and of other tasks."""
    rows = [_row(each) for each in PUBLISHED]
    own = {
        "system": (report.results.encoder if report.results else None) or report.title,
        "task": report.task or f"{len(report.words):,} words",
        "n": f"{report.n:,}",
        "accuracy": _percent(report.accuracy.estimate),
        "value": report.accuracy.estimate,
        "kind": kind(report.results),
        "source": "this report",
        "own": True,
    }
    rows.sort(key=lambda row: (row["task"], -row["value"]))
    same = sorted([own, *(row for row in rows if row["task"] == report.task)], key=lambda row: -row["value"])
    return same, [row for row in rows if row["task"] != report.task]


def _comparable(report: Report) -> str:
    """Whether the published numbers of this task were measured on as many clips."""
    sizes = {each.n for each in PUBLISHED if each.task == report.task and each.n}
    if not sizes:
        return "No published result listed here is of this task. Those of other tasks show what the field reaches."
    if report.n not in sizes:
        clips = " and ".join(f"{size:,}" for size in sorted(sizes))
        return (
            f"This run has {report.n:,} clips, the published results of this task {clips}. The task is the same, the "
            "clips are not."
        )
    return "The published results of this task are of the same number of clips."


def _row(result: PublishedResult) -> dict[str, Any]:
    return {
        "system": result.system,
        "task": result.task,
        "n": f"{result.n:,}" if result.n else "not said",
        "accuracy": f"{100 * result.accuracy:.2f}".removesuffix("0") + " %",
        "value": result.accuracy,
        "kind": "supervised" if result.supervised else "zero-shot",
        "source": f"{result.source}; {result.note}" if result.note else result.source,
        "own": False,
    }


def _best_rule(outcomes: list[OpenSet]) -> str:
    """The rule of the largest area, whose curves are drawn."""
    return max(outcomes, key=lambda outcome: outcome.auroc.estimate).rule


def _curve(outcome: OpenSet) -> RocCurve:
    points = np.array(outcome.curve)
    return RocCurve(np.empty(0), points[:, 1], points[:, 0], outcome.inside, outcome.outside)


def _listed(words: list[str]) -> str:
    more = len(words) - NAMED
    return ", ".join(words[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _percent(share: float) -> str:
    """Per cent with one digit, or with two that count where one would read 0.

    >>> _percent(0.884), _percent(1 / 5000), _percent(0.0)
    ('88.4 %', '0.02 %', '0.0 %')
    """
    return f"{100 * share:.2g} %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def _limits(interval: Interval) -> str:
    return f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]" if interval.n else ""


def _cell(text: str) -> str:
    """A word for a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _render(name: str, html: bool, **values: Any) -> str:
    environment = Environment(autoescape=html, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=_percent, limits=_limits, cell=_cell, zip=zip)
    text = environment.from_string((TEMPLATES / name).read_text(encoding="utf-8")).render(**values)
    return _CONTROLS.sub("", text)
