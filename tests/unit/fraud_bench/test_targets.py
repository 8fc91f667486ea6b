"""What must be reached: each bound on its side, and what was not measured is not held."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fraud_bench.loads import Measured
from fraud_bench.rounds import Measurements
from fraud_bench.targets import TARGETS, Target, judge

Make = Callable[..., Measured]


def one_target(**changes: object) -> Target:
    values = {
        "what": "rate", "rows": ("a",), "form": "{:,.0f}/s", "at_least": 100.0, "aim": 200.0,
        "value": lambda found: found.median("a", lambda one: one.per_second),
    }  # fmt: skip
    return Target(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "held", "aimed"), [(99, False, False), (100, True, False), (199, True, False), (200, True, True)]
)
def test_a_rate_must_reach_its_bound(measured: Make, found: float, held: bool, aimed: bool) -> None:
    (judged,) = judge(Measurements(1, {"a": [measured(found)]}), [one_target()])
    assert (judged.value, judged.held, judged.aimed) == (found, held, aimed)


@pytest.mark.parametrize(("found", "held", "aimed"), [(301, False, False), (300, True, False), (150, True, True)])
def test_a_cost_must_stay_below_its_bound(measured: Make, found: float, held: bool, aimed: bool) -> None:
    target = one_target(at_least=300.0, aim=150.0, low_is_good=True)
    (judged,) = judge(Measurements(1, {"a": [measured(found)]}), [target])
    assert (judged.held, judged.aimed) == (held, aimed)


def test_bounds_are_written_with_their_side_and_unit() -> None:
    target = one_target(form="{:.2f}×", at_least=1.8, aim=None, low_is_good=True)
    assert (target.bound_text(target.at_least), target.bound_text(target.aim)) == ("≤ 1.80×", "–")


def test_a_target_whose_row_could_not_be_measured_is_not_held_and_says_why() -> None:
    found = Measurements(1, {"a": [None]}, {"a": "redis-server is not here"})
    (judged,) = judge(found, [one_target()])
    assert (judged.value, judged.held, judged.trouble) == (None, False, "redis-server is not here")


def test_a_target_whose_rows_were_not_asked_for_is_not_judged(measured: Make) -> None:
    assert judge(Measurements(1, {"b": [measured()]}), [one_target()]) == []


def test_all_targets_of_the_issue_are_judged_where_their_rows_are(reached: Measurements, measured: Make) -> None:
    reached.found["fastapi"] = [measured(2_000, server_us=400)] * 3
    judged = judge(reached)
    assert [one.target.what for one in judged] == [target.what for target in TARGETS]
    assert all(one.held for one in judged), [one for one in judged if not one.held]


@pytest.mark.parametrize(
    ("row", "changed", "lost"),
    [
        ("coalesced_1000", {"per_second": 9_999}, "coalesced single calls, 1,000 concurrent"),
        ("coalesced_256", {"per_second": 20_000, "latency_ms": 51}, "coalesced single calls, 256 concurrent: p99"),
        ("single_64", {"per_second": 6_400}, "single rows, 64 concurrent: throughput against the floor of one hop"),
        ("rows_64", {"per_second": 49_000, "server_us": 10}, "64 rows a request: transactions a second"),
        ("history_100", {"server_us": 53}, "100 times the history: server CPU a transaction"),
        ("idle", {"latency_ms": 3.1}, "idle, one caller, one row: p50"),
    ],
)
def test_each_target_is_lost_by_its_own_row(
    reached: Measurements, measured: Make, row: str, changed: dict[str, float], lost: str
) -> None:
    reached.found[row] = [measured(**changed)] * 3
    assert lost in [one.target.what for one in judge(reached) if not one.held]
