"""What is sent: realistic, seeded, new to the server in every run, and bad only on purpose."""

from __future__ import annotations

import numpy as np
import pytest

from fraud_load import scenario, workload
from fraud_load.result import Kind
from fraud_load.workload import DEFECTS, Plan
from fraud_scoring.validation import RowRules
from fraud_scoring.wire import MAX_ROWS
from support.rows import DEFAULT_SCHEMA, MONDAY_US

TEXT = """\
about: Made for a test.
arrivals: {kind: poisson, rate: 400, duration_s: 10}
workload: {customers: 500, terminals: 900}
slo: {p50_ms: 100}
"""


def plan_of(salt: int = 1, **options: str) -> Plan:
    fields = {name.replace("__", "."): value for name, value in options.items()}
    return workload.plan(scenario.parse(TEXT, "a.yaml", fields), salt)


HOSTILE = {
    "workload__rows": "{1: 0.7, 5: 0.3}",
    "workload__duplicate_share": "0.2",
    "workload__bad_share": "0.3",
}


def test_the_seed_and_the_salt_fix_every_bit() -> None:
    once, again, other = plan_of(**HOSTILE), plan_of(**HOSTILE), plan_of(**HOSTILE, seed="8")
    for name in ("intended_s", "rows", "first", "kind", "defect"):
        assert getattr(once, name).tobytes() == getattr(again, name).tobytes()
    assert once.intended_s.tobytes() != other.intended_s.tobytes()


def test_another_run_sends_the_same_payments_of_other_customers() -> None:
    one, other = plan_of(1).rows, plan_of(2).rows
    assert (one[:, 1] == other[:, 1]).all()
    assert (one[:, 4] == other[:, 4]).all()
    for column in (0, 2, 3):
        assert not np.isin(one[:, column], other[:, column]).any()
    _, mine = np.unique(one[:, 2], return_counts=True)
    _, theirs = np.unique(other[:, 2], return_counts=True)
    assert sorted(mine) == sorted(theirs)


def test_customers_pay_by_their_activity() -> None:
    _, counts = np.unique(plan_of().rows[:, 2], return_counts=True)
    assert counts.var() > 2 * counts.mean()  # equal customers would have a variance of their mean


def test_ids_are_used_once_and_event_times_are_the_intended_ones() -> None:
    plan = plan_of(workload__rows="3")
    assert len(np.unique(plan.rows[:, 0])) == len(plan.rows) == 3 * len(plan)
    rows = plan.stamped(MONDAY_US, DEFAULT_SCHEMA)
    wanted = MONDAY_US + (plan.intended_s * 1e6).astype(np.int64)
    assert (rows[plan.first[:-1], 1] == wanted).all()


def test_requests_have_the_mix_of_rows_that_was_asked_for() -> None:
    sizes = np.diff(plan_of(workload__rows="{1: 0.7, 5: 0.3}").first)
    assert set(sizes.tolist()) == {1, 5}
    assert (sizes == 5).mean() == pytest.approx(0.3, abs=0.05)


def test_good_requests_keep_every_rule_and_bad_ones_break_one_of_each_kind() -> None:
    plan = plan_of(**HOSTILE)
    rows = plan.stamped(MONDAY_US, DEFAULT_SCHEMA)
    now_us = MONDAY_US + 20_000_000
    broken = np.add.reduceat(RowRules(DEFAULT_SCHEMA).broken(rows, now_us), plan.first[:-1]) > 0
    assert (broken == (plan.kind == Kind.BAD)).all()
    assert broken.mean() == pytest.approx(0.3, abs=0.05)
    assert set(plan.defect[broken].tolist()) == set(range(len(DEFECTS)))


def test_a_duplicate_repeats_an_earlier_transaction_to_the_bit_and_none_is_repeated_twice() -> None:
    plan = plan_of(**HOSTILE)
    rows = plan.stamped(MONDAY_US, DEFAULT_SCHEMA)
    first = {}
    repeated = 0
    for i in range(len(plan)):
        mine = rows[plan.first[i] : plan.first[i + 1]]
        if plan.kind[i] == Kind.DUPLICATE:
            assert first.pop(mine[0, 0]) == mine.tobytes()
            repeated += 1
        elif plan.kind[i] == Kind.ORDINARY:
            first[mine[0, 0]] = mine.tobytes()
    assert repeated / len(plan) > 0.1


def test_a_joined_request_cannot_hold_a_transaction_and_its_duplicate() -> None:
    plan = plan_of(
        sending__coalesce="true", sending__processes="2", workload__duplicate_share="0.2", arrivals__rate="2000"
    )
    original = {}
    for i, identifier in enumerate(plan.rows[:, 0].tolist()):
        if identifier in original:
            assert i - original[identifier] >= 2 * MAX_ROWS
        original[identifier] = i
    assert (plan.kind == Kind.DUPLICATE).sum() > 500


def test_a_burst_is_of_three_cards_at_five_times_the_amount() -> None:
    options = {"workload__bursts": "{every_s: 5, for_s: 1, share: 0.5}"}
    calm, bursts = plan_of(), plan_of(**options)
    changed = calm.rows[:, 4] != bursts.rows[:, 4]
    assert (bursts.rows[changed, 4] == 5 * calm.rows[changed, 4]).all()
    at = calm.intended_s[changed]
    assert (at % 5 < 1).all()
    for start in (0, 5):
        inside = changed & (calm.intended_s >= start) & (calm.intended_s < start + 1)
        assert len(np.unique(bursts.rows[inside, 2])) <= 3
        assert inside.sum() > 100


def test_the_parts_of_the_processes_are_the_whole() -> None:
    plan = plan_of(**HOSTILE)
    parts = [plan.share(i, 3) for i in range(3)]
    for i in (0, 1, 2, 500, len(plan) - 1):
        part, at = parts[i % 3], i // 3
        assert part.intended_s[at] == plan.intended_s[i]
        assert (part.kind[at], part.defect[at]) == (plan.kind[i], plan.defect[i])
        mine, theirs = part.rows[part.first[at] : part.first[at + 1]], plan.rows[plan.first[i] : plan.first[i + 1]]
        assert mine.tobytes() == theirs.tobytes()
    assert sum(map(len, parts)) == len(plan)


def test_more_than_the_simulator_is_asked_for_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "MOST_SIMULATED", 1_000)
    rows = plan_of().rows
    assert len(rows) > 3_000
    assert (rows[:1_000, 4] == rows[1_000:2_000, 4]).all()
    assert len(np.unique(rows[:, 0])) == len(rows)
