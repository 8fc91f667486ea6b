"""What became of decisions: labels joined to them by transaction id, once each decision is `delay` old.

A decision is judged when it matures, by the last label that was applied until then: fraud, legitimate, or none. So the
result is a function of the log alone, however late, often or in whatever order the sidecar read it; labels that come
later count for nothing. (Labels are selective: a declined payment never becomes a chargeback. So "none" is an outcome
of its own, and what it means is left to `quality`.)

Memory is bounded by `capacity` rows of 13 to 18 bytes (2 million: 36 MB). Where that is not enough, ids are sampled: by
their hash, every second one, every fourth, …; a decision and its label are kept or dropped together, and what is kept
counts 2, 4, … times, which keeps shares and totals unbiased.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from drift_sidecar.checkpoint import Changes
from drift_sidecar.traffic import SCORE_MILLIONTHS, Minutes
from fraud_scoring import wire
from fraud_scoring.decision_log.batches import MINUTE_US, Batch, Int64

OUTCOMES: Final = ("legitimate", "fraud", "unlabelled")
"""Numbered as in `quality`."""
SCORE_BINS: Final = len(SCORE_MILLIONTHS) + 1
OUTCOME_SHAPE: Final = (SCORE_BINS, len(wire.Decision), len(OUTCOMES))
"""An outcome vector, unfolded: counts by bin of the score (bounds SCORE_MILLIONTHS), decision and outcome."""
OUTCOME_WIDTH: Final = int(np.prod(OUTCOME_SHAPE))

_DECISION: Final = np.dtype(
    [("id", "<i8"), ("minute", "<i4"), ("release", "<i4"), ("score_bin", "u1"), ("decision", "u1")]
)
_LABEL: Final = np.dtype([("id", "<i8"), ("minute", "<i4"), ("fraud", "u1")])
_SPAN_MINUTES: Final = 10
"""Minutes that mature together."""
_PIECE_ROWS: Final = 4096
"""A piece that has grown to this is not touched again: a checkpoint writes only the youngest piece of each kind."""
_SAMPLING: Final = "sampling"

Rows = npt.NDArray[Any]


def outcome_series(release: int) -> str:
    """The name under which a release's outcomes are counted."""
    return f"outcome/{release}"


class Matured(NamedTuple):
    """Outcome vectors [G, OUTCOME_WIDTH] of the minutes [G] in which a release's decisions matured."""

    release: int
    minutes: Int64
    vectors: Int64


class Outcomes:
    """Decisions that wait for their labels, and labels."""

    def __init__(self, delay_minutes: int, capacity: int = 2_000_000) -> None:
        self.delay_minutes = delay_minutes
        self.capacity = capacity
        self._sampling = 0
        self._decisions = _Pieces("decision", _DECISION)
        self._labels = _Pieces("label", _LABEL)
        self._changed_sampling = False

    @property
    def sampled_one_of(self) -> int:
        """1: every id is kept; 4: every fourth."""
        return 1 << self._sampling

    @property
    def rows(self) -> int:
        """Decisions and labels that are kept."""
        return self._decisions.rows + self._labels.rows

    def add_decisions(self, batch: Batch, groups: Minutes) -> None:
        """Keep a batch's decisions: those of models, given for the first time."""
        decisions = batch.decisions
        kept = ~decisions.repeat & (decisions.verdict[:, 5] < wire.Source.SCORECARD)
        kept &= self._sampled(decisions.transaction[:, batch.id_column])
        rows = np.empty(int(kept.sum()), _DECISION)
        rows["id"] = decisions.transaction[kept, batch.id_column]
        rows["minute"] = groups.minutes[groups.row[kept]]
        rows["release"] = decisions.verdict[kept, 4]
        rows["score_bin"] = np.searchsorted(SCORE_MILLIONTHS, np.rint(1e6 * decisions.score[kept].astype(np.float64)))
        rows["decision"] = np.clip(decisions.verdict[kept, 0], 0, len(wire.Decision) - 1)
        self._decisions.add(rows)
        self._make_room()

    def add_labels(self, labels: Int64) -> None:
        """Keep labels int64 [M, 4] as the tail gives them."""
        kept = labels[self._sampled(labels[:, 0])]
        rows = np.empty(len(kept), _LABEL)
        rows["id"], rows["minute"], rows["fraud"] = kept[:, 0], kept[:, 3] // MINUTE_US, kept[:, 1] != 0
        self._labels.add(rows)
        self._make_room()

    def mature(self, watermark_minute: int) -> Iterator[Matured]:
        """Judge and drop the decisions that are `delay` old, when all before `watermark_minute` has been added."""
        due = self._decisions.take(lambda span: (span + 1) * _SPAN_MINUTES + self.delay_minutes <= watermark_minute)
        if len(due):
            yield from self._judge(due)
        self._labels.take(lambda span: (span + 2) * _SPAN_MINUTES + self.delay_minutes <= watermark_minute)

    def changes(self) -> Changes:
        """What changed since `saved`."""
        changes = [pieces.changes() for pieces in (self._decisions, self._labels)]
        changed = {name: value for one in changes for name, value in one.changed.items()}
        if self._changed_sampling:
            changed[_SAMPLING] = str(self._sampling).encode()
        return Changes(changed, [name for one in changes for name in one.removed])

    def saved(self) -> None:
        """All that `changes` gave last is on the disk."""
        self._decisions.saved()
        self._labels.saved()
        self._changed_sampling = False

    def restore(self, kept: Mapping[str, bytes]) -> None:
        """Take up what was kept; ValueError or KeyError if it means nothing."""
        self._sampling = int(kept.get(_SAMPLING, b"0"))
        pieces = {"decision": self._decisions, "label": self._labels}
        for name, value in kept.items():
            if name != _SAMPLING:
                kind, span, number = name.split(" ")
                pieces[kind].restore(int(span), int(number), value)

    def _sampled(self, ids: Int64) -> npt.NDArray[np.bool_]:
        mask: npt.NDArray[np.bool_] = _hashed(ids) & np.uint64(self.sampled_one_of - 1) == 0
        return mask

    def _make_room(self) -> None:
        while self.rows > self.capacity:
            self._sampling += 1
            self._changed_sampling = True
            for pieces in (self._decisions, self._labels):
                pieces.filter(lambda rows: self._sampled(rows["id"]))

    def _judge(self, due: Rows) -> Iterator[Matured]:
        """Count decisions by what became of them."""
        labels = self._labels.all()
        labels = labels[np.lexsort((labels["minute"], labels["id"]))]
        first, at = np.searchsorted(labels["id"], due["id"], "left"), np.searchsorted(labels["id"], due["id"], "right")
        at -= 1
        until = due["minute"].astype(np.int64) + self.delay_minutes
        while len(labels) and (late := (at >= first) & (labels["minute"][at] > until)).any():
            at[late] -= 1
        outcome = np.full(len(due), OUTCOMES.index("unlabelled"), np.int64)
        known = at >= first
        outcome[known] = labels["fraud"][at[known]]
        cell = (due["score_bin"].astype(np.int64) * OUTCOME_SHAPE[1] + due["decision"]) * OUTCOME_SHAPE[2] + outcome
        for release in np.unique(due["release"]).tolist():
            mine = due["release"] == release
            minutes, group = np.unique(until[mine], return_inverse=True)
            place = group * OUTCOME_WIDTH + cell[mine]
            counts = np.bincount(place, minlength=len(minutes) * OUTCOME_WIDTH).reshape(-1, OUTCOME_WIDTH)
            yield Matured(release, minutes, counts.astype(np.int64) * self.sampled_one_of)


class _Pieces:
    """Rows of one kind, by span of minutes, in pieces that a checkpoint keeps one by one."""

    def __init__(self, kind: str, dtype: np.dtype[Any]) -> None:
        self.rows = 0
        self._kind = kind
        self._dtype = dtype
        self._spans: dict[int, list[Rows]] = {}
        self._changed: set[tuple[int, int]] = set()
        self._removed: set[tuple[int, int]] = set()

    def add(self, rows: Rows) -> None:
        spans = rows["minute"] // _SPAN_MINUTES
        for span in np.unique(spans).tolist():
            pieces = self._spans.setdefault(span, [])
            mine = rows[spans == span]
            if pieces and len(pieces[-1]) < _PIECE_ROWS:
                pieces[-1] = np.concatenate([pieces[-1], mine])
            else:
                pieces.append(mine)
            self._mark(span, len(pieces) - 1)
        self.rows += len(rows)

    def all(self) -> Rows:
        return self._joined([piece for pieces in self._spans.values() for piece in pieces])

    def take(self, is_due: Any) -> Rows:
        """Drop the spans that are due; what they held."""
        taken: list[Rows] = []
        for span in [span for span in sorted(self._spans) if is_due(span)]:
            pieces = self._spans.pop(span)
            for number in range(len(pieces)):
                self._changed.discard((span, number))
                self._removed.add((span, number))
            taken += pieces
        self.rows -= sum(map(len, taken))
        return self._joined(taken)

    def filter(self, is_kept: Any) -> None:
        for span, pieces in self._spans.items():
            pieces[:] = [piece[is_kept(piece)] for piece in pieces]
            for number in range(len(pieces)):
                self._mark(span, number)
        self.rows = sum(len(piece) for pieces in self._spans.values() for piece in pieces)

    def changes(self) -> Changes:
        return Changes(
            {self._name(key): self._spans[key[0]][key[1]].tobytes() for key in self._changed},
            [self._name(key) for key in self._removed],
        )

    def saved(self) -> None:
        self._changed.clear()
        self._removed.clear()

    def restore(self, span: int, number: int, value: bytes) -> None:
        pieces = self._spans.setdefault(span, [])
        while len(pieces) <= number:
            pieces.append(np.empty(0, self._dtype))
        pieces[number] = np.frombuffer(value, self._dtype).copy()
        self.rows += len(pieces[number])

    def _mark(self, span: int, number: int) -> None:
        self._changed.add((span, number))
        self._removed.discard((span, number))

    def _joined(self, pieces: list[Rows]) -> Rows:
        return np.concatenate(pieces) if pieces else np.empty(0, self._dtype)

    def _name(self, key: tuple[int, int]) -> str:
        return f"{self._kind} {key[0]} {key[1]}"


def _hashed(ids: Int64) -> npt.NDArray[np.uint64]:
    """SplitMix64: every bit of the result depends on every bit of the id."""
    z = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed
