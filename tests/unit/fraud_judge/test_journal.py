"""The journal keeps every line that was acknowledged, and one judge writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fraud_judge.journal import JOURNAL_FILE, Journal, JournalUnusable, last_course, read_journal
from fraud_judge.signs import Baseline
from support.rollouts import rows

BEGUN = {
    "canary": 2,
    "production": 1,
    "salt": "s",
    "share": 500,
    "start_us": 10,
    "baseline": Baseline.of(rows(500)).document(),
    "places": {},
}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path, lambda: 17)
    yield made
    made.close()


def test_what_was_written_is_read_back(journal: Journal, tmp_path: Path) -> None:
    journal.write("begun", **BEGUN)
    assert read_journal(tmp_path) == [{"at_us": 17, "kind": "begun", **BEGUN}]


def test_a_line_that_a_crash_tore_is_taken_away(tmp_path: Path) -> None:
    first = Journal(tmp_path, lambda: 1)
    first.write("resumed")
    first.close()
    with (tmp_path / JOURNAL_FILE).open("ab") as file:
        file.write(b'{"at_us": 2, "kind": "int')
    second = Journal(tmp_path, lambda: 3)
    second.write("resumed")
    second.close()
    assert [one["at_us"] for one in read_journal(tmp_path)] == [1, 3]


def test_a_second_judge_is_refused(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(JournalUnusable, match="another judge"):
        Journal(tmp_path, lambda: 1)


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FILE).write_text('{"at_us": 1, "kind": "resumed"}\nnonsense\n', encoding="utf-8")
    with pytest.raises(JournalUnusable, match="line 2"):
        read_journal(tmp_path)


def test_the_course_of_a_rollout_follows_from_its_records(journal: Journal) -> None:
    assert last_course(journal.records) is None
    journal.write("begun", **BEGUN)
    journal.write("intent", action="step up", share=2_500)
    course = last_course(journal.records)
    assert course is not None
    assert course.pending is not None
    journal.write("done", action="step up", share=2_500, start_us=99)
    course = last_course(journal.records)
    assert course is not None
    assert (course.steps, course.pending, course.ended) == ([(500, 10), (2_500, 99)], None, "")
    journal.write("intent", action="roll back", share=0)
    journal.write("done", action="roll back", share=0, start_us=120)
    course = last_course(journal.records)
    assert course is not None
    assert course.ended == "roll back"
    journal.write("resumed")
    assert last_course(journal.records) is None
