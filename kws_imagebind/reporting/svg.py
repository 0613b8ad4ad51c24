"""Figures as SVG text for a page that is light or dark: the page sets the colours, and the words are real text.

Numbers in, a string out, without matplotlib, so that a report is made in seconds and needs no other file. What a reader
may want to know of a point or a cell is its `<title>`: browsers show it under a mouse, and `templates/marks.js` to
touch and keyboard.
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
PITCH = 20  # pixels of a row
MOST_NAMES = 60  # on a map
COMPACT = 45  # pixels of a group of clips, up to which a name over them would hide them
QUARTERS = (0, 0.25, 0.5, 0.75, 1)
_PROBITS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)  # grid of a DET curve


def accuracy_bar(interval: Interval, chance: float | None) -> str:
    """The headline: the accuracy with its interval on a scale from 0 to 100 %, and chance. As wide as the page."""
    marks = "".join(
        f'<text x="{_percent(share)}" y="52" class="tick mid">{round(100 * share)} %</text>' for share in QUARTERS
    )
    estimate, low, high = (_percent(value) for value in (interval.estimate, interval.low, interval.high))
    return responsive(
        58, 22, 22,
        '<rect x="0" y="14" width="100%" height="14" rx="7" class="track"/>'
        f'<rect x="0" y="14" width="{estimate}" height="14" rx="7" class="fill soft"/>'
        f'<line x1="{low}" x2="{high}" y1="21" y2="21" class="limits thick"/>'
        f'<circle cx="{estimate}" cy="21" r="6" class="dot"/>{_chance(chance, 6, 36)}{marks}',
        f"accuracy {interval}",
    )  # fmt: skip


def words_figure(
    per_class: Sequence[Interval], labels: Sequence[str], chance: float | None, lowest: int | None = None
) -> str:
    """The accuracy of each word that has clips, with its interval, from the best to the worst. As wide as the page.

    Args:
        per_class: of each word.
        labels: the words.
        chance: of a guess.
        lowest: how many words to draw, those with the lowest accuracy; all by default.
    """
    rows = sorted(
        (row for row in zip(per_class, labels, strict=True) if row[0].n), key=lambda row: (-row[0].estimate, row[1])
    )
    rows = rows[-lowest:] if lowest else rows
    bottom = 8 + PITCH * len(rows)
    parts = [
        f'<line x1="{_percent(share)}" x2="{_percent(share)}" y1="8" y2="{bottom + 4}" class="grid"/>'
        f'<text x="{_percent(share)}" y="{bottom + 16}" class="tick mid">{round(100 * share)} %</text>'
        for share in QUARTERS
    ]
    for index, (interval, label) in enumerate(rows):
        y = 8 + PITCH * (index + 0.5)
        parts.append(
            f"<g><title>{escape(label)}: {interval}</title>"
            f'<text x="-10" y="{y:.1f}" class="name end">{escape(cut(label))}</text>'
            f'<text x="100%" dx="12" y="{y:.1f}" class="tick start">{interval.n:,}</text>'
            f'<line x1="{_percent(interval.low)}" x2="{_percent(interval.high)}" y1="{y:.1f}" y2="{y:.1f}" '
            f'class="limits"/><circle cx="{_percent(interval.estimate)}" cy="{y:.1f}" r="4.5" class="dot"/></g>'
        )
    parts.append(_chance(chance, 4, bottom + 4))
    left = widest([label for _, label in rows]) + 12
    return responsive(
        bottom + 26, left, 48, "".join(parts), "accuracy of each word with its 95 % interval and number of clips"
    )


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
        f'<text x="{x:.1f}" y="{y:.1f}" class="place mid">{escape(cut(word))}</text>'
        for word, x, y in _map_names(at, [line.label for line in lines], width, height)
    )
    return figure(width, height, groups + names, f"map of {len(lines):,} clips by t-SNE")


def _map_names(at: np.ndarray, labels: Sequence[str], width: float, height: float) -> list[tuple[str, float, float]]:
    """Each word at the median of its clips, or above them where it would hide them.

    Frequent words come first; later ones move up or down to keep clear of the names that are there.
    """
    said = np.array(labels, dtype=object)
    found: list[tuple[str, float, float, float]] = []
    for word, _ in Counter(labels).most_common(MOST_NAMES):
        own = at[said == word]
        x, y = (float(value) for value in np.median(own, axis=0))
        top, bottom = (float(value) for value in np.quantile(own[:, 1], (0.1, 0.9)))
        y = y if bottom - top > COMPACT else max(top - 13, y - COMPACT)
        half = LETTER * (len(cut(word)) + 1) / 2
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
    """Confidence against accuracy: on the diagonal the two agree."""
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
        name = f"{100 * share:g}"
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
    parts.append('<text x="244" y="414" class="tick mid">false alarms (%)</text>')
    parts.append('<text transform="translate(14 200) rotate(-90)" class="tick mid">misses (%)</text>')
    return figure(452, 424, "".join(parts), f"detection error trade-off, equal error rate {100 * equal:.1f} %")


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
    return figure(452, 424, "".join(parts), f"ROC curve, area {found.auroc:.3f}")


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
    """At most `most` points of a curve."""
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
    return figure(452, 424, "".join(parts), title)


def widest(labels: Sequence[str]) -> float:
    """Pixels that the longest of some labels takes at 12 px."""
    return LETTER * (WIDE + max((len(cut(label)) for label in labels), default=0))


def cut(label: str, most: int = 26) -> str:
    """A label, shortened if it is very long."""
    return label if len(label) <= most else label[: most - 1] + "…"


def figure(width: float, height: float, content: str, title: str, kind: str = "") -> str:
    """A drawing of a fixed shape.

    Args:
        width, height: in pixels.
        content: SVG elements.
        title: what it shows, for those who cannot see it.
        kind: a class for the page's style.
    """
    named = f' class="{kind}"' if kind else ""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img"{named} '
        f'aria-label="{escape(title)}">{content}</svg>'
    )


def responsive(height: float, left: float, right: float, content: str, title: str) -> str:
    """A drawing as wide as the page, whose letters keep their size: widths are percentages, heights pixels.

    Args:
        height: in pixels.
        left, right: pixels left free for labels, at negative x and beyond 100 %.
        content: SVG elements.
        title: what it shows.
    """
    return (
        f'<svg width="100%" height="{height:.0f}" style="padding:0 {right:.0f}px 0 {left:.0f}px" class="responsive" '
        f'role="img" aria-label="{escape(title)}">{content}</svg>'
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _chance(share: float | None, top: float, bottom: float) -> str:
    """The dashed line of a guess."""
    if share is None:
        return ""
    return f'<line x1="{_percent(share)}" x2="{_percent(share)}" y1="{top}" y2="{bottom:.0f}" class="chance"/>'
