"""Rows in turn, medians, and what a round that failed does to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fraud_bench.feed import Feed, simulated_history
from fraud_bench.loads import Measured
from fraud_bench.rounds import Measurements, measure, warm_up
from fraud_bench.rows import RIVAL_ROWS, ROWS, Row, Stage
from fraud_bench.servers import CannotMeasure
from support.rows import DEFAULT_SCHEMA

Make = Callable[..., Measured]


class Scripted:
    """A kind of load that answers what it was given, in turn; an error is raised."""

    needs: tuple[str, ...] = ()

    def __init__(self, *answers: Measured | CannotMeasure) -> None:
        self._answers = list(answers)
        self.sent_before: list[int] = []
        self.asked_at: list[int] = []

    def measure(self, stage: Stage, sent_before: int) -> Measured:
        self.sent_before.append(sent_before)
        answer = self._answers.pop(0)
        if isinstance(answer, CannotMeasure):
            raise answer
        return answer


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, 1.0, tmp_path, "fraud_r0001", None)


def nothing(share: float, text: str) -> None:
    """Progress that nobody looks at."""


def test_every_row_is_measured_once_a_round_and_rounds_begin_with_different_rows(stage: Stage, measured: Make) -> None:
    rows = [Row(key, key, Scripted(measured(), measured())) for key in "abcd"]
    told: list[str] = []
    found = measure(rows, stage, 2, lambda share, text: told.append(text.rpartition(" ")[2]))
    assert told == ["a", "b", "c", "d", "c", "d", "a", "b", "measured"]
    assert {key: len(values) for key, values in found.found.items()} == dict.fromkeys("abcd", 2)


def test_neighbours_with_several_turns_are_measured_there_and_back_again_and_stay_side_by_side(
    stage: Stage, measured: Make
) -> None:
    rows = [Row(key, key, Scripted(*[measured()] * 6), 3 if key in "bc" else 1) for key in "abcd"]
    told: list[str] = []
    found = measure(rows, stage, 2, lambda share, text: told.append(text.rpartition(" ")[2]))
    assert "".join(told) == "abccbbcd" + "bccbbcda" + "measured"
    assert {key: len(values) for key, values in found.found.items()} == dict.fromkeys("abcd", 2)


def test_the_turns_of_a_round_are_one_figure(stage: Stage, measured: Make) -> None:
    row = Row("a", "a", Scripted(measured(100, 10), measured(400, 40), measured(100, 10)), 3)
    (together,) = measure([row], stage, 1, nothing).found["a"]
    assert together is not None
    assert together.per_second == 200
    assert together.cpu_us["server"] == 30


def test_a_round_of_which_a_turn_failed_has_no_figure(stage: Stage, measured: Make) -> None:
    row = Row("a", "a", Scripted(measured(), CannotMeasure("it hung"), measured()), 3)
    found = measure([row], stage, 1, nothing)
    assert found.found == {"a": [None]}
    assert found.trouble == {"a": "it hung"}


def test_each_server_and_store_is_warmed_up_once_and_trouble_is_left_for_the_rounds(
    stage: Stage, measured: Make
) -> None:
    kinds = [Scripted(measured()), Scripted(measured()), Scripted(CannotMeasure("not here")), Scripted(measured())]
    for kind, needs in zip(kinds, (("a",), ("a", "a"), ("b",), ("a", "b")), strict=True):
        kind.needs = needs
    warm_up([Row(f"{n}", "", kind) for n, kind in enumerate(kinds)], stage, nothing)
    assert [len(kind.sent_before) for kind in kinds] == [1, 0, 1, 1]


def test_a_load_is_told_what_it_sent_before(stage: Stage, measured: Make) -> None:
    kind = Scripted(measured(per_second=10), measured(), measured())
    measure([Row("a", "a", kind)], stage, 3, nothing)
    assert kind.sent_before == [0, 30, 3_000]


def test_a_round_that_would_end_too_late_is_not_begun(stage: Stage, measured: Make) -> None:
    now = [100.0]

    class Slow(Scripted):
        def measure(self, stage: Stage, sent_before: int) -> Measured:
            now[0] += 50
            return super().measure(stage, sent_before)

    kind = Slow(*[measured()] * 5)
    found = measure([Row("a", "a", kind)], stage, 5, nothing, deadline=240.0, clock=lambda: now[0])
    assert found.rounds == len(found.found["a"]) == 2
    late = measure([Row("a", "a", kind)], stage, 5, nothing, deadline=0.0, clock=lambda: now[0])
    assert late.rounds == 1


def test_a_load_gets_more_rows_than_it_sent_before_and_not_many_more(stage: Stage) -> None:
    assert stage.rows_for(10_000, 0) == 20_000
    assert stage.rows_for(10_000, 6_000) == 18_000
    assert stage.rows_for(10_000, 1_000) == 5_000
    assert stage.rows_for(10_000, 19_000) == 20_000


def test_a_load_that_repeated_itself_is_not_measured(stage: Stage, measured: Make) -> None:
    history = simulated_history(20, 40, 7, DEFAULT_SCHEMA)
    stage.feeds["lmdb"] = Feed(history, DEFAULT_SCHEMA, first_id=10**12)
    assert stage.fresh("lmdb", 3_000, lambda rows: measured()).sent == 3_000
    with pytest.raises(CannotMeasure, match="3,000 transactions were sent and only 2,999 were new"):
        stage.fresh("lmdb", 2_999, lambda rows: measured())


def test_a_row_keeps_its_median_while_most_rounds_could_be_measured(stage: Stage, measured: Make) -> None:
    kind = Scripted(measured(100), CannotMeasure("it hung"), measured(300))
    found = measure([Row("a", "a", kind)], stage, 3, nothing)
    assert found.median("a", lambda one: one.per_second) == 200
    assert found.trouble == {"a": "it hung"}


def test_a_row_that_most_rounds_could_not_measure_has_no_median(stage: Stage, measured: Make) -> None:
    kind = Scripted(measured(100), CannotMeasure("it hung"), CannotMeasure("it hung again"))
    found = measure([Row("a", "a", kind)], stage, 3, nothing)
    assert found.median("a", lambda one: one.per_second) is None
    assert found.ratio("a", "a", lambda one: one.per_second) is None
    assert found.trouble == {"a": "it hung"}


def test_a_ratio_is_the_median_of_the_rounds_own_ratios(measured: Make) -> None:
    one, other = [measured(10), measured(20), measured(90)], [measured(10), measured(10), measured(10)]
    found = Measurements(3, {"a": [*one], "b": [*other]})
    assert found.ratio("a", "b", lambda row: row.per_second) == 2
    assert found.ratio("b", "a", lambda row: row.per_second) == 0.5
    assert found.ratio("a", "missing", lambda row: row.per_second) is None


def test_the_table_has_every_row_that_was_promised_and_no_key_twice() -> None:
    keys = [row.key for row in (*ROWS, *RIVAL_ROWS)]
    assert len(set(keys)) == len(keys)
    assert {"coalesced_64", "coalesced_256", "coalesced_1000", "idle", "redis_64", "history_100"} <= set(keys)
    assert {f"{kind}_{n}" for kind in ("single", "direct") for n in (1, 16, 64, 256)} <= set(keys)
    assert {f"rows_{n}" for n in (8, 64, 512)} | {f"ceiling_{n}" for n in (1, 64, 512)} <= set(keys)
    assert {"floor_1_hop", "floor_3_hops", "fastapi", "litserve", "mlserver"} <= set(keys)
