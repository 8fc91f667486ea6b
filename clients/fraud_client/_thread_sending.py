"""Requests of the blocking client: sent to one of the endpoints, again where that may help, twice where it is slow.

One request: a first try, perhaps a hedge beside it, perhaps one retry after UNAVAILABLE; all of it within its timeout.
Nothing is sent again after INVALID_ARGUMENT (it would be refused again), after DEADLINE_EXCEEDED (no time is left) or
after another failure of the server.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Final

from fraud_client._endpoints import Attempt, Endpoint, Endpoints
from fraud_client._errors import DeadlineExceeded, FraudClientError, Unavailable
from fraud_client._hedging import Race
from fraud_client._policy import Policy
from fraud_client._protocol import READY_DEADLINE, Answer, Call, with_time_left
from fraud_client._stats import Stats
from fraud_client._transport import Transport
from fraud_scoring.wire import SCORE_MODEL

_GRACE: Final = 1.0
"""gRPC ends a request at its deadline; what is out so many seconds later is given up here."""

Outcome = Answer | FraudClientError


class ThreadSender:
    """Safe to use from several threads; `clock` is monotonic, `sleep` pauses a thread, both in seconds."""

    def __init__(
        self,
        names: Sequence[str],
        transports: Sequence[Transport],
        policy: Policy,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._transports = transports
        self._several = len(transports) > 1
        self._endpoints = Endpoints(names, policy, jitter)
        self._lock = threading.Lock()
        self._clock, self._sleep = clock, sleep

    def infer(self, call: Call, *, hedged: bool) -> Answer:
        """The answer, or the last FraudClientError."""
        began = self._clock()
        ends = began + call.timeout
        with self._lock:
            attempt = self._endpoints.first(began)
            due = self._endpoints.health_calls(began) if self._several else ()
            delay = self._endpoints.hedge_delay if hedged else None
        for endpoint in due:
            threading.Thread(target=self._examine, args=(endpoint,), name="fraud-client-health", daemon=True).start()
        outcome = self._alone(attempt, call) if delay is None else self._hedged(attempt, call, delay, ends)
        if not isinstance(outcome, FraudClientError):
            return outcome
        if isinstance(outcome, Unavailable):
            again = self._second_try(attempt, ends)
            if again is not None:
                outcome = self._alone(again, with_time_left(call, ends - again.began))
                if not isinstance(outcome, FraudClientError):
                    return outcome
        raise outcome

    def ready(self, timeout: float) -> bool:
        """Whether one endpoint at least serves scores; all are asked, so that every connection is open then."""
        every = range(len(self._transports))
        if self._several:
            with ThreadPoolExecutor(len(every)) as pool:
                answers = list(pool.map(self._is_ready, every, [timeout] * len(every)))
        else:
            answers = [self._is_ready(0, timeout)]
        with self._lock:
            self._endpoints.found_well(index for index in every if answers[index])
        return any(answers)

    def stats(self, *, waiting: int, overloaded: int) -> Stats:
        with self._lock:
            return self._endpoints.stats(waiting=waiting, overloaded=overloaded)

    def close(self) -> None:
        for transport in self._transports:
            transport.close()

    def _alone(self, attempt: Attempt, call: Call) -> Outcome:
        """One request and its outcome; whatever interrupts it gives the endpoint its place back."""
        try:
            answer = self._transports[attempt.endpoint.index].infer(call)
        except FraudClientError as error:
            with self._lock:
                self._endpoints.failed(attempt, error, self._clock())
            return error.with_traceback(None)
        except BaseException:
            with self._lock:
                self._endpoints.given_up(attempt, self._clock(), beaten=False)
            raise
        with self._lock:
            self._endpoints.answered(attempt, self._clock())
        return answer

    def _hedged(self, first: Attempt, call: Call, delay: float, ends: float) -> Outcome:
        """The first good answer of one request and, if it takes longer than `delay`, of a second one elsewhere."""
        race = Race(self._endpoints, first, delay, ends)
        back: SimpleQueue[tuple[Attempt, Outcome]] = SimpleQueue()
        out = {first: _nothing_to_cancel}
        try:
            out[first] = self._begin(first, call, back)
            while True:
                try:
                    attempt, outcome = back.get(timeout=race.wait or max(ends - self._clock(), 0) + _GRACE)
                except Empty:
                    now = self._clock()
                    if race.wait is None:
                        return DeadlineExceeded(f"no answer within {call.timeout * 1e3:g} ms, nor gRPC's word on it")
                    with self._lock:
                        hedge = race.hedge(now)
                    if hedge is not None:
                        out[hedge] = _nothing_to_cancel
                        out[hedge] = self._begin(hedge, with_time_left(call, ends - now), back)
                    continue
                del out[attempt]
                with self._lock:
                    settled = race.settles(attempt, outcome, self._clock(), other_out=bool(out))
                if settled:
                    return outcome
        finally:
            for attempt, cancel in out.items():
                cancel()
                with self._lock:
                    self._endpoints.given_up(attempt, self._clock(), beaten=race.beaten)

    def _begin(self, attempt: Attempt, call: Call, back: SimpleQueue[tuple[Attempt, Outcome]]) -> Callable[[], None]:
        return self._transports[attempt.endpoint.index].begin(call, lambda outcome: back.put((attempt, outcome)))

    def _second_try(self, failed: Attempt, ends: float) -> Attempt | None:
        now = self._clock()
        with self._lock:
            pause = self._endpoints.retry_pause(failed, ends - now, now)
        if pause:
            self._sleep(pause)
            now = self._clock()
        with self._lock:
            return self._endpoints.retry(failed, ends - now, now)

    def _examine(self, endpoint: Endpoint) -> None:
        """A health call, in a thread of its own."""
        well = self._is_ready(endpoint.index, READY_DEADLINE)
        with self._lock:
            self._endpoints.examined(endpoint, well, self._clock())

    def _is_ready(self, index: int, timeout: float) -> bool:
        try:
            return self._transports[index].ready(SCORE_MODEL, timeout)
        except FraudClientError:
            return False


def _nothing_to_cancel() -> None:
    """Of a request that is not on its way yet."""
