"""One rollout: rows and labels go in as the log brings them, judgements come out. No clock, no files, no routes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fraud_judge.calibration import CalibrationEvidence
from fraud_judge.course import Judgement, judge
from fraud_judge.evidence import StepEvidence
from fraud_judge.settings import JudgeSettings
from fraud_judge.signs import Baseline, Bits, Int64, Rows


@dataclass(frozen=True)
class Trial:
    """What is on trial: the canary against the production release, customers split under a salt."""

    canary: int
    production: int
    salt: str


class Rollout:
    """The evidence of a canary's rollout so far."""

    def __init__(self, trial: Trial, settings: JudgeSettings, baseline: Baseline, share: int, start_us: int) -> None:
        self.trial = trial
        self.settings = settings
        self.baseline = baseline
        self.steps: list[tuple[int, int]] = []
        """(share, start) of each step so far."""
        self.calibration = CalibrationEvidence(settings)
        self.evidence: StepEvidence
        self.enter(share, start_us)

    @property
    def share(self) -> int:
        return self.evidence.share

    def enter(self, share: int, start_us: int) -> None:
        """A step begins: its evidence is new, that of labels goes on."""
        self.steps.append((share, start_us))
        step = self.settings.step_of(share)
        self.evidence = StepEvidence(self.settings, step, share, start_us, self.baseline)

    def take(self, rows: Rows, bits: Bits | None = None) -> None:
        """Count rows; each belongs to the step in which it was logged. `bits`: their events, where they are known."""
        starts = np.array([start for _, start in self.steps]) + round(self.settings.settle_s * 1e6)
        last = len(self.steps) - 1
        if rows.at_us.size and rows.at_us.min() >= starts[last]:
            self.evidence.take(rows, self.trial.canary, bits)
            self.calibration.take(rows, last, self.share)
            return
        belongs = np.searchsorted(starts, rows.at_us, side="right") - 1
        for step in np.unique(belongs[belongs >= 0]).tolist():
            mine = rows.pick(belongs == step)
            self.calibration.take(mine, step, self.steps[step][0])
            if step == last:
                self.evidence.take(mine, self.trial.canary)

    def label(self, identifier: Int64, is_fraud: Int64) -> None:
        """Take in labels."""
        self.calibration.label(identifier, is_fraud)

    def judge(self) -> Judgement:
        """What to do now."""
        return judge(self.evidence, self.calibration)
