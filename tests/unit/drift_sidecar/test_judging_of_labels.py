"""Labels that disagree with the scores are an alert for a day, which a restart does not forget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drift_sidecar.judging import LABEL_ALERT_MINUTES, Judge, LabelFinding
from drift_sidecar.ledger import Ledger
from drift_sidecar.monitor import MonitorSettings
from drift_sidecar.outcomes import OUTCOME_SHAPE, OUTCOMES
from fraud_scoring import wire
from support.decision_logs import Traffic, write_reference
from support.rows import Int64

MINUTE = 29_540_000


def outcomes(frauds: int, rows: int = 1_000) -> Int64:
    """What became of approved payments that were scored between 3% and 10%."""
    table = np.zeros(OUTCOME_SHAPE, np.int64)
    table[4, wire.Decision.APPROVE, OUTCOMES.index("fraud")] = frauds
    table[4, wire.Decision.APPROVE, OUTCOMES.index("unlabelled")] = rows - frauds
    return table.reshape(-1)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_reference(tmp_path, Traffic(np.random.default_rng(1)), rows=3_000)
    return tmp_path


def judge(repository: Path) -> Judge:
    ledger = Ledger(repository, 2, lambda line: None)
    ledger.see(7, MINUTE)
    return Judge(ledger, MonitorSettings(), lambda line: None)


def finding(judge: Judge, minute: int) -> LabelFinding:
    found = judge.label_finding(7, minute)
    assert found is not None
    return found


def test_labels_that_the_scores_foresaw_are_no_alert(repository: Path) -> None:
    watched = judge(repository)
    for minute in range(MINUTE, MINUTE + 50):
        watched.look_at_labels(7, minute, outcomes(frauds=50))
    found = finding(watched, MINUTE + 50)
    assert not found.alert
    assert found.log10_evidence < found.log10_threshold
    assert not watched.pages


def test_frauds_that_no_score_foresaw_are_an_alert_with_its_reason_for_a_day(repository: Path) -> None:
    watched = judge(repository)
    watched.look_at_labels(7, MINUTE, outcomes(frauds=400))
    found = finding(watched, MINUTE + 1)
    assert (found.alert, found.since_minute) == (True, MINUTE)
    assert found.reason.startswith("400 frauds among 1,000 labelled rows")
    assert [(page.series, page.minute) for page in watched.pages] == [("labels", MINUTE)]
    assert finding(watched, MINUTE + LABEL_ALERT_MINUTES - 1).alert
    assert not finding(watched, MINUTE + LABEL_ALERT_MINUTES).alert


def test_a_restart_forgets_neither_the_alert_nor_what_was_gathered(repository: Path) -> None:
    watched = judge(repository)
    watched.look_at_labels(7, MINUTE, outcomes(frauds=400))
    watched.look_at_labels(7, MINUTE + 1, outcomes(frauds=70))
    again = judge(repository)
    again.restore(watched.changes().changed)
    assert finding(again, MINUTE + 2) == finding(watched, MINUTE + 2)
    assert finding(again, MINUTE + 2).alert


def test_a_release_without_a_reference_has_no_finding(tmp_path: Path) -> None:
    assert judge(tmp_path).label_finding(7, MINUTE) is None
