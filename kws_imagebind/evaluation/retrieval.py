"""Retrieval as an evaluation: every direction's measures with their intervals and chance levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kws_imagebind.metrics.intervals import Interval
from kws_imagebind.metrics.retrieval import by_document_group, by_group, independent, retrieval
from kws_imagebind.readouts.retrieval import Direction

INDEPENDENT = "clips, taken as independent,"
CERTAIN = 1 - 1e-9  # a measure that any order of the documents reaches is not printed


@dataclass(frozen=True)
class DirectionResult:
    """What one direction is worth.

    Attributes:
        name: "text to audio".
        queries: that have something to find.
        left_out: queries without anything to find.
        documents: searched.
        over: what was drawn again for the intervals, in words.
        measures: name -> mean over the queries, with its interval.
        chance: name -> that of a random order.
    """

    name: str
    queries: int
    left_out: int
    documents: int
    over: str
    measures: dict[str, Interval]
    chance: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        return {
            "direction": self.name,
            "queries": self.queries,
            "left_out": self.left_out,
            "documents": self.documents,
            "intervals": self.over,
            "measures": {
                name: {**interval.as_dict(), "chance": self.chance[name]} for name, interval in self.measures.items()
            },
        }

    def __str__(self) -> str:
        out = f", {self.left_out:,} without anything to find left out" if self.left_out else ""
        lines = [f"{self.name}: {self.queries:,} queries{out}, {self.documents:,} documents; {self.over}"]
        for name, interval in self.measures.items():
            if self.chance[name] > CERTAIN:
                continue  # such as recall@10 among ten documents
            limits = f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
            lines.append(
                f"  {name:<12}  {100 * interval.estimate:5.1f} % {limits:<14}  chance {100 * self.chance[name]:.1f} %"
            )
        return "\n".join(lines)


def measure_directions(directions: Sequence[Direction]) -> list[DirectionResult]:
    """Measures of each direction.

    Where clips are the queries, the intervals draw the speakers of the queries again, and the documents stay as they
    are; where words or images search clips, they draw the speakers of the clips. Where speakers are unknown, clips are
    taken as independent, and the limits for clips that are queries are Wilson's, as in `evaluate`.

    Raises:
        ValueError: a direction has no query with anything to find.
    """
    return [_measured(direction) for direction in directions]


def _measured(direction: Direction) -> DirectionResult:
    found = retrieval(direction.scores, direction.relevance, direction.allowed)
    if direction.query_speakers:
        speakers, what = _groups(direction.query_speakers, direction.groups)
        intervals = by_group(found, speakers) if what != INDEPENDENT else independent(found)
        over = f"95 % intervals over {what} of the queries"
    else:
        speakers, what = _groups(direction.document_speakers, direction.groups)
        intervals = by_document_group(direction.scores, direction.relevance, speakers)
        over = f"95 % intervals over {what} of the documents"
    queries, documents = len(found.queries), direction.scores.shape[1]
    return DirectionResult(direction.name, queries, found.left_out, documents, over, intervals, found.mean_chance())


def _groups(speakers: Sequence[str | None], groups: str) -> tuple[list[str | int], str]:
    known = [name for name in speakers if name is not None]
    if len(known) == len(speakers) and len(set(known)) > 1:
        return list(known), f"the {len(set(known)):,} {groups}"
    return list(range(len(speakers))), INDEPENDENT
