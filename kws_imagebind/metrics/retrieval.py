"""How well a ranking finds what is relevant: recall, hit rate, average precision and nDCG, by query.

Documents with equal scores are in random order, and each measure is its expectation over that order (McSherry and
Najork 2008, Computing information retrieval performance measures efficiently in the presence of tied scores, ECIR).
So the chance level needs no simulation: it is the value of the measure when all scores are equal.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kws_imagebind.metrics.intervals import (
    BY_SPEAKER,
    DesignEffect,
    Interval,
    SpeakerSums,
    speaker_codes,
    speaker_freedom,
    wilson_at,
)

CUTOFFS = (1, 5, 10)  # ranks of recall and of the hit rate
NDCG_AT = 30  # rank, as in Objects that Sound (Arandjelović and Zisserman 2018, arXiv:1712.06651)


@dataclass(frozen=True)
class Retrieval:
    """The measures of each query, and their chance levels.

    Attributes:
        names: of the m measures: "recall@1", "hit_rate@5", "map", "ndcg@30".
        values: (q, m) of each query that has something relevant, from 0 to 1.
        chance: (q, m) of a random order of the same documents.
        queries: (q,) which rows of the score matrix they are.
        left_out: queries without a relevant document, which have no measures.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    chance: NDArray[np.float64]
    queries: NDArray[np.int64]
    left_out: int

    def means(self) -> dict[str, float]:
        """The mean of each measure over the queries."""
        return dict(zip(self.names, self.values.mean(0).tolist(), strict=True))

    def mean_chance(self) -> dict[str, float]:
        """The mean chance level of each measure over the queries."""
        return dict(zip(self.names, self.chance.mean(0).tolist(), strict=True))


def retrieval(
    scores: ArrayLike,
    relevance: ArrayLike,
    allowed: ArrayLike | None = None,
    cutoffs: Sequence[int] = CUTOFFS,
    ndcg_at: int = NDCG_AT,
) -> Retrieval:
    """Recall and hit rate at each cutoff, average precision, and nDCG of each query.

    recall@k is the share of a query's relevant documents among its first k, hit_rate@k whether there is at least one.
    Average precision is the mean precision at the ranks of the relevant documents. nDCG takes the relevance as the gain
    and divides by log2(rank + 1) (Järvelin and Kekäläinen 2002, ACM TOIS 20:422-446).

    >>> found = retrieval([[0.9, 0.8, 0.1]], [[0, 1, 1]], cutoffs=(1, 2))
    >>> {name: round(value, 3) for name, value in found.means().items()}
    {'recall@1': 0.0, 'hit_rate@1': 0.0, 'recall@2': 0.5, 'hit_rate@2': 1.0, 'map': 0.583, 'ndcg@30': 0.693}

    Args:
        scores: (queries, documents); higher is nearer.
        relevance: (queries, documents) from 0; for recall, hit rate and average precision all above 0 is relevant.
        allowed: (queries, documents) false where a document is left out for a query, such as the query itself.
        cutoffs: ranks from 1.
        ndcg_at: the last rank that counts for nDCG.

    Raises:
        ValueError: the shapes differ, a score is not a finite number, a relevance is negative, or no query has a
            relevant document.
    """
    values, gains = np.asarray(scores, dtype=np.float64), np.asarray(relevance, dtype=np.float64)
    kept = np.ones(values.shape, bool) if allowed is None else np.asarray(allowed, dtype=bool)
    if values.ndim != 2 or not values.shape == gains.shape == kept.shape:
        raise ValueError(f"scores {values.shape}, relevance {gains.shape}, allowed {kept.shape}; expected one shape")
    if not np.isfinite(values[kept]).all() or not (gains[kept] >= 0).all():
        raise ValueError("a score is not a finite number, or a relevance is below 0")
    if min((*cutoffs, ndcg_at), default=1) < 1:
        raise ValueError(f"cutoffs {tuple(cutoffs)} and {ndcg_at}; expected ranks from 1")
    queries = np.flatnonzero(((gains > 0) & kept).any(1))
    if not len(queries):
        raise ValueError("no query has a relevant document; expected at least one")
    names = [name for k in cutoffs for name in (f"recall@{k}", f"hit_rate@{k}")]
    found, chance = [], []
    for query in queries:
        mask = kept[query]
        own, gain = values[query, mask], gains[query, mask]
        found.append(_measures(own, gain, cutoffs, ndcg_at))
        chance.append(_measures(np.zeros(len(own)), gain, cutoffs, ndcg_at))
    return Retrieval(
        (*names, "map", f"ndcg@{ndcg_at}"), np.array(found), np.array(chance), queries, len(values) - len(queries)
    )


def _measures(scores: NDArray, gains: NDArray, cutoffs: Sequence[int], ndcg_at: int) -> list[float]:
    """The measures of one query, as expectations over the order of equal scores."""
    order = np.argsort(-scores, kind="stable")
    ties = _Ties.of(scores[order], gains[order])
    found = []
    for k in cutoffs:
        found += [float(ties.relevant_at[:k].sum() / ties.relevant), ties.hit(k)]
    return [*found, ties.average_precision(), ties.ndcg(ndcg_at)]


@dataclass(frozen=True)
class _Ties:
    """A ranking whose groups of equal scores are in random order. Arrays have one number a rank, from the first on.

    Attributes:
        start: rank, from 0, where the group of this rank begins.
        size: documents of that group.
        own: relevant ones of that group.
        before: relevant ones of the groups before.
        gain: mean gain of that group.
        gains: of all documents.
    """

    start: NDArray[np.int64]
    size: NDArray[np.int64]
    own: NDArray[np.float64]
    before: NDArray[np.float64]
    gain: NDArray[np.float64]
    gains: NDArray[np.float64]

    @classmethod
    def of(cls, scores: NDArray, gains: NDArray) -> _Ties:
        first = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))
        size = np.diff(np.append(first, len(scores)))
        own = np.add.reduceat((gains > 0).astype(np.float64), first)
        gain = np.add.reduceat(gains, first) / size
        before = np.cumsum(own) - own
        start, of_size, own, before, gain = (np.repeat(each, size) for each in (first, size, own, before, gain))
        return cls(start, of_size, own, before, gain, gains)

    @property
    def relevant(self) -> float:
        return float((self.gains > 0).sum())

    @property
    def relevant_at(self) -> NDArray[np.float64]:
        """How likely the document at each rank is relevant."""
        return self.own / self.size

    def hit(self, k: int) -> float:
        """How likely a relevant document is among the first k: hypergeometric within the group that k cuts."""
        last = min(k, len(self.start)) - 1
        if self.before[last]:
            return 1.0
        size, own, drawn = int(self.size[last]), int(self.own[last]), last + 1 - int(self.start[last])
        return 1 - math.comb(size - own, drawn) / math.comb(size, drawn)

    def average_precision(self) -> float:
        rank = np.arange(len(self.start))
        others = (rank - self.start) * (self.own - 1) / np.maximum(self.size - 1, 1)
        expected = self.relevant_at * (self.before + 1 + others) / (rank + 1)
        return float(expected.sum() / self.relevant)

    def ndcg(self, k: int) -> float:
        discount = 1 / np.log2(np.arange(2, min(k, len(self.start)) + 2))
        ideal = -np.sort(-self.gains)[: len(discount)]
        return float((self.gain[: len(discount)] * discount).sum() / (ideal * discount).sum())


def by_group(found: Retrieval, groups: Sequence[Hashable], level: float = 0.95) -> dict[str, Interval]:
    """The mean of each measure, with limits that go by group of queries; the documents are as they are.

    Groups are the speakers where clips are queries. The limits are those of `intervals.proportion_by_speaker`, with the
    measure of a query in the place of a hit or a miss.

    Args:
        found: the measures.
        groups: of each row of the score matrix, those of queries that were left out included.
        level: of the limits.

    Raises:
        ValueError: there are fewer than two groups, or not one for each row.
    """
    rows = len(found.queries) + found.left_out
    if len(groups) != rows:
        raise ValueError(f"{len(groups)} groups for {rows} queries; expected one for each")
    n = len(found.queries)
    code, count = speaker_codes([groups[query] for query in found.queries.tolist()], n)
    shares = np.bincount(code, minlength=count).astype(np.float64) / n
    intervals = {}
    for column, name in enumerate(found.names):
        left = found.values[:, column] - found.values[:, column].mean()
        sums = SpeakerSums(np.bincount(code, weights=left, minlength=count).astype(np.float64), shares)
        seen = max(float(sums.squares.sum()), float((left**2).sum()))  # never better than independent queries
        intervals[name] = _interval(found, column, seen, shares, sums.freedom, level)
    return intervals


def independent(found: Retrieval, level: float = 0.95) -> dict[str, Interval]:
    """The mean of each measure, with Wilson's limits for queries that are taken as independent.

    For recall of a single document and for hit rates these are `intervals.wilson`'s own; a measure between 0 and 1
    varies less than hits and misses of the same mean, so its limits are rather too wide than too narrow.
    """
    n = len(found.queries)
    means = [min(1.0, max(0.0, mean)) for mean in found.means().values()]
    return {
        name: Interval(mean, *wilson_at(mean, n, math.inf, level), n, "wilson", level)
        for name, mean in zip(found.names, means, strict=True)
    }


def by_document_group(
    scores: ArrayLike,
    relevance: ArrayLike,
    groups: Sequence[Hashable],
    cutoffs: Sequence[int] = CUTOFFS,
    ndcg_at: int = NDCG_AT,
    level: float = 0.95,
    resamples: int = 200,
    seed: int = 0,
) -> dict[str, Interval]:
    """The mean of each measure, with limits from a bootstrap over groups of documents; the queries are as they are.

    This is for words that search recordings of many speakers: other speakers might have been recorded, while the words
    are the task's. The limits are Wilson's at the number of independent documents that the variance over the draws
    stands for. Speakers are drawn with replacement with all of their documents and every measure is taken again
    (Cormack and Lynam 2006, Statistical precision of information retrieval evaluation, SIGIR).

    Args:
        scores: (queries, documents).
        relevance: (queries, documents).
        groups: the speaker of each document.
        cutoffs: as `retrieval`.
        ndcg_at: as `retrieval`.
        level: of the limits.
        resamples: how many times the speakers are drawn; each takes as long as the measures themselves.
        seed: of the draws.

    Raises:
        ValueError: as `retrieval`; there are fewer than two groups, or not one for each document.
    """
    values, gains = np.asarray(scores, dtype=np.float64), np.asarray(relevance, dtype=np.float64)
    found = retrieval(values, gains, cutoffs=cutoffs, ndcg_at=ndcg_at)
    members: dict[Hashable, list[int]] = {}
    for document, group in enumerate(groups):
        members.setdefault(group, []).append(document)
    if len(groups) != values.shape[1] or len(members) < 2:
        raise ValueError(
            f"{len(groups)} groups, {len(members)} of them different, for {values.shape[1]} documents; "
            "expected one for each, and two or more speakers"
        )
    each, rng, means = list(members.values()), np.random.default_rng(seed), []
    n = len(found.queries)
    for _ in range(resamples):
        chosen = np.concatenate([each[i] for i in rng.integers(len(each), size=len(each))])
        if (gains[:, chosen] > 0).any():
            again = retrieval(values[:, chosen], gains[:, chosen], cutoffs=cutoffs, ndcg_at=ndcg_at)
            means.append(again.values.mean(0))
    variance = np.var(means, axis=0) * len(each) / (len(each) - 1)
    shares = np.array([len(documents) for documents in each]) / values.shape[1]
    worth = float(1 / (shares**2).sum())  # speakers of equal size; what the limits rest on where no draw differs
    intervals = {}
    for column, name in enumerate(found.names):
        mean = min(1.0, max(0.0, float(found.values[:, column].mean())))
        spread = mean * (1 - mean)
        effective = min(values.shape[1], spread / variance[column]) if variance[column] and spread else worth
        limits = wilson_at(mean, effective, speaker_freedom(shares), level)
        intervals[name] = Interval(mean, *limits, n, BY_SPEAKER, level)
    return intervals


def _interval(
    found: Retrieval, column: int, seen: float, shares: NDArray[np.float64], freedom: float, level: float
) -> Interval:
    """The mean of one measure, with limits from its variance `seen`, which is in the unit of `DesignEffect.seen`."""
    n, mean = len(found.queries), min(1.0, max(0.0, float(found.values[:, column].mean())))
    effect = DesignEffect.shrunk(mean, n, seen, shares, freedom)
    return Interval(mean, *wilson_at(mean, n / effect.effect, effect.freedom, level), n, BY_SPEAKER, level)
