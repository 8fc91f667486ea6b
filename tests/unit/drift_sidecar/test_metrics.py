"""The exposition holds exactly the contract's metrics, with the figures that the log gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fraud_scoring import wire
from fraud_scoring.decision_log import Decisions, read
from fraud_scoring.releases import release_name
from support.decision_logs import FRONT_DOOR, DecisionLog, decision_log, recount, write_reference
from support.sidecars import decisions_in, fetch, stepped, value

CONTRACT = {
    "fraud_transactions": ("counter", {"release", "decision", "source"}),
    "fraud_repeats": ("counter", set()),
    "fraud_refused_requests": ("counter", set()),
    "fraud_failed_requests": ("counter", set()),
    "fraud_gap_answers": ("counter", set()),
    "fraud_labels": ("counter", {"is_fraud"}),
    "fraud_front_door_seconds": ("histogram", set()),
    "fraud_stage_seconds": ("histogram", {"stage"}),
    "fraud_deadline_left_seconds": ("histogram", set()),
    "fraud_late_answers": ("counter", set()),
    "fraud_score": ("histogram", {"release"}),
    "fraud_release_info": ("gauge", {"release"}),
    "fraud_drift_effect": ("gauge", {"release", "feature", "statistic", "window"}),
    "fraud_drift_evidence": ("gauge", {"release", "feature"}),
    "fraud_drift_alert": ("gauge", {"release", "feature"}),
    "fraud_label_evidence": ("gauge", {"release"}),
    "fraud_label_alert": ("gauge", {"release"}),
    "fraud_feature_missing_ratio": ("gauge", {"release", "feature"}),
    "fraud_decision_ratio": ("gauge", {"release", "decision", "window"}),
    "fraud_reference_decision_ratio": ("gauge", {"release", "decision"}),
    "fraud_estimated_precision": ("gauge", {"release"}),
    "fraud_estimated_recall": ("gauge", {"release"}),
    "fraud_realised_precision": ("gauge", {"release"}),
    "fraud_realised_recall": ("gauge", {"release"}),
    "fraud_calibration_error": ("gauge", {"release"}),
    "fraud_reference_mismatch": ("gauge", {"release"}),
    "fraud_log_lag_seconds": ("gauge", {"writer"}),
    "fraud_log_lag_bytes": ("gauge", {"writer"}),
    "fraud_log_damaged": ("gauge", {"writer"}),
    "fraud_log_free_bytes": ("gauge", set()),
    "fraud_checkpoint_age_seconds": ("gauge", set()),
    "fraud_sidecar_rows": ("counter", set()),
}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DecisionLog]:
    with decision_log(tmp_path / "log", seed=21, repeats=0.03) as made:
        write_reference(tmp_path / "repository", made.traffic)
        yield made


def test_the_families_their_types_and_their_labels_are_the_contract(log: DecisionLog, tmp_path: Path) -> None:
    log.write(2_000, 20)
    log.label(np.arange(1, 50, dtype=np.int64) * 7919, np.arange(49) < 3)
    log.clock.now_us += 3 * 60 * 60_000_000
    log.write(500, 20)
    with stepped(log, tmp_path, label_delay_days=1 / 24) as sidecar:
        sidecar.step()
        families = list(text_string_to_metric_families(fetch(f"{sidecar.url}/metrics")[1]))
    found = {
        family.name: (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
        for family in families
    }
    empty = {name for name, (_, labels) in CONTRACT.items() if labels and not found.get(name, ("", set()))[1]}
    assert {name: kind for name, (kind, _) in found.items()} == {name: kind for name, (kind, _) in CONTRACT.items()}
    assert not empty, "a family without a sample"
    assert {name: labels for name, (_, labels) in found.items()} == {
        name: labels for name, (_, labels) in CONTRACT.items()
    }
    assert all(family.documentation for family in families)


def test_transactions_by_release_decision_and_source_are_exact(log: DecisionLog, tmp_path: Path) -> None:
    log.write(900, 9)
    log.traffic.release = 8
    log.write(300, 9, writer="front-door-1")
    expected: dict[tuple[str, str, str], int] = {}
    for (release, _, decision, source), count in recount(log.folder).items():
        key = (release_name(release), wire.Decision(decision).name.lower(), wire.Source(source).name.lower())
        expected[key] = expected.get(key, 0) + count
    with stepped(log, tmp_path) as sidecar:
        sidecar.step()
        assert decisions_in(fetch(f"{sidecar.url}/metrics")[1]) == expected


def test_histograms_are_cumulative_and_their_sums_are_those_of_the_log(log: DecisionLog, tmp_path: Path) -> None:
    log.write(900, 9)
    frames = [frame.content() for frame, _ in read(log.folder / FRONT_DOOR)]
    decisions = [content for content in frames if isinstance(content, Decisions)]
    with stepped(log, tmp_path) as sidecar:
        sidecar.step()
        found = sidecar.metrics()
    seconds = sum(int(content.stage_us.sum()) * len(content) for content in decisions) / 1e6
    assert value(found, "fraud_front_door_seconds_sum") == pytest.approx(seconds)
    assert value(found, "fraud_front_door_seconds_count") == 900
    within = sum(len(content) for content in decisions if content.stage_us.sum() <= 100_000)
    assert value(found, "fraud_front_door_seconds_bucket", le="0.1") == within
    assert value(found, "fraud_stage_seconds_count", stage="release") == 100
    release = sum(int(content.stage_us[2]) for content in decisions) / 1e6
    assert value(found, "fraud_stage_seconds_sum", stage="release") == pytest.approx(release)
    late = sum(int((content.deadline_left_us < 0).sum()) for content in decisions)
    assert value(found, "fraud_late_answers_total") == late
    below = [count for (name, labels), count in found.items() if name == "fraud_score_bucket"]
    assert max(below) == value(found, "fraud_score_count", release="r0007")
    new = np.concatenate([content.score[~content.repeat] for content in decisions]).astype(np.float64)
    assert value(found, "fraud_score_sum", release="r0007") == pytest.approx(new.sum(), abs=1e-3)
    assert value(found, "fraud_score_bucket", release="r0007", le="0.5") == (new <= 0.5).sum()


def test_ratios_are_shares_of_the_window(log: DecisionLog, tmp_path: Path) -> None:
    log.write(4_000, 20)
    log.clock.now_us += 30 * 60_000_000
    log.write(400, 20)
    with stepped(log, tmp_path) as sidecar:
        sidecar.step()
        found = sidecar.metrics()
    for window in ("5m", "1h", "1d"):
        shares = [value(found, "fraud_decision_ratio", release="r0007", decision=d, window=window) for d in DECISIONS]
        assert sum(shares) == pytest.approx(1)
    reference = [value(found, "fraud_reference_decision_ratio", release="r0007", decision=d) for d in DECISIONS]
    assert sum(reference) == pytest.approx(1)
    psi = {w: value(found, "fraud_drift_effect", **where("amount", "psi", w)) for w in ("5m", "1h")}
    assert psi["5m"] > psi["1h"] > 0, "ten times fewer rows stray further by chance"


DECISIONS = ("approve", "review", "decline")


def where(feature: str, statistic: str, window: str) -> dict[str, str]:
    return {"release": "r0007", "feature": feature, "statistic": statistic, "window": window}


def test_missing_values_show_as_a_ratio(log: DecisionLog, tmp_path: Path) -> None:
    log.traffic.missing = {"terminal_fraud_rate_7d": 0.25}
    log.write(8_000, 40)
    with stepped(log, tmp_path) as sidecar:
        sidecar.step()
        found = sidecar.metrics()
    ratio = value(found, "fraud_feature_missing_ratio", release="r0007", feature="terminal_fraud_rate_7d")
    assert ratio == pytest.approx(0.25, abs=0.03)
    assert value(found, "fraud_feature_missing_ratio", release="r0007", feature="amount") == 0
    assert value(found, "fraud_drift_alert", release="r0007", feature="terminal_fraud_rate_7d") == 1


def test_a_release_without_a_reference_is_a_mismatch(log: DecisionLog, tmp_path: Path) -> None:
    log.write(10)
    log.traffic.release = 9
    log.write(10, writer="front-door-1")
    with stepped(log, tmp_path) as sidecar:
        sidecar.step()
        found = sidecar.metrics()
    assert value(found, "fraud_reference_mismatch", release="r0007") == 0
    assert value(found, "fraud_reference_mismatch", release="r0009") == 1


def test_cardinality_stays_bounded_however_many_releases_come(log: DecisionLog, tmp_path: Path) -> None:
    for release in range(7, 27):
        log.traffic.release = release
        log.clock.now_us += 60_000_000
        log.write(5, 5)
    with stepped(log, tmp_path, keep_releases=3) as sidecar:
        sidecar.step()
        releases = {dict(labels).get("release") for _, labels in sidecar.metrics()} - {None}
    assert releases == {"r0024", "r0025", "r0026"}


def test_names_that_need_escaping_are_escaped(tmp_path: Path) -> None:
    writer = 'front "door" \\ <0>'
    with decision_log(tmp_path / "log") as log:
        log.write(5, writer=writer)
        with stepped(log, tmp_path) as sidecar:
            sidecar.step()
            assert value(sidecar.metrics(), "fraud_log_lag_bytes", writer=writer) == 0
