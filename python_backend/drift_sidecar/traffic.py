"""What is counted of the traffic itself, without any reference: two int64 vectors per minute.

flow   of everything: answers, repeats, refusals, failures, gaps, labels, and histograms of times
mix    of one release: decisions by source, and a histogram of scores

Everything is an integer (times in microseconds, scores in millionths), so that counts and sums add exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from fraud_scoring import wire
from fraud_scoring.decision_log import STAGES, Gap
from fraud_scoring.decision_log.batches import MINUTE_US, Batch, Int64

FRONT_DOOR_US: Final = (
    *(500, 1_000, 2_000, 3_000, 4_000, 5_000, 7_500, 10_000, 15_000, 20_000, 25_000, 30_000, 40_000, 50_000),
    *(60_000, 80_000, 100_000, 150_000, 250_000, 500_000, 1_000_000),
)
"""Upper bounds of the front door's times; the promised 100 ms and the default deadline of 80 ms are among them."""
STAGE_US: Final = (50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000)
DEADLINE_LEFT_US: Final = (0, 1_000, 5_000, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 70_000, 80_000, 1_000_000)
SCORE_MILLIONTHS: Final = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 500_000, 700_000, 900_000, 970_000, 990_000)

FLOW: Final = "flow"
_DECISIONS: Final = len(wire.Decision)
_SOURCES: Final = len(wire.Source)


class Part(NamedTuple):
    """Places of a vector: a histogram takes one for each bound, one above, and one for the sum."""

    start: int
    stop: int

    def of(self, vector: Int64) -> Int64:
        found: Int64 = vector[..., self.start : self.stop]
        return found


def _parts(*widths: int) -> Iterator[Part]:
    start = 0
    for width in widths:
        yield Part(start, start + width)
        start += width


def _histogram(bounds: tuple[int, ...]) -> int:
    return len(bounds) + 2


FLOW_WIDTHS: Final = {
    "answers": 1,
    "repeats": 1,
    "refused": 1,
    "failed": 1,
    "gap answers": 1,
    "labels": 2,
    "late": 1,
    "front door": _histogram(FRONT_DOOR_US),
    "deadline left": _histogram(DEADLINE_LEFT_US),
    **{f"stage {stage}": _histogram(STAGE_US) for stage in STAGES},
}
ANSWERS, REPEATS, REFUSED, FAILED, GAP_ANSWERS, LABELS, LATE, FRONT_DOOR, DEADLINE_LEFT, *STAGE = _parts(
    *FLOW_WIDTHS.values()
)
"""Parts of the flow vector. `ANSWERS` are given for the first time; `LABELS` are legitimate, fraud."""
FLOW_WIDTH: Final = STAGE[-1].stop

MIX, SCORES = _parts(_DECISIONS * _SOURCES, _histogram(SCORE_MILLIONTHS))
"""Parts of the mix vector: decision × source, row by row; scores in millionths."""
MIX_WIDTH: Final = SCORES.stop


def mix_series(release: int) -> str:
    """The name under which a release's mix is counted."""
    return f"mix/{release}"


class Minutes(NamedTuple):
    """The minutes that occur in a batch: `minutes` [G] since 1970, and which of them each frame and row belongs to."""

    minutes: Int64
    frame: Int64
    row: Int64

    @classmethod
    def of(cls, batch: Batch) -> Minutes:
        minutes, frame = np.unique(batch.written_at_us // MINUTE_US, return_inverse=True)
        return cls(minutes, frame, np.repeat(frame, batch.rows))


def count_flow(batch: Batch, groups: Minutes) -> Int64:
    """Flow vectors [G, FLOW_WIDTH] of a batch."""
    n, decisions = len(groups.minutes), batch.decisions
    out = np.zeros((n, FLOW_WIDTH), np.int64)
    repeat = decisions.repeat
    out[:, ANSWERS.start] = np.bincount(groups.row[~repeat], minlength=n)
    out[:, REPEATS.start] = np.bincount(groups.row[repeat], minlength=n)
    np.add.at(out[:, REFUSED.start], groups.frame, batch.refused)
    np.add.at(out[:, FAILED.start], groups.frame, batch.failed)
    out[:, LATE.start] = np.bincount(groups.row[decisions.deadline_left_us < 0], minlength=n)
    _add_histogram(FRONT_DOOR.of(out), FRONT_DOOR_US, batch.stage_us.sum(axis=1), groups.frame, batch.rows)
    _add_histogram(DEADLINE_LEFT.of(out), DEADLINE_LEFT_US, decisions.deadline_left_us, groups.row)
    for stage, part in enumerate(STAGE):
        # a frame without rows tells of no batch that went through the stages
        _add_histogram(part.of(out), STAGE_US, batch.stage_us[:, stage], groups.frame, np.minimum(batch.rows, 1))
    return out


def count_mix(batch: Batch, groups: Minutes, release: int) -> Int64:
    """Mix vectors [G, MIX_WIDTH] of the rows that a release decided, for the first time."""
    n, decisions = len(groups.minutes), batch.decisions
    kept = (decisions.verdict[:, 4] == release) & ~decisions.repeat
    row, verdict = groups.row[kept], decisions.verdict[kept]
    out = np.zeros((n, MIX_WIDTH), np.int64)
    cell = np.clip(verdict[:, 0], 0, _DECISIONS - 1) * _SOURCES + np.clip(verdict[:, 5], 0, _SOURCES - 1)
    width = MIX.stop - MIX.start
    MIX.of(out)[:] = np.bincount(row * width + cell, minlength=n * width).reshape(n, width)
    millionths = np.rint(1e6 * np.clip(np.nan_to_num(decisions.score[kept].astype(np.float64)), 0.0, 1.0))
    _add_histogram(SCORES.of(out), SCORE_MILLIONTHS, millionths.astype(np.int64), row)
    return out


def count_labels(labels: Int64) -> tuple[Int64, Int64]:
    """(minutes [G], flow vectors [G, FLOW_WIDTH]) of labels int64 [M, 4] as the tail gives them."""
    minutes, group = np.unique(labels[:, 3] // MINUTE_US, return_inverse=True)
    out = np.zeros((len(minutes), FLOW_WIDTH), np.int64)
    np.add.at(out, (group, LABELS.start + (labels[:, 1] != 0)), 1)
    return minutes, out


def count_gap(written_at_us: int, gap: Gap) -> tuple[Int64, Int64]:
    """The same of one gap."""
    out = np.zeros((1, FLOW_WIDTH), np.int64)
    out[0, GAP_ANSWERS.start] = gap.answers
    return np.array([written_at_us // MINUTE_US], np.int64), out


def quantile_us(histogram: Int64, bounds: tuple[int, ...], share: float) -> float | None:
    """A quantile of a histogram part, in microseconds: linear within its bucket; None of nothing.

    What lies above the last bound counts as the last bound.
    """
    counts = histogram[:-1]
    total = int(counts.sum())
    if not total:
        return None
    rank = share * total
    below = np.cumsum(counts)
    bucket = int(np.searchsorted(below, rank, side="left"))
    if bucket >= len(bounds):
        return float(bounds[-1])
    low = bounds[bucket - 1] if bucket else 0
    before = int(below[bucket - 1]) if bucket else 0
    return float(low + (bounds[bucket] - low) * (rank - before) / int(counts[bucket]))


def _add_histogram(
    out: Int64, bounds: tuple[int, ...], values: Int64, group: Int64, weight: Int64 | None = None
) -> None:
    """Add `values`, each `weight` times, to the histograms [G, bounds + 2] of their groups."""
    weights = np.ones(len(values), np.int64) if weight is None else weight
    bucket = np.searchsorted(bounds, values, side="left")
    np.add.at(out, (group, bucket), weights)
    np.add.at(out[:, -1], group, values * weights)
