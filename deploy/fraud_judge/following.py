"""Whether a server answers by the route table that is in force: told by its rows, for the log has no epoch.

A row strays where the canary answered a customer of production's, or production one of the canary's; an answer of the
fallback does not stray, whoever it is for. Rows that stray are evidence like all others: who is whose customer follows
from the hash alone, so by chance an arm's rows differ no more than before, and the bound on false rollbacks stands. But
they make the arms alike, and hide harm; so no step goes forward on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fraud_judge.rollout import Trial
from fraud_judge.signs import Rows
from fraud_scoring import wire


@dataclass
class Following:
    """What the rows of one server in one step say. `share` of the buckets is the canary's."""

    trial: Trial
    share: int
    strays: int = 0
    canary_rows: int = 0
    """Rows of the canary's customers."""
    is_astray: bool = False
    """Whether the last row that can tell was given by another table."""

    def take(self, rows: Rows) -> None:
        """Take in rows of the step, in the order of their time."""
        of_canary = rows.bucket < self.share
        routed = rows.source <= wire.Source.CANARY
        own = np.where(of_canary, self.trial.canary, self.trial.production)
        stray = routed & (rows.release != own)
        # where the canary fails the release in production answers, which no other table does under that name
        stands_in = (rows.source == wire.Source.FALLBACK_RELEASE) & (rows.release == self.trial.production)
        tells = np.flatnonzero(stray | of_canary & (routed | stands_in))
        self.strays += int(stray.sum())
        self.canary_rows += int(of_canary.sum())
        if len(tells):
            self.is_astray = bool(stray[tells[-1]])
