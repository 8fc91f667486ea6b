"""What a client did since it was made, for a metrics exporter to read now and then."""

from __future__ import annotations

from typing import NamedTuple

from fraud_client._breaker import BreakerState


class EndpointStats(NamedTuple):
    """One server, as the client sees it."""

    name: str
    breaker: BreakerState
    opened: int
    """How often the breaker opened."""
    in_flight: int
    requests: int
    """Sent to it: first tries, retries and hedges."""
    failures: int
    """UNAVAILABLE, no answer in time, or failed."""


class Stats(NamedTuple):
    """Counts since the start, but for `waiting`, `hedge_delay`, `in_flight` and `breaker`, which are of the moment."""

    requests: int
    """Sent for the first time; calls that were joined count as one."""
    refused: int
    """Not sent, because every breaker was open."""
    retries: int
    retries_refused: int
    """Not sent, because the retry budget was spent."""
    hedges: int
    hedges_won: int
    """Hedges that answered first."""
    hedge_delay: float | None
    """Seconds after which a request is hedged; None while nothing is."""
    waiting: int
    """Calls that wait for a request to come back."""
    overloaded: int
    """Calls refused because too many waited."""
    endpoints: tuple[EndpointStats, ...]
