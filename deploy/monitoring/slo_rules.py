"""Writes rules/slo.yaml: what each SLI is, how much of it may be bad, and when that burns too fast.

    python deploy/monitoring/slo_rules.py

The method is that of the Site Reliability Workbook (Beyer et al., 2018), chapter 5: an alert needs the same burn rate
in a long window (enough of the budget is gone) and in a short one (it still burns). Windows and factors are its table
5-8, with the step between its second and third row that kubernetes-mixin adds (3 times, 1d and 2h). docs/monitoring.md
says why each SLI is what it is.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OUTPUT: Final = Path(__file__).parent / "rules" / "slo.yaml"
WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
DAYS: Final = 30


@dataclass(frozen=True)
class Burn:
    """Alert when `factor` times the allowed rate is burnt in both windows; `spent` of the budget in the long one."""

    factor: str
    long: str
    short: str
    severity: str
    spent: str


BURNS: Final = (
    Burn("14.4", "1h", "5m", "page", "2%"),
    Burn("6", "6h", "30m", "page", "5%"),
    Burn("3", "1d", "2h", "ticket", "10%"),
    Burn("1", "3d", "6h", "ticket", "10%"),
)

# Triton 2.51 counts a request as failed when its caller gave up in the queue or the front door's process died. An error
# that a python model answers is a success to it: those are our own counters, of our failures and of callers' mistakes.
_FAILED: Final = "(sum(increase(fraud_failed_requests_total[WINDOW])) or vector(0))"
_REFUSED: Final = "(sum(increase(fraud_refused_requests_total[WINDOW])) or vector(0))"
_UNANSWERED: Final = f"""(
    sum(increase(nv_inference_request_failure{{model="fraud_score"}}[WINDOW]))
      + {_FAILED}
  )"""
_ANSWERED: Final = f"""clamp_min(
    sum(increase(nv_inference_request_success{{model="fraud_score"}}[WINDOW]))
      - {_FAILED}
      - {_REFUSED},
    0
  )"""


@dataclass(frozen=True)
class Objective:
    """`budget` is the share that may be bad; `error_ratio` is PromQL in which WINDOW stands for the window."""

    name: str
    alert: str
    budget: str
    promise: str
    bad: str
    error_ratio: str

    @property
    def record(self) -> str:
        return f"fraud:{self.name}_error:ratio"


OBJECTIVES: Final = (
    Objective(
        "availability",
        "AvailabilityBudgetBurn",
        "0.0001",
        "99.99% of the requests get an answer",
        "unanswered",
        # of the requests that were not the caller's mistake; and all of them while nobody serves
        f"""1 - avg_over_time(fraud:serving:bool[WINDOW]) * (1 - (
  {_UNANSWERED}
  / ({_UNANSWERED} + {_ANSWERED} > 0)
  or vector(0)
))""",
    ),
    Objective(
        "latency",
        "LatencyBudgetBurn",
        "0.01",
        "99% of the transactions are answered within 100 ms",
        "slow",
        # half of the promise in the front door: the other half is the wait for the batch before
        """1 - sum(rate(fraud_front_door_seconds_bucket{le="0.05"}[WINDOW]))
  / (sum(rate(fraud_front_door_seconds_count[WINDOW])) > 0)""",
    ),
    Objective(
        "degraded",
        "DegradedBudgetBurn",
        "0.001",
        "99.9% of the answers come from a release, and are in the decision log",
        "degraded",
        """(
  (sum(increase(fraud_transactions_total{source=~"fallback_release|scorecard"}[WINDOW])) or vector(0))
    + (sum(increase(fraud_gap_answers_total[WINDOW])) or vector(0))
) / (
  sum(increase(fraud_transactions_total[WINDOW])) + (sum(increase(fraud_gap_answers_total[WINDOW])) or vector(0)) > 0
)""",
    ),
)


def render() -> str:
    """The rule file."""
    parts = [
        "# Made by deploy/monitoring/slo_rules.py: change it there.\n"
        "# Method, windows and factors: Site Reliability Workbook, chapter 5, table 5-8.\n"
        "groups:\n"
        "  - name: slo\n"
        "    rules:\n"
        "      # 1 while a server answers its scrape. One scrape that fails is not an outage: those of 10 s are.\n"
        "      # No server to scrape is one, too, once Prometheus scraped anything twice; before, it knows none.\n"
        "      - record: fraud:serving:bool\n"
        '        expr: max(max_over_time(up{job="triton"}[10s])) or 0 * max(count_over_time(up[10s]) >= 2)\n'
    ]
    parts += [_window(objective, window) for objective in OBJECTIVES for window in WINDOWS]
    parts.append("\n")
    parts.append("\n".join(_alert(objective, burn) for objective in OBJECTIVES for burn in BURNS))
    return "".join(parts)


def _window(objective: Objective, window: str) -> str:
    expression = objective.error_ratio.replace("WINDOW", window).replace("\n", "\n          ")
    return f"      - record: {objective.record}{window}\n        expr: |\n          {expression}\n"


def _alert(objective: Objective, burn: Burn) -> str:
    limit = f"{burn.factor} * {objective.budget}"
    return f"""\
      - alert: {objective.alert}
        expr: {objective.record}{burn.long} > {limit} and {objective.record}{burn.short} > {limit}
        labels: {{severity: {burn.severity}, slo: {objective.name}, window: {burn.long}}}
        annotations:
          summary: 'The {objective.name} budget burns at more than {burn.factor} times its rate'
          description: >-
            {{{{ $value | humanizePercentage }}}} {objective.bad} over {burn.long}: {burn.spent} or more of what
            {DAYS} days may have is gone in that time. The promise: {objective.promise}.
          runbook_url: deploy/runbooks/{objective.alert}.md
"""


if __name__ == "__main__":
    OUTPUT.write_text(render(), encoding="utf-8")
    sys.stderr.write(f"wrote {OUTPUT.name}\n")
