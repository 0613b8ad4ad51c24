"""Several encoders on the same clips in one table: what was measured, what it cost, and what others published."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

from kws_imagebind.files import whole
from kws_imagebind.metrics.intervals import Interval
from kws_imagebind.metrics.paired import PairedComparison, compare_paired, holm, p_text
from kws_imagebind.reporting.published import PAIRS, PUBLISHED, WORDS_NOT_STATED, PublishedPairs, PublishedResult

JSON, CSV, HTML, PNG = "leaderboard.json", "leaderboard.csv", "leaderboard.html", "leaderboard.png"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Row:
    """One encoder, as its own process measured it.

    Attributes:
        encoder: as the user wrote it.
        kind: of the protocol: "zero-shot", "likelihood", ...
        saw_words: whether the encoder learnt from Speech Commands; None where that is unknown.
        accuracy, macro: with their intervals.
        pair_eer, pair_auc: of every clip against every keyword, pooled.
        auroc: of telling keywords from outsiders by the best score; None where the data set has no outsiders.
        outside: clips of outsiders.
        parameters, bytes, licence, trained_on: of its card; None or "" where unknown.
        templates: its prompts; none for a scorer.
        precision, fingerprint: of its arithmetic and of all it depends on.
        seconds: for each clip, reading and decoding included.
        cpu_seconds: of all threads for each clip, which other programs on the machine change little.
        load_seconds: until the encoder was ready.
        memory: peak of the process in bytes, with Python and torch; None where the system does not say.
        hits: for each clip whether it was right, by the clip's key.
        speakers: of these clips; "" where unknown.
        p: of the paired test against the best, corrected by Holm; None for the best itself.
        paired: that test.
    """

    encoder: str
    kind: str
    saw_words: bool | None
    accuracy: Interval
    macro: Interval
    pair_eer: Interval
    pair_auc: Interval
    auroc: Interval | None
    outside: int
    parameters: int | None
    bytes: int | None
    licence: str
    trained_on: tuple[str, ...] | None
    templates: tuple[str, ...]
    precision: str
    fingerprint: str
    seconds: float
    cpu_seconds: float
    load_seconds: float
    memory: int | None
    hits: dict[str, bool] = field(repr=False)
    speakers: dict[str, str] = field(repr=False)
    p: float | None = None
    paired: PairedComparison | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; clips are left out."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        intervals = {name: getattr(self, name) for name in _INTERVALS}
        against = None
        if self.paired:
            against = {**self.paired.difference_as_dict(), "p": self.paired.p, "p_holm": self.p}
        return {
            **plain,
            **{name: None if each is None else each.as_dict() for name, each in intervals.items()},
            "trained_on": None if self.trained_on is None else list(self.trained_on),
            "templates": list(self.templates),
            "against_best": against,
        }


_PLAIN = (
    "encoder", "kind", "saw_words", "outside", "parameters", "bytes", "licence", "precision", "fingerprint", "seconds",
    "cpu_seconds",
    "load_seconds", "memory",
)  # fmt: skip
_INTERVALS = ("accuracy", "macro", "pair_eer", "pair_auc", "auroc")


@dataclass(frozen=True)
class Leaderboard:
    """Encoders on the same clips, the most accurate first.

    Attributes:
        rows: of those that could be measured.
        failed: why the others could not, by encoder.
        task, dataset, note: what was measured.
        n: clips that all rows have.
        keywords: how many there were to choose from.
        speakers: how many spoke; 0 where unknown.
        threads: that each process was given.
        warnings: what a reader should know.
    """

    rows: tuple[Row, ...]
    failed: dict[str, str]
    task: str
    dataset: str
    note: str
    n: int
    keywords: int
    speakers: int
    threads: int
    warnings: tuple[str, ...] = ()

    @property
    def chance(self) -> float:
        """The accuracy of guessing every keyword alike."""
        return 1 / self.keywords

    @property
    def published(self) -> tuple[PublishedResult, ...]:
        """What others published on this choice of words, on their own clips; words not stated come last."""
        corpus = {"v1": "v0.01", "v2": "v0.02"}.get(self.task.partition("-")[0], "")
        return tuple(
            [each for each in PUBLISHED if each.task == self.task]
            + [each for each in WORDS_NOT_STATED if each.task == corpus]
        )

    @property
    def published_pairs(self) -> tuple[PublishedPairs, ...]:
        """Published figures of pairs, which are of the ten command words."""
        return PAIRS if self.task == "v2-10" else ()

    def as_dict(self) -> dict[str, Any]:
        """The content of leaderboard.json."""
        return {
            "task": self.task,
            "dataset": self.dataset,
            "note": self.note,
            "n": self.n,
            "keywords": self.keywords,
            "speakers": self.speakers or None,
            "chance": self.chance,
            "pair_chance": 0.5,
            "threads": self.threads,
            "rows": [row.as_dict() for row in self.rows],
            "failed": self.failed,
            "warnings": list(self.warnings),
            "published": [
                {"system": each.system, "accuracy": each.accuracy, "n": each.n, "supervised": each.supervised,
                 "source": each.source, "note": each.note}
                for each in self.published
            ],
            "published_pairs": [
                {"system": each.system, "eer": each.eer, "auc": each.auc, "parameters": each.parameters,
                 "source": each.source, "note": each.note}
                for each in self.published_pairs
            ],
        }  # fmt: skip

    def csv(self) -> str:
        """One row an encoder, numbers as shares of 1, seconds and bytes; failures have only their reason."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        limits = [f"{name}{end}" for name in _INTERVALS for end in ("", "_low", "_high")]
        table.writerow([*_PLAIN, "trained_on", *limits, "n", "p_holm", "failed"])
        for row in self.rows:
            numbers: list[Any] = []
            for name in _INTERVALS:
                each = getattr(row, name)
                numbers += [each.estimate, each.low, each.high] if each else ["", "", ""]
            plain = ["" if (value := getattr(row, name)) is None else value for name in _PLAIN]
            table.writerow([*plain, "; ".join(row.trained_on or ()), *numbers, self.n, row.p if row.p else "", ""])
        for encoder, reason in self.failed.items():
            table.writerow([encoder, *[""] * (len(_PLAIN) + len(limits) + 2), reason])
        return text.getvalue()

    def __str__(self) -> str:
        parts = [self.headline, "", _aligned(self.table)]
        parts += ["", *(f"{about:11}{remark}" for about, remark in self.remarks)]
        parts += [f"failed     {encoder}: {reason}" for encoder, reason in self.failed.items()]
        if published := self.others:
            parts += ["", "published by others, on other clips than these:", _aligned(published)]
        return "\n".join(parts)

    @property
    def headline(self) -> str:
        spoken = f" by {self.speakers:,} speakers" if self.speakers else ""
        return (
            f"{self.dataset}, {self.keywords} keywords (task {self.task}), {self.n:,} clips{spoken}; chance "
            f"{100 * self.chance:.1f} %, of pairs 50 %"
        )

    @property
    def remarks(self) -> list[tuple[str, str]]:
        """What the columns mean and how the numbers were made: what it is about, and a sentence."""
        how = "by speaker" if self.speakers else "clips taken as independent, for speakers are unknown"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        found = [
            ("intervals", f"95 %, {how}"),
            ("p", "of the paired test against the best on the same clips, corrected by Holm"),
            ("pairs", "every clip against every keyword, one threshold for all: equal error rate, area under the ROC"),
            (
                "cost",
                f"one process an encoder, {threads}; ms a clip with reading and decoding, by the clock and of all "
                "threads; memory is the peak of the process with Python and torch",
            ),
        ]
        if any(row.auroc for row in self.rows):
            found.append(
                ("open set", "AUROC of the best score: clips of the keywords against all others of the data set")
            )
        return found + [("warning", warning) for warning in self.warnings]

    @property
    def table(self) -> list[tuple[str, ...]]:
        """Head and rows as texts."""
        return [_HEAD, *(_cells(row, best=row is self.rows[0]) for row in self.rows)]

    @property
    def others(self) -> list[tuple[str, ...]]:
        """Published results as texts: system, figure, size, protocol, source."""
        rows: list[tuple[str, ...]] = [
            (each.system, f"accuracy {_share(each.accuracy)}", f"n = {each.n:,}" if each.n else "words not stated",
             "trained on these words" if each.supervised else "zero-shot", each.source)
            for each in sorted(self.published, key=lambda each: -each.accuracy)
        ]  # fmt: skip
        for pair in sorted(self.published_pairs, key=lambda each: each.eer):
            auc = f", AUC {_share(pair.auc)}" if pair.auc else ""
            rows.append(
                (pair.system, f"pair EER {_share(pair.eer)}{auc}", _count(pair.parameters), pair.note, pair.source)
            )
        return rows

    def html(self, picture: str = "") -> str:
        """The leaderboard as sections of a page that needs nothing else.

        Args:
            picture: a PNG as a data URL; empty for none.
        """
        remarks = [f"<li><b>{about}</b>: {escape(remark)}</li>" for about, remark in self.remarks]
        parts = [
            f"<section><h2>{escape(self.headline)}</h2>",
            _html_table(self.table[0], self.table[1:]),
            f'<p><img alt="Accuracy of each encoder with its interval" src="{picture}"></p>' if picture else "",
            "<ul>", *remarks, "</ul></section>",
        ]  # fmt: skip
        if self.failed:
            listed = "".join(f"<li><b>{escape(name)}</b>: {escape(why)}</li>" for name, why in self.failed.items())
            parts.append(f"<section><h2>Not measured</h2><ul>{listed}</ul></section>")
        if published := self.others:
            parts.append("<section><h2>Published by others, on other clips than these</h2>")
            parts += [_html_table(("system", "figure", "size", "protocol", "source"), published), "</section>"]
        return "\n".join(part for part in parts if part)

    def page(self, picture: str = "") -> str:
        """`html` as a whole page."""
        return _PAGE.replace("BODY", self.html(picture))

    def save(self, folder: Path) -> list[Path]:
        """Writes leaderboard.json, .csv, .html and, with matplotlib, .png; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        written, picture = _figure(self, folder)
        texts = {
            JSON: json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n",
            CSV: self.csv(),
            HTML: self.page(picture),
        }
        for name, text in texts.items():
            with whole(folder / name) as part:
                part.write_text(text, encoding="utf-8")
        return [folder / name for name in texts] + written


class LeaderboardError(ValueError):
    """A leaderboard.json that is not one; the message says what is wrong."""


def read_leaderboard(path: Path) -> Leaderboard:
    """A leaderboard from its JSON, to show it again: without clips and paired tests, but with their p values.

    Raises:
        LeaderboardError: the file cannot be read, or is not a leaderboard.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(_row(each) for each in content["rows"])
        plain = {name: content[name] for name in ("task", "dataset", "note", "n", "keywords", "threads")}
        return Leaderboard(
            rows,
            dict(content["failed"]),
            **plain,
            speakers=content["speakers"] or 0,
            warnings=tuple(content["warnings"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        wrong = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise LeaderboardError(f"{path.name} is not a leaderboard: {wrong}") from error


def _row(content: dict[str, Any]) -> Row:
    trained, against = content["trained_on"], content["against_best"]
    fields: dict[str, Any] = {name: content[name] for name in _PLAIN}
    fields |= {name: content[name] and _restored(content[name]) for name in _INTERVALS}
    return Row(
        **fields,
        trained_on=None if trained is None else tuple(trained),
        templates=tuple(content["templates"]),
        hits={},
        speakers={},
        p=against["p_holm"] if against else None,
    )


def _restored(content: dict[str, Any]) -> Interval:
    low, estimate, high = (math.nan if content[name] is None else content[name] for name in ("low", "estimate", "high"))
    return Interval(estimate, low, high, content["n"], content["method"], content["confidence"])


def ranked(
    rows: Sequence[Row], failed: dict[str, str], task: str, dataset: str, note: str, keywords: int, threads: int
) -> Leaderboard:
    """The rows in order, each tested against the best on the clips that all have.

    Args:
        rows: as measured.
        failed: reasons, by encoder.
        task, dataset, note: what was measured.
        keywords: how many there were.
        threads: that each process was given.
    """
    shared = [key for key in rows[0].hits if all(key in row.hits for row in rows)] if rows else []
    ordered = sorted(rows, key=lambda row: (-row.accuracy.estimate, row.encoder))
    speakers = _speakers(ordered, shared)
    tested: list[Row] = ordered[:1]
    if len(ordered) > 1 and shared:
        best = [ordered[0].hits[key] for key in shared]
        found = [compare_paired(best, [row.hits[key] for key in shared], speakers) for row in ordered[1:]]
        corrected = holm([each.p for each in found])
        tested += [replace(row, paired=each, p=p) for row, each, p in zip(ordered[1:], found, corrected, strict=True)]
    return Leaderboard(
        rows=tuple(tested if shared else ordered),
        failed=failed,
        task=task,
        dataset=dataset,
        note=note,
        n=len(shared),
        keywords=keywords,
        speakers=len(set(speakers)) if speakers else 0,
        threads=threads,
        warnings=tuple(_warnings(ordered, shared)),
    )


def _speakers(rows: Sequence[Row], shared: Sequence[str]) -> list[str] | None:
    found = [rows[0].speakers.get(key, "") for key in shared] if rows else []
    return found if all(found) and len(set(found)) > 1 else None


def _warnings(rows: Sequence[Row], shared: Sequence[str]) -> list[str]:
    found = [f"{row.encoder} learnt from Speech Commands: its number is not zero-shot" for row in rows if row.saw_words]
    more = max((len(row.hits) for row in rows), default=0) - len(shared)
    if more:
        found.append(
            f"{more:,} clips are missing in some rows; intervals are of each row's own clips, tests of the "
            f"{len(shared):,} that all rows have"
        )
    return found


_HEAD = (
    "encoder", "accuracy %", "p", "macro %", "open set AUROC", "pair EER %", "pair AUC %", "parameters", "weights",
    "ms a clip", "CPU ms", "peak memory", "licence", "trained on",
)  # fmt: skip


def _cells(row: Row, best: bool) -> tuple[str, ...]:
    trained = UNKNOWN if row.trained_on is None else _short(row.trained_on)
    return (
        row.encoder + (" (scores words)" if row.kind == "likelihood" else ""),
        _interval(row.accuracy),
        "best" if best else "" if row.p is None else p_text(row.p).removeprefix("p ").removeprefix("= "),
        _interval(row.macro),
        _area(row.auroc),
        _interval(row.pair_eer),
        _interval(row.pair_auc),
        _count(row.parameters),
        _size(row.bytes),
        f"{1000 * row.seconds:.1f}",
        f"{1000 * row.cpu_seconds:.1f}",
        _size(row.memory),
        row.licence or UNKNOWN,
        trained,
    )


def _short(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _interval(found: Interval) -> str:
    if not found.n:
        return "no clips"
    return f"{100 * found.estimate:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _area(found: Interval | None) -> str:
    return "no outsiders" if found is None else f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _share(value: float) -> str:
    return f"{100 * value:.2f}".rstrip("0").rstrip(".") + " %"


def _count(number: int | None) -> str:
    """
    >>> _count(1_434_001), _count(None)
    ('1.43 M', 'unknown')
    """
    if number is None:
        return UNKNOWN
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}" if number < 10 * size else f"{number / size:.0f} {unit}"
    return str(number)


def _size(number: int | None) -> str:
    """
    >>> _size(2_880_722)
    '2.9 MB'
    """
    if number is None:
        return UNKNOWN
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    frame = '<div class="wide" tabindex="0" role="region" aria-label="table, scrolls sideways">'
    return f"{frame}<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def _figure(board: Leaderboard, folder: Path) -> tuple[list[Path], str]:
    """The figure's path, and the figure for the page; nothing without matplotlib or without rows."""
    if not board.rows:
        return [], ""
    try:
        from kws_imagebind.reporting.figures.leaderboard import leaderboard_figure
        from kws_imagebind.reporting.figures.style import png, save_figure
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        return [], ""
    from base64 import b64encode

    save_figure(leaderboard_figure(board), folder / PNG)
    picture, _ = png(leaderboard_figure(board))
    return [folder / PNG], f"data:image/png;base64,{b64encode(picture).decode()}"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Leaderboard</title><link rel="icon" href="data:,"><style>
:root { color-scheme: light dark; }
body { margin: 0; font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; } img { max-width: 100%; background: white; }
.wide { overflow-x: auto; background:  /* a shadow at the edge beyond which the table goes on */
  linear-gradient(to right, Canvas 40%, transparent) left / 40px 100% no-repeat local,
  linear-gradient(to left, Canvas 40%, transparent) right / 40px 100% no-repeat local,
  linear-gradient(to right, #777b, transparent) left / 16px 100% no-repeat scroll,
  linear-gradient(to left, #777b, transparent) right / 16px 100% no-repeat scroll; }
.wide:focus-visible { outline: 2px solid; } ul { overflow-wrap: anywhere; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 4px 10px; border-bottom: 1px solid #8886; white-space: nowrap; font-size: 14px; }
td:last-child { white-space: normal; min-width: 12em; } th, td { padding-left: 6px; padding-right: 6px; }
</style></head><body><main><h1>Leaderboard</h1>
BODY
</main></body></html>
"""
