"""The figures as Prometheus metrics: drawn from a picture when they are asked for, with no state of their own.

Cardinality is bounded: at most `keep_releases` releases, a series for each feature of a schema, three windows, one
writer for each process that ever wrote into the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from drift_sidecar import traffic
from drift_sidecar.alerts import State
from drift_sidecar.picture import Picture, ReleasePicture
from fraud_scoring import wire
from fraud_scoring.decision_log import STAGES
from fraud_scoring.decision_log.batches import Int64
from fraud_scoring.releases import release_name

EFFECTS: Final = ("psi", "ks", "js", "wasserstein")
PERFORMANCE: Final = {
    "estimated_precision": "Precision that is expected from the calibrated scores (CBPE), before any label.",
    "estimated_recall": "Recall that is expected from the calibrated scores (CBPE), before any label.",
    "realised_precision": "Precision by labels, of decisions that are old enough to have theirs.",
    "realised_recall": "Recall by labels, of decisions that are old enough to have theirs.",
    "calibration_error": "Mean distance between the score and the share of frauds, by bin of the score.",
}
_DECISIONS: Final = [decision.name.lower() for decision in wire.Decision]
_SOURCES: Final = [source.name.lower() for source in wire.Source]


class SidecarCollector(Collector):
    """Turns the picture that `picture` gives into metric families; `clock` is the picture's monotonic clock."""

    def __init__(self, picture: Callable[[], Picture], clock: Callable[[], float]) -> None:
        self._picture = picture
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """All families."""
        picture = self._picture()
        yield from _traffic(picture)
        yield from _releases(picture.releases)
        yield from _drift(picture.releases)
        yield from _labels(picture.releases)
        yield from _progress(picture, self._clock())


def exposition(picture: Callable[[], Picture], clock: Callable[[], float]) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SidecarCollector(picture, clock))
    return generate_latest(registry)


def _traffic(picture: Picture) -> Iterator[Metric]:
    """Volume, refusals, failures and times."""
    flow = picture.flow
    answers = CounterMetricFamily(
        "fraud_transactions",
        "Transactions decided, each once, by who decided.",
        labels=["release", "decision", "source"],
    )
    for release in picture.releases:
        for cell, count in enumerate(traffic.MIX.of(release.mix).tolist()):
            decision, source = divmod(cell, len(_SOURCES))
            answers.add_metric([release_name(release.release), _DECISIONS[decision], _SOURCES[source]], count)
    yield answers
    for name, text, part in (
        ("fraud_repeats", "Answers given from what was recorded before.", traffic.REPEATS),
        ("fraud_refused_requests", "Requests that broke a rule.", traffic.REFUSED),
        (
            "fraud_failed_requests",
            "Requests that the front door answered with an error that was not the caller's.",
            traffic.FAILED,
        ),
        (
            "fraud_gap_answers",
            "Answers of the last resort, given while the log could not be written.",
            traffic.GAP_ANSWERS,
        ),
        ("fraud_late_answers", "Answers that were ready after their deadline.", traffic.LATE),
    ):
        yield CounterMetricFamily(name, text, value=int(part.of(flow)[0]))
    labels = CounterMetricFamily("fraud_labels", "Labels that came and broke no rule.", labels=["is_fraud"])
    for is_fraud, count in enumerate(traffic.LABELS.of(flow).tolist()):
        labels.add_metric([str(is_fraud)], count)
    yield labels
    front_door = HistogramMetricFamily(
        "fraud_front_door_seconds", "Time of each answer's batch in the front door, repeats included."
    )
    front_door.add_metric([], *_histogram(traffic.FRONT_DOOR.of(flow), traffic.FRONT_DOOR_US))
    yield front_door
    stages = HistogramMetricFamily(
        "fraud_stage_seconds", "Time of each batch in a stage of the front door.", labels=["stage"]
    )
    for stage, part in zip(STAGES, traffic.STAGE, strict=True):
        stages.add_metric([stage], *_histogram(part.of(flow), traffic.STAGE_US))
    yield stages
    left = HistogramMetricFamily(
        "fraud_deadline_left_seconds", "What was left of the caller's deadline when the answer was ready."
    )
    left.add_metric([], *_histogram(traffic.DEADLINE_LEFT.of(flow), traffic.DEADLINE_LEFT_US))
    yield left


def _releases(releases: Iterable[ReleasePicture]) -> Iterator[Metric]:
    """What each release decided and how well."""
    scores = HistogramMetricFamily("fraud_score", "Calibrated scores of new decisions.", labels=["release"])
    info = GaugeMetricFamily("fraud_release_info", "1 for each release that is followed.", labels=["release"])
    mismatch = GaugeMetricFamily(
        "fraud_reference_mismatch",
        "1 where a release has no reference, or one of another schema than the log's.",
        labels=["release"],
    )
    ratio = GaugeMetricFamily(
        "fraud_decision_ratio", "Share of each decision in a window.", labels=["release", "decision", "window"]
    )
    foreseen = GaugeMetricFamily(
        "fraud_reference_decision_ratio", "Share of each decision in the reference.", labels=["release", "decision"]
    )
    performance = {
        name: GaugeMetricFamily(f"fraud_{name}", text, labels=["release"]) for name, text in PERFORMANCE.items()
    }
    for release in releases:
        name = release_name(release.release)
        scores.add_metric([name], *_histogram(traffic.SCORES.of(release.mix), traffic.SCORE_MILLIONTHS))
        info.add_metric([name], 1)
        mismatch.add_metric([name], int(bool(release.mismatch)))
        for window, mix in release.mix_by_window.items():
            for decision, share in decision_shares(mix).items():
                ratio.add_metric([name, decision, window], share)
        if release.reference is not None:
            for decision, count in zip(_DECISIONS, release.reference.decisions.tolist(), strict=True):
                foreseen.add_metric([name, decision], count / max(1, release.reference.rows))
        for metric, value in release.performance.items():
            performance[metric].add_metric([name], value)
    yield from (scores, info, mismatch, ratio, foreseen, *performance.values())


def _drift(releases: Iterable[ReleasePicture]) -> Iterator[Metric]:
    """What moved."""
    labels = ["release", "feature"]
    effects = GaugeMetricFamily(
        "fraud_drift_effect",
        "Distance from what the reference foresees; wasserstein in its standard deviations, js in bits.",
        labels=[*labels, "statistic", "window"],
    )
    evidence = GaugeMetricFamily(
        "fraud_drift_evidence",
        "log10 of the e-detector's value, which may be looked at at any time; its threshold where it was crossed.",
        labels=labels,
    )
    alert = GaugeMetricFamily("fraud_drift_alert", "1 while there is evidence and the change matters.", labels=labels)
    missing = GaugeMetricFamily(
        "fraud_feature_missing_ratio", "Share of missing values within the last hour.", labels=labels
    )
    for release in releases:
        for series in release.series:
            where = [release_name(release.release), series.name]
            for window, effect in series.effects.items():
                for statistic in EFFECTS:
                    effects.add_metric([*where, statistic, window], getattr(effect, statistic))
            finding = series.finding
            crossed = finding.log10_threshold if finding.state != State.OK else finding.log10_evidence
            evidence.add_metric(where, max(finding.log10_evidence, crossed))
            alert.add_metric(where, int(series.finding.state == State.ALERT))
            if "1h" in series.missing:
                missing.add_metric(where, series.missing["1h"])
    yield from (effects, evidence, alert, missing)


def _labels(releases: Iterable[ReleasePicture]) -> Iterator[Metric]:
    """Whether what is fraud at a given score is what it was."""
    evidence = GaugeMetricFamily(
        "fraud_label_evidence",
        "log10 of the e-detector's value for matured labels against the scores; its threshold while in alert.",
        labels=["release"],
    )
    alert = GaugeMetricFamily(
        "fraud_label_alert", "1 for a day after the evidence of labels crossed its threshold.", labels=["release"]
    )
    for release in releases:
        if (finding := release.labels) is not None:
            shown = max(finding.log10_evidence, finding.log10_threshold if finding.alert else finding.log10_evidence)
            evidence.add_metric([release_name(release.release)], shown)
            alert.add_metric([release_name(release.release)], int(finding.alert))
    yield from (evidence, alert)


def _progress(picture: Picture, now: float) -> Iterator[Metric]:
    """How far the count is behind the log."""
    seconds = GaugeMetricFamily(
        "fraud_log_lag_seconds", "Age of the oldest frame that is not counted yet.", labels=["writer"]
    )
    behind = GaugeMetricFamily("fraud_log_lag_bytes", "Bytes that are not counted yet.", labels=["writer"])
    damaged = GaugeMetricFamily(
        "fraud_log_damaged", "1 while a writer's log cannot be read on from where it was left.", labels=["writer"]
    )
    for lag in picture.progress.lags:
        seconds.add_metric([lag.writer], lag.seconds)
        behind.add_metric([lag.writer], lag.bytes)
        damaged.add_metric([lag.writer], int(bool(lag.damage)))
    free = GaugeMetricFamily("fraud_log_free_bytes", "What can still be written on the disk of the decision log.")
    if picture.progress.log_free_bytes is not None:
        free.add_metric([], picture.progress.log_free_bytes)
    yield from (seconds, behind, damaged, free)
    yield GaugeMetricFamily(
        "fraud_checkpoint_age_seconds",
        "Time since the last checkpoint was written.",
        value=max(0.0, now - picture.progress.checkpoint_at),
    )
    yield CounterMetricFamily("fraud_sidecar_rows", "Rows counted, of decisions and labels.", value=picture.rows)


def decision_shares(mix: Int64) -> Mapping[str, float]:
    """Share of each decision in a mix vector."""
    counts = traffic.MIX.of(mix).reshape(len(_DECISIONS), len(_SOURCES)).sum(axis=1)
    return {name: float(count / max(1, counts.sum())) for name, count in zip(_DECISIONS, counts, strict=True)}


def _histogram(part: Int64, bounds: tuple[int, ...]) -> tuple[list[tuple[str, float]], float]:
    """(cumulative buckets, sum) in units of a million of the part's."""
    below = part[:-1].cumsum().tolist()
    names = [floatToGoString(bound / 1e6) for bound in bounds] + ["+Inf"]  # type: ignore[no-untyped-call]
    return list(zip(names, below, strict=True)), float(part[-1]) / 1e6
