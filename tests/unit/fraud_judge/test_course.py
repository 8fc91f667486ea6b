"""What is done next follows from the evidence alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fraud_judge.course import Action
from fraud_judge.rollout import Rollout, Trial
from fraud_judge.signs import Baseline
from fraud_scoring import wire
from fraud_scoring.errors import InvalidInput
from support.rollouts import CANARY, CHAMPION, QUICK, rows

SECOND = 1_000_000


BASELINE = Baseline.of(rows(5_000, seed=9))


def rollout(share: int = 500) -> Rollout:
    return Rollout(Trial(CANARY, CHAMPION, "salt"), QUICK, BASELINE, share, 0)


def traffic(of: Rollout, from_s: float, to_s: float, n: int, **canary: object) -> None:
    """`n` rows between two moments; the canary's differ by `canary`."""
    times = np.linspace(from_s * SECOND, to_s * SECOND, n).astype(np.int64)
    drawn = rows(n, seed=round(from_s) + 1, at_us=times)
    mine = drawn.bucket < of.share
    changed = {
        name: np.where(mine, value, getattr(drawn, name)) for name, value in {"release": CANARY, **canary}.items()
    }
    of.take(drawn._replace(**changed))


def test_a_good_canary_steps_up_and_is_promoted() -> None:
    seen, start = rollout(), 0.0
    for share, after in ((500, 2_500), (2_500, 5_000)):
        assert seen.share == share
        traffic(seen, start + 2, start + 25, 60_000)
        judgement = seen.judge()
        assert (judgement.action, judgement.share) == (Action.STEP_UP, after)
        start += 25
        seen.enter(after, round(start * SECOND))
    traffic(seen, start + 2, start + 25, 60_000)
    assert seen.judge().action is Action.PROMOTE


def test_it_holds_until_the_least_time_has_passed() -> None:
    seen = rollout()
    traffic(seen, 2, 9, 60_000)
    judgement = seen.judge()
    assert judgement.action is Action.HOLD
    assert "9 of 10 s" in judgement.reason


def test_it_holds_until_the_canary_itself_gave_enough_answers() -> None:
    seen = rollout()
    traffic(seen, 2, 25, 60_000, release=CHAMPION)
    judgement = seen.judge()
    assert judgement.action is Action.HOLD
    assert "0 of 50 answers" in judgement.reason


def test_it_holds_until_harm_is_ruled_out() -> None:
    seen = rollout()
    traffic(seen, 2, 25, 2_000)
    judgement = seen.judge()
    assert judgement.action is Action.HOLD
    assert "ruled out" in judgement.reason


def test_it_holds_while_a_test_is_in_doubt() -> None:
    seen = rollout(5_000)
    source = np.random.default_rng(2).random(30_000) < 0.0068
    traffic(seen, 2, 25, 30_000, source=np.where(source, int(wire.Source.SCORECARD), 0))
    judgement = seen.judge()
    assert judgement.action is Action.HOLD
    assert "in doubt: fallback" in judgement.reason


def test_a_bad_canary_is_rolled_back_before_the_least_time() -> None:
    seen = rollout()
    traffic(seen, 2, 4, 2_000, latency_us=90_000)
    judgement = seen.judge()
    assert (judgement.action, judgement.test) == (Action.ROLL_BACK, "latency")
    assert "slower than" in judgement.reason


def test_a_canary_in_a_share_of_its_own_goes_on_to_the_next_step() -> None:
    seen = rollout(700)
    traffic(seen, 2, 25, 60_000)
    assert seen.judge().share == 2_500


def test_rows_of_an_earlier_step_count_for_labels_only() -> None:
    seen = rollout()
    seen.enter(2_500, 30 * SECOND)
    traffic(seen, 2, 25, 1_000)
    assert seen.evidence.rows.sum() == 0
    seen.label(rows(1_000, seed=3).identifier, np.ones(1_000, np.int64))
    assert seen.calibration.labels > 900


def test_what_is_stated_is_checked() -> None:
    for change, says in (
        ({"budget": 0.5}, "budget"),
        ({"steps": ()}, "steps"),
        ({"slots": 1_000}, "power of two"),
        ({"step_shares": (0.9, 0.9, 0.1)}, "step_shares"),
    ):
        with pytest.raises(InvalidInput, match=says):
            replace(QUICK, **change)  # type: ignore[arg-type]
