"""Figures as SVG text for a page that is light or dark: the colours are the page's own, the words real text.

Pure: numbers in, a string out, without matplotlib, so that a report is made in seconds and holds its figures itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np

from kws_imagebind.metrics.calibration import Calibration
from kws_imagebind.metrics.intervals import Interval, wilson
from kws_imagebind.metrics.roc import RocCurve
from kws_imagebind.reporting.predictions import Prediction

LETTER = 6.6  # pixels of a letter at 12 px, on average
WIDE = 1.6  # letters more for a word of wide ones, as "unknown"
NUMBERED = 17  # pixels of a cell from which a number fits
NAMED = 10  # pixels of a row from which a name fits
MOST_NAMES = 60  # on a map
COMPACT = 45  # pixels of a group of clips, up to which a name over them would hide them
QUARTERS = (0, 0.25, 0.5, 0.75, 1)
_PROBITS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)  # grid of a DET curve


def accuracy_bar(interval: Interval, chance: float | None) -> str:
    """The headline: the accuracy with its interval on a scale from 0 to 100 %, beside chance."""
    x = _Scale(0, 1, 20, 976)
    marks = "".join(
        f'<text x="{x(share):.1f}" y="52" class="tick mid">{round(100 * share)} %</text>' for share in QUARTERS
    )
    line = ""
    if chance is not None:
        line = f'<line x1="{x(chance):.1f}" x2="{x(chance):.1f}" y1="6" y2="36" class="chance"/>'
    return _svg(
        1000, 58,
        f'<rect x="{x(0):.1f}" y="14" width="{x(1) - x(0):.1f}" height="14" rx="7" class="track"/>'
        f'<rect x="{x(0):.1f}" y="14" width="{x(interval.estimate) - x(0):.1f}" height="14" rx="7" class="fill soft"/>'
        f'<line x1="{x(interval.low):.1f}" x2="{x(interval.high):.1f}" y1="21" y2="21" class="limits thick"/>'
        f'<circle cx="{x(interval.estimate):.1f}" cy="21" r="6" class="dot"/>{line}{marks}',
        f"accuracy {interval}",
    )  # fmt: skip


def words_figure(per_class: Sequence[Interval], labels: Sequence[str], chance: float | None) -> str:
    """Each word's accuracy with its interval, from the best to the worst; words without clips last."""
    rows = sorted(
        zip(per_class, labels, strict=True),
        key=lambda row: (row[0].n == 0, -row[0].estimate if row[0].n else 0.0, row[1]),
    )
    pitch = max(4.0, min(20.0, 1400 / len(rows)))
    left = _widest(labels) + 12
    x, height = _Scale(0, 1, left, left + 640), pitch * len(rows) + 34
    parts = [_grid(x, 8, height - 24)]
    for index, (interval, label) in enumerate(rows):
        y = 8 + pitch * (index + 0.5)
        if pitch >= NAMED:
            parts.append(f'<text x="{left - 8:.1f}" y="{y:.1f}" class="name end">{escape(_cut(label))}</text>')
            parts.append(f'<text x="{x.end + 12:.1f}" y="{y:.1f}" class="tick start">{interval.n or "no clips"}</text>')
        if interval.n:
            parts.append(
                f"<g><title>{escape(label)}: {interval}</title>"
                f'<line x1="{x(interval.low):.1f}" x2="{x(interval.high):.1f}" y1="{y:.1f}" y2="{y:.1f}" '
                'class="limits"/>'
                f'<circle cx="{x(interval.estimate):.1f}" cy="{y:.1f}" r="{min(4.5, pitch / 3):.1f}" class="dot"/></g>'
            )
    if chance is not None:
        parts.append(f'<line x1="{x(chance):.1f}" x2="{x(chance):.1f}" y1="4" y2="{height - 24:.1f}" class="chance"/>')
    return _svg(x.end + 70, height, "".join(parts), "accuracy of each word with its 95 % interval and number of clips")


def confusion_figure(counts: np.ndarray, labels: Sequence[str]) -> str:
    """Which word is taken for which: right in one colour, wrong in the other, as strong as its share of the row."""
    classes, totals = len(labels), counts.sum(axis=1)
    cell = max(5.0, min(34.0, 900 / classes))
    left = top = _widest(labels) + 10 if cell >= NAMED else 24.0
    side = cell * classes
    parts = [f'<rect x="{left:.1f}" y="{top:.1f}" width="{side:.1f}" height="{side:.1f}" class="track"/>']
    for row, column in zip(*np.nonzero(counts), strict=True):
        share, n = counts[row, column] / totals[row], int(counts[row, column])
        x, y = left + cell * column, top + cell * row
        strength, kind = 0.08 + 0.92 * float(share) ** 0.5, "right" if row == column else "wrong"
        said = f"{labels[row]} heard as {labels[column]}: {n:,} of {int(totals[row]):,} clips ({100 * share:.1f} %)"
        number = ""
        if cell >= NUMBERED:
            size = min(11.0, 1.55 * (cell - 3) / max(2, len(str(n))))
            number = (
                f'<text x="{x + cell / 2:.1f}" y="{y + cell / 2:.1f}" style="font-size:{size:.1f}px" '
                f'class="mid number{" over" if strength > 0.62 else ""}">{n}</text>'
            )
        parts.append(
            f'<g><title>{escape(said)}</title><rect x="{x:.1f}" y="{y:.1f}" width="{cell - 0.6:.1f}" '
            f'height="{cell - 0.6:.1f}" class="{kind}" fill-opacity="{strength:.2f}"/>{number}</g>'
        )
    if cell >= NAMED:
        parts += [_cell_names(label, index, cell, left, top) for index, label in enumerate(labels)]
    parts.append(f'<text x="{left + side / 2:.1f}" y="{top + side + 18:.1f}" class="tick mid">heard as</text>')
    turned = f"{left + side + 14:.1f} {top + side / 2:.1f}"
    parts.append(f'<text transform="translate({turned}) rotate(90)" class="tick mid">spoken</text>')
    return _svg(left + side + 24, top + side + 28, "".join(parts), "confusion matrix: rows spoken, columns heard")


def map_figure(places: np.ndarray, lines: Sequence[Prediction]) -> str:
    """Clips where their embeddings lie, right and wrong ones in two colours, with each word's name at its median.

    Args:
        places: (n, 2), drawn at one scale in both directions.
        lines: the n clips.
    """
    width, height, margin = 940.0, 680.0, 30.0
    low, extent = places.min(axis=0), np.maximum(np.ptp(places, axis=0), 1e-9)
    scale = min((width - 2 * margin) / extent[0], (height - 2 * margin) / extent[1])
    at = (places - low) * scale
    at[:, 1] = extent[1] * scale - at[:, 1]
    height = extent[1] * scale + 2 * margin
    at += [(width - extent[0] * scale) / 2, margin]
    radius = min(5.0, max(2.2, 75 / len(lines) ** 0.5))
    drawn: dict[str, list[str]] = {"right": [], "wrong": []}
    for (x, y), line in zip(at, lines, strict=True):
        right = line.label == line.prediction
        said = f"{line.label}, {'right' if right else f'heard as {line.prediction}'}: {line.path}"
        drawn["right" if right else "wrong"].append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{escape(said)}</title></circle>'
        )
    groups = "".join(f'<g class="{kind} clip">{"".join(circles)}</g>' for kind, circles in drawn.items())
    names = "".join(
        f'<text x="{x:.1f}" y="{y:.1f}" class="place mid">{escape(_cut(word))}</text>'
        for word, x, y in _map_names(at, [line.label for line in lines], width, height)
    )
    return _svg(width, height, groups + names, f"map of {len(lines):,} clips by t-SNE")


def _map_names(at: np.ndarray, labels: Sequence[str], width: float, height: float) -> list[tuple[str, float, float]]:
    """Each word at the median of its clips, or above it where it would hide them.

    The frequent come first; the others move up or down where a name stands already.
    """
    said = np.array(labels, dtype=object)
    found: list[tuple[str, float, float, float]] = []
    for word, _ in Counter(labels).most_common(MOST_NAMES):
        own = at[said == word]
        x, y = (float(value) for value in np.median(own, axis=0))
        top, bottom = (float(value) for value in np.quantile(own[:, 1], (0.1, 0.9)))
        y = y if bottom - top > COMPACT else max(top - 13, y - COMPACT)
        half = LETTER * (len(_cut(word)) + 1) / 2
        x = min(max(x, half), width - half)
        steps = (y + sign * 8.0 * step for step in range(12) for sign in (-1, 1))
        free = (
            step
            for step in steps
            if 8 <= step <= height - 8
            and all(abs(x - other) > half + wide or abs(step - up) > 15 for _, other, up, wide in found)
        )
        found.append((word, x, next(free, y), half))
    return [(word, x, y) for word, x, y, _ in found]


def reliability_figure(found: Calibration) -> str:
    """How sure against how often right: on the diagonal the confidence can be taken at its word."""
    points = [(each.confidence, wilson(each.hits, each.n), each.n) for each in found.bins]
    return _share_figure(points, "confidence", "reliability diagram", diagonal=True)


def margin_figure(margins: np.ndarray, hits: np.ndarray, name: str = "margin", groups: int = 10) -> str:
    """How often the prediction is right for each tenth of the clips, in the order of the margin or score."""
    order = np.argsort(margins, kind="stable")
    parts = [part for part in np.array_split(order, min(groups, len(order))) if len(part)]
    points = [
        ((index + 0.5) / len(parts), wilson(int(hits[part].sum()), len(part)), len(part))
        for index, part in enumerate(parts)
    ]
    return _share_figure(
        points, f"clips from the smallest {name} to the largest", f"accuracy by {name}", diagonal=False
    )


def det_figure(found: RocCurve) -> str:
    """Misses against false alarms on probit axes (Martin et al. 1997, Eurospeech), where a good detector runs low."""
    scale = _Probit(64, 424)
    parts = []
    for share in _PROBITS:
        at, up = scale(share), scale.up(share)
        name = f"{100 * share:g} %"
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="20" y2="380" class="grid"/>')
        parts.append(f'<line x1="64" x2="424" y1="{up:.1f}" y2="{up:.1f}" class="grid"/>')
        parts.append(f'<text x="{at:.1f}" y="394" class="tick mid">{name}</text>')
        parts.append(f'<text x="58" y="{up:.1f}" class="tick end">{name}</text>')
    misses = 1 - found.accepted
    path = " ".join(f"{scale(f):.1f},{scale.up(m):.1f}" for f, m in _thinned(found.false_alarms, misses))
    parts.append(f'<polyline points="{path}" class="curve"/>')
    equal = found.eer
    parts.append(
        f'<circle cx="{scale(equal):.1f}" cy="{scale.up(equal):.1f}" r="5" class="dot">'
        f"<title>equal error rate {100 * equal:.1f} %</title></circle>"
    )
    parts.append('<text x="244" y="414" class="tick mid">false alarms</text>')
    parts.append('<text transform="translate(14 200) rotate(-90)" class="tick mid">misses</text>')
    return _svg(440, 424, "".join(parts), f"detection error trade-off, equal error rate {100 * equal:.1f} %")


def roc_figure(found: RocCurve) -> str:
    """Keywords accepted against false alarms, from the strictest threshold to the loosest."""
    x, y = _Scale(0, 1, 64, 424), _Scale(0, 1, 380, 20)
    parts = _axes(x, y)
    parts.append(f'<line x1="{x(0):.1f}" y1="{y(0):.1f}" x2="{x(1):.1f}" y2="{y(1):.1f}" class="chance"/>')
    points = _thinned(found.false_alarms, found.accepted)
    path = " ".join(f"{x(false_alarm):.1f},{y(accepted):.1f}" for false_alarm, accepted in points)
    parts.append(f'<polyline points="{path}" class="curve"/>')
    parts.append('<text x="244" y="414" class="tick mid">false alarms</text>')
    parts.append('<text transform="translate(14 200) rotate(-90)" class="tick mid">accepted</text>')
    return _svg(440, 424, "".join(parts), f"ROC curve, area {found.auroc:.3f}")


def _axes(x: _Scale, y: _Scale) -> list[str]:
    """Quarters from 0 to 100 % on both axes."""
    parts = []
    for share in QUARTERS:
        parts.append(f'<line x1="64" x2="424" y1="{y(share):.1f}" y2="{y(share):.1f}" class="grid"/>')
        parts.append(f'<text x="58" y="{y(share):.1f}" class="tick end">{round(100 * share)} %</text>')
        parts.append(f'<text x="{x(share):.1f}" y="394" class="tick mid">{round(100 * share)} %</text>')
    return parts


class _Scale:
    """Numbers to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


class _Probit:
    """Shares to pixels so that a normal distribution's errors run straight."""

    def __init__(self, start: float, end: float) -> None:
        from statistics import NormalDist

        self._quantile = NormalDist().inv_cdf
        self._scale = _Scale(self._quantile(0.0005), self._quantile(0.9), start, end)

    def __call__(self, share: float) -> float:
        return self._scale(self._quantile(min(max(share, 0.0005), 0.9)))

    def up(self, share: float) -> float:
        return 380 + self._scale.start - self(share)


def _thinned(first: np.ndarray, second: np.ndarray, most: int = 400) -> list[tuple[float, float]]:
    """No more points than can be seen."""
    keep = np.unique(np.linspace(0, len(first) - 1, min(most, len(first))).astype(int))
    return [(float(first[i]), float(second[i])) for i in keep]


def _share_figure(points: Sequence[tuple[float, Interval, int]], axis: str, title: str, diagonal: bool) -> str:
    x, y = _Scale(0, 1, 64, 424), _Scale(0, 1, 380, 20)
    parts = _axes(x, y)
    if diagonal:
        parts.append(f'<line x1="{x(0):.1f}" y1="{y(0):.1f}" x2="{x(1):.1f}" y2="{y(1):.1f}" class="chance"/>')
    most = max(n for _, _, n in points)
    for at, right, n in points:
        parts.append(
            f"<g><title>{100 * at:.0f} %: right {right}</title>"
            f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{y(right.low):.1f}" y2="{y(right.high):.1f}" class="limits"/>'
            f'<circle cx="{x(at):.1f}" cy="{y(right.estimate):.1f}" r="{3 + 4 * (n / most) ** 0.5:.1f}" '
            'class="dot"/></g>'
        )
    parts.append(f'<text x="244" y="414" class="tick mid">{axis}</text>')
    parts.append('<text transform="translate(14 200) rotate(-90)" class="tick mid">accuracy</text>')
    return _svg(440, 424, "".join(parts), title)


def _grid(x: _Scale, top: float, bottom: float) -> str:
    lines = []
    for share in QUARTERS:
        at = f"{x(share):.1f}"
        lines.append(f'<line x1="{at}" x2="{at}" y1="{top:.1f}" y2="{bottom:.1f}" class="grid"/>')
        lines.append(f'<text x="{at}" y="{bottom + 14:.1f}" class="tick mid">{round(100 * share)} %</text>')
    return "".join(lines)


def _cell_names(label: str, index: int, cell: float, left: float, top: float) -> str:
    name, at = escape(_cut(label)), (index + 0.5) * cell
    size = f'style="font-size:{min(12.0, cell * 0.72):.1f}px"'
    return (
        f'<text x="{left - 6:.1f}" y="{top + at:.1f}" {size} class="name end">{name}</text>'
        f'<text transform="translate({left + at:.1f} {top - 6:.1f}) rotate(-90)" {size} class="name start">'
        f"{name}</text>"
    )


def _widest(labels: Sequence[str]) -> float:
    return LETTER * (WIDE + max(len(_cut(label)) for label in labels))


def _cut(label: str, most: int = 26) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _svg(width: float, height: float, content: str, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="{escape(title)}">{content}</svg>'
    )
