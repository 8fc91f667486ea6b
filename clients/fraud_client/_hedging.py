"""When a request without an answer is sent a second time, elsewhere, and which of the two outcomes counts. Pure."""

from __future__ import annotations

from fraud_client._endpoints import Attempt, Endpoints
from fraud_client._errors import FraudClientError, InvalidRequest
from fraud_client._protocol import Answer


class Race:
    """Between `first`, on its way since just now, and a hedge; `delay` and the moment `ends` are in seconds."""

    def __init__(self, endpoints: Endpoints, first: Attempt, delay: float, ends: float) -> None:
        self._endpoints, self._first, self._ends = endpoints, first, ends
        self._delay = delay
        self._refusals = 0
        self._hedge: Attempt | None = None
        self.wait: float | None = delay
        """How long to wait for an outcome before `hedge`; None: it will not be asked again."""
        self.beaten = False
        """Whether the hedge answered first."""

    def hedge(self, now: float) -> Attempt | None:
        """The hedge, if there is to be one now: at `delay`, and where none was granted then, at 2, 4, 8 times that."""
        left = self._ends - now
        self._hedge = self._endpoints.hedge(self._first, left, now, late=self._refusals > 0)
        if self._hedge is None and self._endpoints.hedge_can_answer(left):
            self.wait = self._delay * 2**self._refusals
            self._refusals += 1
        else:
            self.wait = None
        return self._hedge

    def settles(self, attempt: Attempt, outcome: Answer | FraudClientError, now: float, *, other_out: bool) -> bool:
        """Whether the outcome of one of the two is the request's: an answer, a refusal, or the last failure."""
        if isinstance(outcome, FraudClientError):
            self._endpoints.failed(attempt, outcome, now)
            return not other_out or isinstance(outcome, InvalidRequest)
        self.beaten = attempt is self._hedge
        self._endpoints.answered(attempt, now, hedge=self.beaten)
        return True
