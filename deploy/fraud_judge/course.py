"""What to do next, from the evidence of a step: a function of what was seen, with no clock and no state of its own.

roll back   a test crossed its threshold
step up     the least time and the least answers have passed, harm is ruled out, and no test is in doubt
hold        otherwise
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import log

from fraud_judge.calibration import CalibrationEvidence
from fraud_judge.evidence import CANARY, Finding, StepEvidence
from fraud_judge.settings import WHOLE


class Action(str, Enum):
    """What the judge does with the routes."""

    HOLD = "hold"
    STEP_UP = "step up"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"


@dataclass(frozen=True)
class Judgement:
    """An action, why, and for `STEP_UP` the share to go to. `test` names what crossed."""

    action: Action
    reason: str
    share: int = 0
    test: str = ""


def judge(evidence: StepEvidence, calibration: CalibrationEvidence) -> Judgement:
    """What the evidence says now."""
    late = calibration.finding(evidence.step)
    if late.crossed or evidence.rollback_due():
        worst = min([late, *evidence.findings()], key=lambda one: one.room)
        return Judgement(Action.ROLL_BACK, worst.reason, test=worst.test)
    waits = _waits(evidence, late)
    if waits:
        return Judgement(Action.HOLD, waits)
    share = evidence.settings.next_share(evidence.share)
    seen = f"{int(evidence.answers[CANARY]):,} answers of the canary in {evidence.seconds:,.0f} s, within all"
    action = Action.PROMOTE if share == WHOLE else Action.STEP_UP
    return Judgement(action, f"{seen} tolerances", share)


def _waits(evidence: StepEvidence, late: Finding) -> str:
    """What is missing for a step up; nothing where it is due."""
    step = evidence.settings.steps[evidence.step]
    if evidence.seconds < step.least_s:
        return f"{evidence.seconds:.0f} of {step.least_s:.0f} s have passed"
    if evidence.answers[CANARY] < step.least_answers:
        return f"the canary gave {int(evidence.answers[CANARY]):,} of {step.least_answers:,} answers"
    if not evidence.harm_ruled_out():
        ratio = evidence.settings.tolerances.harmful_ratio
        return f"declines {ratio:g} times as often, or 1/{ratio:g}, are not ruled out yet"
    doubts = evidence.doubts()
    if late.log_wealth >= log(evidence.settings.doubt):
        doubts.append(late.reason)
    return f"in doubt: {doubts[0]}" if doubts else ""
