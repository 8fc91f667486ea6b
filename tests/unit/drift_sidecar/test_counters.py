"""Counts add exactly: over batches, minutes, windows, restarts; and are bounded."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift_sidecar import traffic
from drift_sidecar.books import Books, drift_series, hours_series
from drift_sidecar.counters import HOURS_KEPT, MINUTES_KEPT, Counters
from drift_sidecar.settings import SidecarSettings
from drift_sidecar.traffic import FLOW, mix_series
from fraud_scoring import wire
from fraud_scoring.decision_log import Context, Decisions, read
from fraud_scoring.decision_log.tail import Tail
from support.decision_logs import FRONT_DOOR, MINUTE_US, DecisionLog, decision_log, recount, write_reference
from support.rows import DEFAULT_SCHEMA, MONDAY_US, SEEDED, Int64

NOW = 10_000_000


def one(value: int) -> Int64:
    return np.array([[value, 1]], np.int64)


def at(*minutes: int) -> Int64:
    return np.array(minutes, np.int64)


def restored(counters: Counters) -> Counters:
    """What a new process finds."""
    again = Counters()
    again.restore(counters.changes().changed)
    return again


@SEEDED
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 100)), min_size=1), st.integers(0, 3200), st.data())
def test_a_window_is_the_sum_of_its_minutes(events: list[tuple[int, int]], end: int, data: st.DataObject) -> None:
    length = data.draw(st.sampled_from([1, 5, 60, 61, 119, 120, 1440, 2000]))
    counters = Counters()
    for minute, value in events:
        counters.add("s", at(NOW + minute), one(value), NOW + 5000)
    found = counters.window("s", NOW + end, length)
    inside = [value for minute, value in events if end - length <= minute < end]
    assert (0 if found is None else int(found[0])) == sum(inside)
    assert (0 if found is None else int(found[1])) == len(inside)


def test_tumbling_windows_add_up_to_the_total() -> None:
    rng, counters = np.random.default_rng(1), Counters()
    for minute in rng.integers(0, 600, 500).tolist():
        counters.add("s", at(NOW * 60 + minute), one(int(rng.integers(100))), NOW * 60 + 600)
    windows = [counters.window("s", NOW * 60 + end, 5) for end in range(5, 601, 5)]
    total = counters.total("s")
    assert total is not None
    assert np.array_equal(np.sum([window for window in windows if window is not None], axis=0), total)


def test_old_minutes_go_and_hours_stay() -> None:
    counters = Counters()
    for minute in (0, MINUTES_KEPT - 1, MINUTES_KEPT):
        counters.add("s", at(NOW + minute), one(1), NOW + MINUTES_KEPT)
    counters.prune(NOW + MINUTES_KEPT)
    assert counters.minutes("s") == [NOW + MINUTES_KEPT - 1, NOW + MINUTES_KEPT]
    whole = counters.window("s", NOW + 3 * MINUTES_KEPT, 10 * MINUTES_KEPT)
    assert whole is not None
    assert whole[1] == 3


def test_old_hours_go_and_the_total_stays() -> None:
    counters = Counters()
    counters.add("s", at(NOW), one(5), NOW)
    counters.add("s", at(NOW + (HOURS_KEPT + 1) * 60), one(7), NOW + (HOURS_KEPT + 1) * 60)
    counters.prune(NOW + (HOURS_KEPT + 1) * 60)
    month = counters.window("s", NOW + 2 * HOURS_KEPT * 60, 4 * HOURS_KEPT * 60)
    total = counters.total("s")
    assert month is not None
    assert total is not None
    assert (month[0], total[0]) == (7, 12)
    assert not [name for name in counters.changes().changed if name.startswith("minute") and str(NOW) in name]


def test_minutes_behind_a_writer_that_lags_are_kept_for_it() -> None:
    counters = Counters()
    for minute in (0, MINUTES_KEPT + 10):
        counters.add("s", at(NOW + minute), one(1), NOW + 2 * MINUTES_KEPT)
    counters.prune(watermark_minute=NOW + 5)
    assert counters.minute("s", NOW) is not None
    counters.prune(watermark_minute=NOW + MINUTES_KEPT + 10)
    assert counters.minute("s", NOW) is None


def test_a_minute_from_the_future_ages_nothing() -> None:
    counters = Counters()
    counters.add("s", at(NOW), one(1), NOW)
    counters.add("s", at(NOW + 50 * MINUTES_KEPT), one(1), NOW)
    counters.prune(NOW)
    assert counters.minute("s", NOW) is not None


def test_counts_are_the_same_after_a_restart() -> None:
    counters = Counters()
    counters.add("s", at(NOW, NOW + 1), np.array([[1, 2], [3, 4]], np.int64), NOW)
    counters.add("t with spaces", at(NOW), one(9), NOW)
    again = restored(counters)
    assert again.series == counters.series == ["s", "t with spaces"]
    assert again.newest_minute == counters.newest_minute
    for series in counters.series:
        assert np.array_equal(again.window(series, NOW + 9, 60), counters.window(series, NOW + 9, 60))  # type: ignore[arg-type]


def test_only_what_changed_since_it_was_saved_is_kept_anew() -> None:
    counters = Counters()
    counters.add("s", at(NOW, NOW + 1), np.ones((2, 2), np.int64), NOW)
    assert len(counters.changes().changed) == len(counters.changes().changed) == 5, "until it was saved, it is due"
    counters.saved()
    counters.add("s", at(NOW + 1), one(1), NOW)
    assert set(counters.changes().changed) == {f"minute {NOW + 1} s", f"hour {NOW // 60} s", "total 0 s", "newest"}
    counters.forget("s")
    changed, removed = counters.changes()
    assert not changed
    assert set(removed) == {f"minute {NOW} s", f"minute {NOW + 1} s", f"hour {NOW // 60} s", "total 0 s"}


# what is counted of a log


def books_of(log: DecisionLog, tmp_path: Path, look_rows: int = 1 << 20, **changes: object) -> Books:
    """Books over all of a log, in looks of `look_rows` rows."""
    repository = tmp_path / "repository"
    repository.mkdir(exist_ok=True)
    settings = SidecarSettings(log.folder, repository, tmp_path / "home", **changes)  # type: ignore[arg-type]

    def later() -> int:
        return log.clock.now_us + 10_000_000

    books = Books(settings, later, lambda _: None)
    tail = Tail(log.folder, {}, later, lambda _: None)
    while (taken := tail.take(look_rows)).frames:
        books.apply(taken, tail.places)
    return books


def counted(books: Books, release: int = 7) -> Counter[tuple[int, int, int, int]]:
    """New decisions by (release, minute, decision, source), as counted."""
    found: Counter[tuple[int, int, int, int]] = Counter()
    for minute in books.counters.minutes(mix_series(release)):
        vector = books.counters.minute(mix_series(release), minute)
        assert vector is not None
        for cell, count in enumerate(traffic.MIX.of(vector).tolist()):
            if count:
                decision, source = divmod(cell, len(wire.Source))
                found[release, minute, decision, source] = count
    return found


def test_the_decisions_of_each_minute_are_counted_exactly(tmp_path: Path) -> None:
    with decision_log(tmp_path / "log", seed=5, repeats=0.05) as log:
        log.write(3000, 7, rows_per_s=3)
        log.write(1000, 1, writer="front-door-1", rows_per_s=11)
        assert counted(books_of(log, tmp_path)) == recount(log.folder)


@pytest.mark.parametrize("look_rows", [1, 33, 1000])
def test_counts_do_not_depend_on_how_the_log_was_looked_at(tmp_path: Path, look_rows: int) -> None:
    with decision_log(tmp_path / "log", seed=6, repeats=0.02) as log:
        write_reference(tmp_path / "repository", log.traffic, rows=3000)
        log.write(800, 5, rows_per_s=4)
        log.label(np.arange(1, 200, dtype=np.int64) * 7919, np.arange(1, 200) % 7 == 0)
        whole, pieces = books_of(log, tmp_path), books_of(log, tmp_path, look_rows)
    assert whole.counters.series == pieces.counters.series == ["drift/7", "flow", "hours/7", "mix/7"]
    assert whole.counters.changes().changed == pieces.counters.changes().changed


def test_the_flow_is_what_a_plain_loop_over_the_frames_finds(tmp_path: Path) -> None:
    with decision_log(tmp_path / "log", seed=7, repeats=0.1, failed=2) as log:
        log.write(900, 9)
        log.writer().append(Decisions.none(DEFAULT_SCHEMA.width, refused=5, failed=11))
        log.gap(23)
        log.label(np.array([1, 2, 3]), np.array([True, False, False]))
        flow = books_of(log, tmp_path).counters.total(FLOW)
        frames = [frame.content() for frame, _ in read(log.folder / FRONT_DOOR)]
    assert flow is not None
    decisions = [content for content in frames if isinstance(content, Decisions)]
    rows = sum(map(len, decisions))
    repeats = sum(int(content.repeat.sum()) for content in decisions)
    assert traffic.ANSWERS.of(flow)[0] == rows - repeats
    assert traffic.REPEATS.of(flow)[0] == repeats
    assert traffic.REFUSED.of(flow)[0] == sum(content.refused for content in decisions) >= 5
    assert traffic.FAILED.of(flow)[0] == sum(content.failed for content in decisions) == 211
    assert traffic.GAP_ANSWERS.of(flow)[0] == 23
    assert traffic.LABELS.of(flow).tolist() == [2, 1]
    assert traffic.LATE.of(flow)[0] == sum(int((content.deadline_left_us < 0).sum()) for content in decisions)
    front_door = traffic.FRONT_DOOR.of(flow)
    assert front_door[-1] == sum(int(content.stage_us.sum()) * len(content) for content in decisions)
    assert front_door[:-1].sum() == rows
    within = sum(len(content) for content in decisions if content.stage_us.sum() <= 5_000)
    assert front_door[: traffic.FRONT_DOOR_US.index(5_000) + 1].sum() == within
    for stage, part in enumerate(traffic.STAGE):
        assert part.of(flow)[-1] == sum(int(content.stage_us[stage]) for content in decisions)
        assert part.of(flow)[:-1].sum() == sum(1 for content in decisions if len(content)) == 100


def test_an_answer_that_is_in_the_log_as_a_repeat_alone_is_counted_as_a_repeat_and_as_nothing_else(
    tmp_path: Path,
) -> None:
    with decision_log(tmp_path / "log") as log:
        write_reference(tmp_path / "repository", log.traffic, rows=3000)
        first, late = (log.traffic.decisions(4, MONDAY_US) for _ in range(2))
        log.writer().append(first)
        log.writer().append(replace(late, repeat=np.ones(4, np.bool_)))  # recorded before a kill, and logged after it
        books = books_of(log, tmp_path)
    flow = books.counters.total(FLOW)
    assert flow is not None
    assert (traffic.ANSWERS.of(flow)[0], traffic.REPEATS.of(flow)[0]) == (4, 4)
    assert sum(counted(books).values()) == 4
    assert books.outcomes.rows == int((first.verdict[:, 5] != wire.Source.SCORECARD).sum())


def test_scores_fall_into_the_buckets_that_prometheus_will_show(tmp_path: Path) -> None:
    with decision_log(tmp_path / "log") as log:
        scores = np.array([0.0, 0.001, 0.0011, 0.5, 0.99, 0.991, 1.0, np.nan], np.float32)
        log.writer().append(log.traffic.decisions(8, MONDAY_US, score=scores))
        mix = books_of(log, tmp_path).counters.total(mix_series(7))
    assert mix is not None
    # at most 0.001: 0, 0.001 and what is no number; the last bucket: above 0.99
    assert traffic.SCORES.of(mix)[:-1].tolist() == [3, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2]


def test_rows_of_several_releases_in_one_frame_are_counted_for_each(tmp_path: Path) -> None:
    with decision_log(tmp_path / "log") as log:
        frame = log.traffic.decisions(10, MONDAY_US)
        frame.verdict[6:, 4] = 8
        log.writer().append(frame)
        books = books_of(log, tmp_path)
    totals = {release: books.counters.total(mix_series(release)) for release in (7, 8)}
    assert {release: int(traffic.MIX.of(total).sum()) for release, total in totals.items() if total is not None} == {
        7: 6,
        8: 4,
    }


def test_a_code_that_is_not_known_yet_stops_nothing(tmp_path: Path) -> None:
    with decision_log(tmp_path / "log") as log:
        write_reference(tmp_path / "repository", log.traffic, rows=3000)
        frame = log.traffic.decisions(4, MONDAY_US)
        frame.verdict[:, 0] = [0, 1, 2, 77]
        frame.verdict[:, 5] = [0, 1, 2, -5]
        log.writer().append(frame)
        mix = books_of(log, tmp_path).counters.total(mix_series(7))
    assert mix is not None
    assert traffic.MIX.of(mix).sum() == 4


def test_the_release_that_was_silent_for_longest_makes_room(tmp_path: Path) -> None:
    with decision_log(tmp_path / "log") as log:
        for release in (1, 2, 3, 1, 4):
            log.traffic.release = release
            log.write(5, 5)
            log.clock.now_us += MINUTE_US
        books = books_of(log, tmp_path, keep_releases=3)
    assert books.ledger.releases == [1, 3, 4]
    assert books.counters.series == ["flow", "mix/1", "mix/3", "mix/4"]


def test_a_release_that_has_decided_nothing_yet_is_not_shown(tmp_path: Path) -> None:
    with decision_log(tmp_path / "log") as log:
        log.write(5, 5)
        log.writer().set_context(Context(8, log.traffic.schema.document))
        assert books_of(log, tmp_path).ledger.releases == [7]


def test_a_release_without_a_reference_is_counted_and_named(tmp_path: Path) -> None:
    with decision_log(tmp_path / "log") as log:
        log.write(10)
        books = books_of(log, tmp_path)
    assert "carries no reference.json" in books.ledger.mismatch(7)
    assert books.counters.series == ["flow", "mix/7"]


def test_a_reference_of_another_schema_is_not_compared_with(tmp_path: Path) -> None:
    with decision_log(tmp_path / "log") as log:
        write_reference(tmp_path / "repository", log.traffic, rows=3000)
        log.writer(context=Context(7, '{"name": "another"}'))
        log.write(10)
        books = books_of(log, tmp_path)
    assert books.ledger.mismatch(7) == "the reference of r0007 was made with another schema than the log's"
    assert drift_series(7) not in books.counters.series


def test_answers_of_the_scorecard_are_counted_but_not_compared(tmp_path: Path) -> None:
    with decision_log(tmp_path / "log") as log:
        write_reference(tmp_path / "repository", log.traffic, rows=3000)
        frame = log.traffic.decisions(6, MONDAY_US, features=np.empty((6, 0), np.float32))
        frame.verdict[:, 5] = 3
        log.writer().append(frame)
        log.write(4, 4)
        books = books_of(log, tmp_path)
    assert not books.ledger.mismatch(7)
    drift, reference = books.counters.total(drift_series(7)), books.ledger.reference(7)
    assert drift is not None
    assert reference is not None
    assert drift[reference.layout.of("decision")].sum() == 4


def test_counts_on_a_reference_that_was_replaced_are_dropped(tmp_path: Path) -> None:
    with decision_log(tmp_path / "log") as log:
        write_reference(tmp_path / "repository", log.traffic, rows=3000)
        log.write(10, 10)
        before = books_of(log, tmp_path)
        kept = {name: section.changes().changed for name, section in before.sections.items()}
        write_reference(tmp_path / "repository", replace(log.traffic), rows=2000)
        log.write(5, 5)
        after = Books(before.settings, lambda: log.clock.now_us + 10_000_000, lambda _: None)
        after.restore({name: dict(values) for name, values in kept.items()})
        assert drift_series(7) not in after.counters.series
        tail = Tail(log.folder, after.places, lambda: log.clock.now_us + 10_000_000, lambda _: None)
        after.apply(tail.take(100), tail.places)
    drift, reference = after.counters.total(drift_series(7)), after.ledger.reference(7)
    assert drift is not None
    assert reference is not None
    assert drift[reference.layout.of("decision")].sum() == 5


def test_rows_are_counted_by_the_hour_of_the_week_of_the_transaction(tmp_path: Path) -> None:
    with decision_log(tmp_path / "log") as log:
        write_reference(tmp_path / "repository", log.traffic, rows=3000)
        rows = log.traffic.decisions(3, MONDAY_US).transaction
        rows[:, 1] = MONDAY_US + np.array([0, 59, 25 * 60]) * MINUTE_US
        log.writer().append(log.traffic.decisions(3, MONDAY_US, transaction=rows))
        hours = books_of(log, tmp_path).counters.total(hours_series(7))
    assert hours is not None
    assert {hour: int(count) for hour, count in enumerate(hours) if count} == {0: 2, 25: 1}


def test_quantiles_come_from_the_buckets() -> None:
    histogram = np.zeros(len(traffic.FRONT_DOOR_US) + 2, np.int64)
    assert traffic.quantile_us(histogram, traffic.FRONT_DOOR_US, 0.5) is None
    histogram[traffic.FRONT_DOOR_US.index(2_000)] = 100  # above 1 ms, at most 2 ms
    assert traffic.quantile_us(histogram, traffic.FRONT_DOOR_US, 0.5) == 1500.0
    histogram[-2] = 100
    assert traffic.quantile_us(histogram, traffic.FRONT_DOOR_US, 0.99) == 1_000_000.0
