"""Every release's drift monitor, fed second by second: evidence and alerts that outlive the process.

A look goes in once, in the order of the log's seconds; what a monitor remembers is kept with the counts that it has
seen, so that evidence is neither lost nor gathered twice.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from drift_sidecar.checkpoint import Changes
from drift_sidecar.evidence import LOOK_SECONDS
from drift_sidecar.ledger import Ledger
from drift_sidecar.looks import Look
from drift_sidecar.monitor import DriftMonitor, MonitorSettings
from drift_sidecar.outcomes import OUTCOME_SHAPE
from drift_sidecar.quality import LABEL_SERIES, LabelEvidence, calibration_check, label_threshold
from drift_sidecar.statistics import Effect, effect
from fraud_scoring.decision_log.batches import Int64
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.releases import release_name

PAGES_KEPT: Final = 50
LABEL_ALERT_MINUTES: Final = 1440
"""An alert of labels stands for so long: the evidence begins again when it crosses, and cannot say when it is over."""
_PAGES: Final = "pages"


@dataclass(frozen=True)
class PageRecord:
    """An alert that began: in which minute, and since when, as far as can be told, the series has moved."""

    release: int
    series: str
    minute: int
    since_minute: int
    reason: str


@dataclass(frozen=True)
class LabelFinding:
    """How the labels of a release stand against its scores. `log10_evidence` is log10 V, V in minutes; it crosses at
    `log10_threshold`. While in alert: since when (minutes since 1970), and why."""

    log10_evidence: float
    log10_threshold: float
    alert: bool
    since_minute: int
    reason: str


@dataclass
class _Watch:
    """A monitor, the reference it is for, and the last second that it saw."""

    monitor: DriftMonitor
    labels: LabelEvidence
    reference_sha256: str
    last_second: int = 0
    last_label_minute: int = 0
    labels_crossed_minute: int = 0
    labels_reason: str = ""


class Judge:
    """The monitors of all releases that the ledger knows."""

    def __init__(self, ledger: Ledger, settings: MonitorSettings, report: Callable[[str], None]) -> None:
        self.pages: deque[PageRecord] = deque(maxlen=PAGES_KEPT)
        """The alerts that began last, oldest first."""
        self._ledger = ledger
        self._settings = settings
        self._report = report
        self._watches: dict[int, _Watch] = {}
        self._kept: dict[int, bytes] = {}
        """What a checkpoint kept of monitors that have not been asked for yet."""
        self._changed: set[int] = set()
        self._removed: set[int] = set()
        self._pages_changed = False

    def look(self, looks: Iterable[Look]) -> None:
        """Take in looks, in the order of their seconds."""
        for one in looks:
            watch = self._watch(one.release)
            if watch is None or len(one.counts) != watch.monitor.reference.layout.width:
                continue
            passed = max(0, one.second - watch.last_second) if watch.last_second else LOOK_SECONDS
            pages = watch.monitor.look(one.hour, one.counts, passed / 60.0)
            watch.last_second = max(watch.last_second, one.second)
            self._changed.add(one.release)
            for page in pages:
                minute, since = one.second // 60, round(one.second / 60.0 - page.since_minutes)
                self._page(PageRecord(one.release, page.series, minute, min(since, minute), page.reason))

    def look_at_labels(self, release: int, minute: int, outcomes: Int64) -> None:
        """Take in the outcomes [OUTCOME_WIDTH] of the decisions that matured up to a minute."""
        watch = self._watch(release)
        if watch is None:
            return
        passed = max(0, minute - watch.last_label_minute) if watch.last_label_minute else 1
        table = outcomes.reshape(OUTCOME_SHAPE)
        crossed = watch.labels.look(table, float(passed))
        watch.last_label_minute = max(watch.last_label_minute, minute)
        self._changed.add(release)
        if crossed:
            found = calibration_check(table, watch.monitor.reference.calibration)
            reason = f"{found.observed:,} frauds among {found.rows:,} labelled rows, {found.expected:,.0f} foreseen"
            self._page(PageRecord(release, LABEL_SERIES, minute, minute - passed, reason))
            watch.labels_crossed_minute, watch.labels_reason = minute, reason

    def monitor(self, release: int) -> DriftMonitor | None:
        """The monitor of a release; None where it has no reference that fits."""
        watch = self._watch(release)
        return watch.monitor if watch else None

    def label_finding(self, release: int, now_minute: int) -> LabelFinding | None:
        """How a release's labels stand now; None where it has no reference that fits."""
        watch = self._watch(release)
        if watch is None:
            return None
        return LabelFinding(
            log10_evidence=float(np.log10(max(watch.labels.value, 1e-9))),
            log10_threshold=float(np.log10(watch.labels.threshold)),
            alert=bool(watch.labels_crossed_minute) and now_minute - watch.labels_crossed_minute < LABEL_ALERT_MINUTES,
            since_minute=watch.labels_crossed_minute,
            reason=watch.labels_reason,
        )

    def forget(self, release: int) -> None:
        """Drop a release."""
        self._watches.pop(release, None)
        self._kept.pop(release, None)
        self._changed.discard(release)
        self._removed.add(release)

    def changes(self) -> Changes:
        """What changed since `saved`."""
        changed = {str(release): self._dump(release) for release in self._changed}
        if self._pages_changed:
            changed[_PAGES] = json.dumps([asdict(page) for page in self.pages]).encode()
        return Changes(changed, [str(release) for release in self._removed])

    def saved(self) -> None:
        """All that `changes` gave last is on the disk."""
        self._changed.clear()
        self._removed.clear()
        self._pages_changed = False

    def restore(self, kept: Mapping[str, bytes]) -> None:
        """Take up what was kept; ValueError, KeyError or TypeError if it means nothing."""
        self.pages.extend(PageRecord(**page) for page in json.loads(kept.get(_PAGES, b"[]")))
        self._kept = {int(name): value for name, value in kept.items() if name != _PAGES}

    def _page(self, page: PageRecord) -> None:
        self.pages.append(page)
        self._pages_changed = True
        self._report(f"ALERT release {release_name(page.release)}: {page.series} moved: {page.reason}")

    def _watch(self, release: int) -> _Watch | None:
        """The watch of a release; a new one where its reference is another than before."""
        reference = self._ledger.reference(release)
        if reference is None:
            return None
        sha256 = self._ledger.reference_sha256(release)
        known = self._watches.get(release)
        if known is None or known.reference_sha256 != sha256:
            monitor = DriftMonitor(reference, self._settings)
            threshold = label_threshold(monitor.null.series, self._settings.false_pages_per_month)
            labels = LabelEvidence(reference.calibration, threshold, self._settings.tolerance)
            known = _Watch(monitor, labels, sha256)
            self._take_up(release, known)
            self._watches[release] = known
            self._removed.discard(release)
        return known

    def _take_up(self, release: int, watch: _Watch) -> None:
        """Give a new watch what a checkpoint kept of it."""
        head, _, remembered = self._kept.pop(release, b"").partition(b"\n")
        if not head:
            return
        document = json.loads(head)
        if document["reference_sha256"] != watch.reference_sha256:
            return
        try:
            watch.monitor.restore(remembered)
            watch.labels.wealth[:] = document["label_wealth"]
            watch.last_second, watch.last_label_minute = document["last_second"], document["last_label_minute"]
            watch.labels_crossed_minute = document.get("labels_crossed_minute", 0)
            watch.labels_reason = document.get("labels_reason", "")
        except (InvalidDefinition, ValueError, KeyError) as error:
            self._report(f"release {release_name(release)}: {error}")

    def _dump(self, release: int) -> bytes:
        watch = self._watches[release]
        head = {
            "reference_sha256": watch.reference_sha256,
            "last_second": watch.last_second,
            "last_label_minute": watch.last_label_minute,
            "labels_crossed_minute": watch.labels_crossed_minute,
            "labels_reason": watch.labels_reason,
            "label_wealth": watch.labels.wealth.tolist(),
        }
        return json.dumps(head).encode() + b"\n" + watch.monitor.dump()


def window_effects(monitor: DriftMonitor, counts: Int64, hours: Int64) -> tuple[Effect, ...]:
    """Effect sizes of a window for every series: `counts` (Reference.layout) of rows in the hours of the week [168]."""
    layout, wanted = monitor.reference.layout, monitor.settings.materiality
    found = []
    for number in range(len(layout.names)):
        shares, rows = monitor.null.expected(number, hours)
        binned = monitor.reference.binned[number] if number < len(monitor.reference.binned) else None
        cells = counts[layout.of(number)].astype(np.float64)
        found.append(effect(shares, rows, cells, binned, tolerance=wanted.psi, level=wanted.level))
    return tuple(found)
