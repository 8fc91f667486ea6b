"""A timeline says what the log shows: who answered, what changed, what was missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fraud_recovery.timeline import MINUTE_US, Timeline, document, markdown, timeline
from fraud_scoring import wire
from fraud_scoring.decision_log import Context, Decisions, Gap, Labels, LogWriter, Signer

START_US = 1_772_409_600_000_000
"""A full minute."""


class Clock:
    def __init__(self) -> None:
        self.now_us = START_US

    def __call__(self) -> int:
        return self.now_us


def frame(release: int, source: wire.Source, decisions: list[int], **more: int) -> Decisions:
    n = len(decisions)
    verdict = np.zeros((n, wire.VERDICT_WIDTH), np.int32)
    verdict[:, wire.VERDICT_COLUMNS.index("decision")] = decisions
    verdict[:, wire.VERDICT_COLUMNS.index("release")] = release
    verdict[:, wire.VERDICT_COLUMNS.index("source")] = source
    return Decisions(
        transaction=np.ones((n, 5), np.int64),
        features=np.empty((n, 0), np.float32),
        score=np.zeros(n, np.float32),
        verdict=verdict,
        repeat=np.zeros(n, np.bool_),
        deadline_left_us=np.zeros(n, np.int64),
        stage_us=np.full(4, 250, np.int64),
        **more,
    )


@pytest.fixture
def found(tmp_path: Path) -> Timeline:
    """A canary begins, a fallback answers for a minute, the disk is full, the front door is started anew."""
    clock, signer = Clock(), Signer.open(tmp_path / "key")
    folder = tmp_path / "log" / "front-door-0"

    def at(minute: float) -> None:
        clock.now_us = START_US + round(minute * MINUTE_US)

    writer = LogWriter(folder, Context(1, "{}"), signer, now_us=clock)
    at(0.1)
    writer.append(frame(1, wire.Source.PRIMARY, [0, 0, 1, 2]))
    at(1.0)
    writer.append(frame(1, wire.Source.PRIMARY, [0, 0]))
    writer.append(frame(2, wire.Source.CANARY, [0]))
    at(2.0)
    writer.append(frame(0, wire.Source.SCORECARD, [1, 1], refused=3, failed=2))
    at(3.0)
    writer.append(frame(1, wire.Source.PRIMARY, [0]))
    writer.append(Gap(START_US + 2 * MINUTE_US, 17, "No space left on device"))
    writer.append(Labels(np.ones((5, 3), np.int64)))
    writer.close()
    at(3.5)
    again = LogWriter(folder, Context(1, "{}"), signer, now_us=clock)
    at(4.0)
    again.append(frame(1, wire.Source.PRIMARY, [0]))
    again.close()
    journal = tmp_path / "judge.jsonl"
    journal.write_text(json.dumps({"at_us": START_US + 1, "kind": "step", "share": 500}) + "\n")
    return timeline(tmp_path / "log", START_US, START_US + 10 * MINUTE_US, journal)


def kinds(found: Timeline) -> set[tuple[int, str]]:
    """What happened in which minute."""
    return {((event.at_us - START_US) // MINUTE_US, event.kind) for event in found.events}


def test_what_changed_is_told_in_order(found: Timeline) -> None:
    moments = [event.at_us for event in found.events]
    assert moments == sorted(moments)
    assert {(0, "restart"), (0, "judge"), (1, "routes"), (2, "fallback"), (3, "gap"), (3, "restart")} <= kinds(found)
    said = "\n".join(event.what for event in found.events)
    assert "canary: r0002 from now on; before: nobody" in said
    assert "fallbacks begin: 100.0% of 2 (scorecard 2)" in said
    assert "fallbacks are over" in said
    assert "17 answers are not in the log, since 2026-03-02 00:02:00: No space left on device" in said
    assert "front-door-0 began anew, 30.0 s after its last frame" in said


def test_each_minute_says_what_was_decided_and_by_whom(found: Timeline) -> None:
    minutes = document(found)["minutes"]
    first, second, third, fourth, _ = minutes
    assert (first["answers"], first["approve"], first["review"], first["decline"]) == (4, 2, 1, 1)
    assert second["answered_by"] == {"r0001 primary": 2, "r0002 canary": 1}
    assert (third["fallbacks"], third["refused"], third["failed"]) == (2, 3, 2)
    assert fourth["labels"] == 5
    assert first["batch_p99_ms"] == 1.0


def test_what_lies_outside_is_left_out(found: Timeline, tmp_path: Path) -> None:
    later = timeline(tmp_path / "log", START_US + 4 * MINUTE_US, START_US + 5 * MINUTE_US)
    assert [minute["answers"] for minute in document(later)["minutes"]] == [1]
    assert "began" not in str(later.events)


def test_the_page_has_a_line_for_each_event_and_each_minute(found: Timeline) -> None:
    lines = markdown(found).splitlines()
    assert lines[0] == "## Timeline, 2026-03-02 00:00:00 to 2026-03-02 00:10:00 UTC"
    assert len([line for line in lines if line.startswith("| 00:0")]) == len(found.events) + len(found.minutes)
    assert all(line.count("|") == 12 for line in lines if "primary" in line and "%" in line)
