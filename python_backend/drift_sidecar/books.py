"""Everything that is counted, and how far: what one look at the log changes, and what a checkpoint keeps of it.

`apply` takes all of a look's frames into all counts, and `sections` gives the counts to the checkpoint together with
the positions they go up to: there is no moment at which one is kept without the other.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from drift_sidecar import traffic
from drift_sidecar.checkpoint import Changes, Kept, Section
from drift_sidecar.counters import Counters
from drift_sidecar.judging import Judge
from drift_sidecar.ledger import Ledger
from drift_sidecar.looks import LOOK_US, Looks
from drift_sidecar.outcomes import OUTCOMES, Outcomes, outcome_series
from drift_sidecar.settings import SidecarSettings
from drift_sidecar.traffic import FLOW, Minutes, mix_series
from fraud_scoring import wire
from fraud_scoring.decision_log import STAGES
from fraud_scoring.decision_log.batches import MINUTE_US, Batch
from fraud_scoring.decision_log.tail import Place, Taken
from fraud_scoring.reference import HOURS, OWN_BINS, SUMS, compared, count_groups, hour_of_week

MEANING: Final = zlib.crc32(
    repr(
        [
            (
                traffic.FRONT_DOOR_US,
                traffic.STAGE_US,
                traffic.DEADLINE_LEFT_US,
                traffic.SCORE_MILLIONTHS,
                STAGES,
                LOOK_US,
            ),
            (list(wire.Decision), list(wire.Source), OUTCOMES, OWN_BINS, SUMS),
            list(traffic.FLOW_WIDTHS.items()),
        ]
    ).encode()
)
"""Of what the places of the vectors mean: counts of other code are not taken up."""


def drift_series(release: int) -> str:
    """The name under which a release's rows are counted on its reference."""
    return f"drift/{release}"


def hours_series(release: int) -> str:
    """The name under which the same rows are counted by hour of the week, of the transactions' own time."""
    return f"hours/{release}"


def series_of(release: int) -> tuple[str, ...]:
    """All names under which a release is counted."""
    return mix_series(release), drift_series(release), hours_series(release), outcome_series(release)


class Books:
    """All counts; `apply` and `go_on` change them, and `sections` is what a checkpoint keeps."""

    def __init__(self, settings: SidecarSettings, now_us: Callable[[], int], report: Callable[[str], None]) -> None:
        self.settings = settings
        self.counters = Counters()
        self.outcomes = Outcomes(settings.label_delay_minutes, settings.outcome_rows)
        self.ledger = Ledger(settings.repository, settings.keep_releases, report)
        self.looks = Looks()
        self.judge = Judge(self.ledger, settings.monitor, report)
        self.places: dict[str, Place] = {}
        self.rows = 0
        """Rows counted in all, of decisions and labels, by whatever process."""
        self.sections: dict[str, Section] = {
            "progress": _Progress(self),  # first: it knows whether the others mean anything
            "counts": self.counters,
            "looks": self.looks,
            "monitors": self.judge,
            "outcomes": self.outcomes,
            "releases": self.ledger,
        }
        """What a checkpoint keeps."""
        self._now_us = now_us

    def restore(self, kept: Kept) -> None:
        """Take up a checkpoint; ValueError, KeyError or TypeError if it means nothing to this code."""
        if kept:
            for name, section in self.sections.items():
                section.restore(kept.get(name, {}))
            for release in self.ledger.releases:
                if self.ledger.reference(release) is not None:
                    self._drop_counts_on_another_reference(release)

    def apply(self, taken: Taken, places: Mapping[str, Place]) -> None:
        """Count what a look brought; `places` are behind it."""
        now_minute = self._now_us() // MINUTE_US
        for release, schema in taken.contexts.items():
            self.ledger.pin(release, schema)
        for batch in taken.batches:
            self._count(_known_codes(batch), now_minute)
        for labels in taken.labels:
            self.counters.add(FLOW, *traffic.count_labels(labels), now_minute)
            self.outcomes.add_labels(labels)
        for written_at_us, gap in taken.gaps:
            self.counters.add(FLOW, *traffic.count_gap(written_at_us, gap), now_minute)
        self.rows += taken.rows
        self.places = dict(places)

    def go_on(self, passed_us: int, judged_us: int) -> None:
        """Do what was waiting for the writers: all that are well have passed one moment, all of them the other."""
        self.judge.look(self.looks.take(passed_us // LOOK_US))
        now_minute = self._now_us() // MINUTE_US
        for release, minutes, vectors in self.outcomes.mature(judged_us // MINUTE_US):
            if release in self.ledger.releases:
                self.counters.add(outcome_series(release), minutes, vectors, now_minute)
                self.judge.look_at_labels(release, int(minutes[-1]), vectors.sum(axis=0))
        self.counters.prune(passed_us // MINUTE_US)

    def _count(self, batch: Batch, now_minute: int) -> None:
        """Count one batch of decisions."""
        groups = Minutes.of(batch)
        self.counters.add(FLOW, groups.minutes, traffic.count_flow(batch, groups), now_minute)
        if not len(batch):
            return
        self.outcomes.add_decisions(batch, groups)
        new = ~batch.decisions.repeat
        releases, minute = batch.decisions.verdict[new, 4], groups.minutes[groups.row[new]]
        last = {release: int(minute[releases == release].max()) for release in np.unique(releases).tolist()}
        for release in sorted(last, key=lambda number: (last[number], number)):
            for gone in self.ledger.see(release, last[release]):
                self._forget(gone)
            self.counters.add(
                mix_series(release), groups.minutes, traffic.count_mix(batch, groups, release), now_minute
            )
            self._count_drift(batch, groups, release, now_minute)

    def _drop_counts_on_another_reference(self, release: int) -> None:
        """A release that was trained again in place has other bins."""
        if self.ledger.reference_changed(release):
            self.counters.forget(drift_series(release))
            self.counters.forget(hours_series(release))
            self.looks.forget(release)

    def _forget(self, release: int) -> None:
        for series in series_of(release):
            self.counters.forget(series)
        self.looks.forget(release)
        self.judge.forget(release)

    def _count_drift(self, batch: Batch, groups: Minutes, release: int, now_minute: int) -> None:
        reference = self.ledger.reference_for(release, batch)
        if reference is None:
            return
        self._drop_counts_on_another_reference(release)
        kept = compared(reference, batch.decisions)
        hours_kept = hour_of_week(batch.decisions.transaction[kept, reference.time_column])
        hour = np.full(len(batch), hours_kept[0])
        hour[kept] = hours_kept
        # a live second lies in one hour of the week; what is sent again from a file may bring many hours in one
        seconds, of_frame = np.unique(batch.written_at_us // LOOK_US, return_inverse=True)
        cells, cell = np.unique(np.repeat(of_frame, batch.rows) * HOURS + hour, return_inverse=True)
        vectors = count_groups(reference, batch.decisions, cell, len(cells))
        second = seconds[cells // HOURS]
        self.looks.add(release, second, cells % HOURS, vectors)
        minute = second * LOOK_US // MINUTE_US
        starts = np.flatnonzero(np.diff(minute, prepend=-1))
        by_minute = np.add.reduceat(vectors, starts, axis=0)
        self.counters.add(drift_series(release), minute[starts], by_minute, now_minute)
        hours = np.zeros((len(groups.minutes), HOURS), np.int64)
        np.add.at(hours, (groups.row[kept], hour[kept]), 1)
        self.counters.add(hours_series(release), groups.minutes, hours, now_minute)


class _Progress:
    """How far the books go, as a section: one value for each writer, and one for all."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def changes(self) -> Changes:
        changed = {
            f"writer {name}": json.dumps(place.document()).encode() for name, place in self._books.places.items()
        }
        whole = {"meaning": MEANING, "rows": self._books.rows}
        return Changes({**changed, "whole": json.dumps(whole).encode()}, [])

    def saved(self) -> None:
        """Everything is written each time: it is small."""

    def restore(self, kept: Mapping[str, bytes]) -> None:
        whole = json.loads(kept["whole"])
        if whole["meaning"] != MEANING:
            raise ValueError("its counts are those of another version")
        self._books.rows = whole["rows"]
        self._books.places = {
            name.removeprefix("writer "): Place.parse(json.loads(value))
            for name, value in kept.items()
            if name != "whole"
        }


def _known_codes(batch: Batch) -> Batch:
    """The batch, with decisions within wire.Decision: a code that this version does not know must not stop it."""
    decision = batch.decisions.verdict[:, 0]
    known = np.clip(decision, 0, len(wire.Decision) - 1)
    if np.array_equal(known, decision):
        return batch
    verdict = batch.decisions.verdict.copy()
    verdict[:, 0] = known
    return replace(batch, decisions=replace(batch.decisions, verdict=verdict))
