"""What a client may do about servers that are slow or gone: the settings, in one frozen object."""

from __future__ import annotations

from dataclasses import dataclass

from fraud_client._errors import InvalidRequest


@dataclass(frozen=True)
class Policy:
    """Times are seconds, shares are of the requests of the last `window`; a share of 0 turns its part off.

    A request that got UNAVAILABLE is sent once more. A request that is slower than most is sent to a second endpoint
    as well (a hedge). Both are safe because a transaction_id counts once, and whoever repeats it gets its first answer;
    with several endpoints that needs servers that share one store (Redis).
    """

    window: float = 10.0
    """How far back budgets and failure shares look."""

    retry_share: float = 0.10
    """Retries are at most this share of the requests, plus `retry_reserve` a window: an outage is not made worse."""
    retry_reserve: int = 10
    """Retries that need no requests to pay for them, so that a quiet client may retry too."""
    retry_pause: float = 0.02
    """The longest pause before the same endpoint is asked again; another one is asked at once."""

    hedge_share: float = 0.05
    """Hedges are at most this share of the requests, with no reserve."""
    hedge_quantile: float = 0.95
    """A hedge leaves when the answer takes longer than this share of the last 512 did."""

    breaker_failures: int = 5
    """So many failures in a row open an endpoint's breaker; 0: breakers stay closed."""
    breaker_share: float = 0.5
    """So does this share of failures, among `breaker_least` requests or more."""
    breaker_least: int = 20
    breaker_open: float = 0.5
    """How long an open breaker keeps requests away, before jitter; twice as long after each trial that fails."""
    breaker_open_most: float = 2.0

    max_waiting: int = 10_000
    """Calls of `score` that may wait in the client; one more is `Overloaded`."""

    def __post_init__(self) -> None:
        for name in ("retry_share", "hedge_share"):
            _check(0 <= getattr(self, name) <= 1, name, "a share from 0 to 1")
        _check(0 < self.hedge_quantile < 1, "hedge_quantile", "a share between 0 and 1")
        _check(0 < self.breaker_share <= 1, "breaker_share", "a share above 0, at most 1")
        for name in ("retry_reserve", "breaker_failures"):
            _check(getattr(self, name) >= 0, name, "0 or more")
        for name in ("breaker_least", "max_waiting"):
            _check(getattr(self, name) >= 1, name, "1 or more")
        _check(self.retry_pause >= 0, "retry_pause", "0 seconds or more")
        for name in ("window", "breaker_open"):
            _check(getattr(self, name) > 0, name, "above 0 seconds")
        _check(self.breaker_open_most >= self.breaker_open, "breaker_open_most", "at least breaker_open")

    @classmethod
    def plain(cls) -> Policy:
        """Each request is sent once, whatever happened to those before it: for probes and load generators."""
        return cls(retry_share=0, hedge_share=0, breaker_failures=0)


def _check(good: bool, name: str, rule: str) -> None:
    if not good:
        raise InvalidRequest(f"Policy: {name} must be {rule}")
