"""Several servers as one: which gets a request, whether it is sent again, and what is counted. Pure: no I/O, no clock.

Not safe for threads by itself. Times are seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from fraud_client._breaker import Breaker
from fraud_client._errors import DeadlineExceeded, FraudClientError, InvalidRequest, ServerFailed, Unavailable
from fraud_client._latencies import Latencies
from fraud_client._policy import Policy
from fraud_client._recent import Budget
from fraud_client._stats import EndpointStats, Stats

KEPT_FOR_LATE: Final = 0.4
"""Share of the hedge budget that only requests that are later than late may take (see `hedge`)."""
LEAST_TIME: Final = 0.001
"""A request that has less than this to be answered is not sent again."""
_FAILURES: Final = (Unavailable, DeadlineExceeded, ServerFailed)

T = TypeVar("T")


@dataclass(eq=False)
class Endpoint:
    index: int
    name: str
    breaker: Breaker
    in_flight: int = 0
    requests: int = 0
    failures: int = 0


@dataclass(eq=False, slots=True)
class Attempt:
    """One request on its way to one endpoint; it ends with one of `answered`, `failed`, `given_up`."""

    endpoint: Endpoint
    began: float
    trial: bool


def named_transports(
    url: str | Sequence[str], given: T | Sequence[T] | None, make: Callable[[str], T]
) -> tuple[tuple[str, ...], list[T]]:
    """The endpoints' names and their transports: those `given`, else one made for each address in `url`.

    Addresses are `host:port`, several with a comma between them or in a sequence.
    """
    if given is not None:
        transports = list(given) if isinstance(given, Sequence) else [given]
        if not transports:
            raise InvalidRequest("transport must be one, or a sequence of one or more")
        return tuple(str(getattr(one, "url", f"endpoint {i}")) for i, one in enumerate(transports)), transports
    names = tuple(name.strip() for name in (url.split(",") if isinstance(url, str) else url))
    if not names or not all(names):
        raise InvalidRequest("url must name a server, as host:port, or several with a comma between them")
    if len(set(names)) < len(names):
        raise InvalidRequest("url names a server twice: name each once")
    return names, [make(name) for name in names]


class Endpoints:
    def __init__(self, names: Sequence[str], policy: Policy, random: Callable[[], float]) -> None:
        self.policy = policy
        self._random = random
        self._all = [Endpoint(index, name, Breaker(policy, random)) for index, name in enumerate(names)]
        self._alone = len(self._all) == 1
        self._turn = 0
        self._retry_budget = Budget(policy.retry_share, policy.retry_reserve, policy.window)
        self._hedge_budget = Budget(policy.hedge_share, 0, policy.window)
        self._latencies = Latencies(policy.hedge_quantile)
        self._hedging = len(self._all) > 1 and policy.hedge_share > 0
        self._requests = self._refused = self._retries = self._retries_refused = self._hedges = self._hedges_won = 0

    # Where a request goes

    def first(self, now: float) -> Attempt:
        """For a new request; Unavailable where every breaker is open."""
        self._turn += 1
        endpoint = self._choose(now)
        if endpoint is None:
            self._refused += 1
            soonest = max(0.0, min(one.breaker.until for one in self._all) - now)
            names = ", ".join(one.name for one in self._all)
            raise Unavailable(
                f"{names} takes no requests now: it failed too often, and is tried again in {soonest:.1f} s; "
                "is the server up, and is this its gRPC address?"
            )
        self._requests += 1
        self._retry_budget.request(now)
        if self._hedging:
            self._hedge_budget.request(now)
        return self._take(endpoint, now)

    def retry_pause(self, failed: Attempt, left: float, now: float) -> float:
        """How long to wait before `retry`: not at all where another endpoint can be asked."""
        if len(self._all) > 1 and self._choose(now, failed.endpoint) is not None:
            return 0.0
        return min(self.policy.retry_pause, left / 4) * (0.5 + 0.5 * self._random())

    def retry(self, failed: Attempt, left: float, now: float) -> Attempt | None:
        """The second and last try of a request that got UNAVAILABLE, `left` before its deadline."""
        if left < LEAST_TIME:
            return None
        endpoint = self._choose(now, failed.endpoint) or (failed.endpoint if failed.endpoint.breaker.closed else None)
        if endpoint is None:
            return None
        if not self._retry_budget.grant(now):
            self._retries_refused += 1
            return None
        self._retries += 1
        return self._take(endpoint, now)

    @property
    def hedge_delay(self) -> float | None:
        """How long to wait for an answer before a second endpoint is asked; None: it is not."""
        return self._latencies.slow if self._hedging else None

    def hedge_can_answer(self, left: float) -> bool:
        """Whether a hedge is likely to answer in time: one request in two takes less."""
        return left >= max(self._latencies.median or 0.0, LEAST_TIME)

    def hedge(self, slow: Attempt, left: float, now: float, *, late: bool) -> Attempt | None:
        """A second request beside one that is slow, if another endpoint is good, and likely to answer in time.

        One request in twenty is slower than the p95, so hedges at that moment alone would spend the whole budget. Two
        fifths of it are kept for the `late`: those that were refused one at the p95 and still have no answer, as when a
        server hangs.
        """
        if not self.hedge_can_answer(left):
            return None
        endpoint = self._choose(now, slow.endpoint)
        if endpoint is None or not endpoint.breaker.closed:
            return None
        if not self._hedge_budget.grant(now, 0.0 if late else KEPT_FOR_LATE):
            return None
        self._hedges += 1
        return self._take(endpoint, now)

    def _choose(self, now: float, apart_from: Endpoint | None = None) -> Endpoint | None:
        """A trial first, if one may go out; else the closed one with the fewest in flight, in turn where they tie.

        An open breaker that is due waits for its health call, unless there is no closed one to ask meanwhile.
        """
        if self._alone:
            only = self._all[0]
            free = only.breaker.closed or only.breaker.wants_trial(now)
            return only if free and only is not apart_from else None
        best: Endpoint | None = None
        last: Endpoint | None = None
        for offset in range(len(self._all)):
            one = self._all[(self._turn + offset) % len(self._all)]
            if one is apart_from:
                continue
            if one.breaker.closed:
                if best is None or one.in_flight < best.in_flight:
                    best = one
            elif one.breaker.wants_trial(now):
                if not one.breaker.due(now) and apart_from is None:
                    return one
                last = one
        return best or last

    def _take(self, endpoint: Endpoint, now: float) -> Attempt:
        trial = not endpoint.breaker.closed
        if trial:
            endpoint.breaker.begin_trial()
        endpoint.in_flight += 1
        endpoint.requests += 1
        return Attempt(endpoint, now, trial)

    # How it ended

    def answered(self, attempt: Attempt, now: float, *, hedge: bool = False) -> None:
        """The server answered, be it that the request is wrong."""
        attempt.endpoint.in_flight -= 1
        attempt.endpoint.breaker.succeeded(now, attempt.trial)
        self._hedges_won += hedge
        if self._hedging:
            self._latencies.add(now - attempt.began)

    def failed(self, attempt: Attempt, error: FraudClientError, now: float) -> None:
        if not isinstance(error, _FAILURES):
            self.answered(attempt, now)
            return
        attempt.endpoint.in_flight -= 1
        attempt.endpoint.failures += 1
        if self._alone and isinstance(error, DeadlineExceeded) and not attempt.trial:
            return  # nobody else could be asked: whoever asks it again may be answered, and who is refused is not
        attempt.endpoint.breaker.failed(now, attempt.trial)

    def given_up(self, attempt: Attempt, now: float, *, beaten: bool) -> None:
        """Cancelled; `beaten` by its hedge, which counts as a failure: an endpoint that hangs shows in no other way."""
        attempt.endpoint.in_flight -= 1
        if not beaten:
            attempt.endpoint.breaker.given_up(attempt.trial)
            return
        attempt.endpoint.breaker.failed(now, attempt.trial)
        self._latencies.add(now - attempt.began)

    # Trials

    def health_calls(self, now: float) -> list[Endpoint]:
        """Of several endpoints, those to ask now whether they are well: each of them is to be `examined`.

        One alone is not asked: a call of `score` is its trial.
        """
        due = [one for one in self._all if not one.breaker.closed and one.breaker.due(now)]
        for one in due:
            one.breaker.begin_trial()
        return due

    def examined(self, endpoint: Endpoint, well: bool, now: float) -> None:
        if well:
            endpoint.breaker.healthy()
        else:
            endpoint.breaker.failed(now, trial=True)

    def found_well(self, indices: Iterable[int]) -> None:
        """The caller asked: those that are ready may have a trial now, whenever it was due."""
        for index in indices:
            self._all[index].breaker.healthy()

    def stats(self, *, waiting: int, overloaded: int) -> Stats:
        return Stats(
            requests=self._requests,
            refused=self._refused,
            retries=self._retries,
            retries_refused=self._retries_refused,
            hedges=self._hedges,
            hedges_won=self._hedges_won,
            hedge_delay=self.hedge_delay,
            waiting=waiting,
            overloaded=overloaded,
            endpoints=tuple(
                EndpointStats(
                    one.name, one.breaker.state, one.breaker.opened, one.in_flight, one.requests, one.failures
                )
                for one in self._all
            ),
        )
