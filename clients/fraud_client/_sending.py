"""Requests of the asyncio client; what is said of `_thread_sending` holds here, on one event loop."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from fraud_client._endpoints import Attempt, Endpoint, Endpoints
from fraud_client._errors import FraudClientError, Unavailable
from fraud_client._hedging import Race
from fraud_client._policy import Policy
from fraud_client._protocol import READY_DEADLINE, Answer, Call, with_time_left
from fraud_client._stats import Stats
from fraud_client._transport import AsyncTransport
from fraud_scoring.wire import SCORE_MODEL

Outcome = Answer | FraudClientError


class Sender:
    """`clock` is monotonic, in seconds."""

    def __init__(
        self,
        names: Sequence[str],
        transports: Sequence[AsyncTransport],
        policy: Policy,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._transports = transports
        self._endpoints = Endpoints(names, policy, jitter)
        self._several = len(transports) > 1
        self._clock = clock
        self._examinations: set[asyncio.Task[None]] = set()

    async def infer(self, call: Call, *, hedged: bool) -> Answer:
        """The answer, or the last FraudClientError."""
        began = self._clock()
        ends = began + call.timeout
        attempt = self._endpoints.first(began)
        if self._several:
            self._begin_health_calls(began)
        delay = self._endpoints.hedge_delay if hedged else None
        if delay is None:
            outcome = await self._alone(attempt, call)
        else:
            outcome = await self._hedged(attempt, call, delay, ends)
        if not isinstance(outcome, FraudClientError):
            return outcome
        if isinstance(outcome, Unavailable):
            again = await self._second_try(attempt, ends)
            if again is not None:
                outcome = await self._alone(again, with_time_left(call, ends - again.began))
                if not isinstance(outcome, FraudClientError):
                    return outcome
        raise outcome

    async def ready(self, timeout: float) -> bool:
        """Whether one endpoint at least serves scores; all are asked, so that every connection is open then."""
        every = range(len(self._transports))
        answers = await asyncio.gather(*(self._is_ready(index, timeout) for index in every))
        self._endpoints.found_well(index for index in every if answers[index])
        return any(answers)

    def stats(self, *, waiting: int, overloaded: int) -> Stats:
        return self._endpoints.stats(waiting=waiting, overloaded=overloaded)

    async def close(self) -> None:
        for task in self._examinations:
            task.cancel()
        await asyncio.gather(*self._examinations, return_exceptions=True)
        for transport in self._transports:
            await transport.close()

    async def _alone(self, attempt: Attempt, call: Call) -> Outcome:
        """One request and its outcome; whatever interrupts it gives the endpoint its place back."""
        try:
            answer = await self._transports[attempt.endpoint.index].infer(call)
        except FraudClientError as error:
            self._endpoints.failed(attempt, error, self._clock())
            return error.with_traceback(None)
        except BaseException:
            self._endpoints.given_up(attempt, self._clock(), beaten=False)
            raise
        self._endpoints.answered(attempt, self._clock())
        return answer

    async def _hedged(self, first: Attempt, call: Call, delay: float, ends: float) -> Outcome:
        """The first good answer of one request and, if it takes longer than `delay`, of a second one elsewhere."""
        race = Race(self._endpoints, first, delay, ends)
        out = {self._begin(first, call): first}
        try:
            while True:
                done, _ = await asyncio.wait(out, timeout=race.wait, return_when=asyncio.FIRST_COMPLETED)
                now = self._clock()
                if not done:
                    hedge = race.hedge(now)
                    if hedge is not None:
                        out[self._begin(hedge, with_time_left(call, ends - now))] = hedge
                    continue
                task = done.pop()
                outcome = await _outcome(task)
                if race.settles(out.pop(task), outcome, now, other_out=bool(out)):
                    return outcome
        finally:
            for task, attempt in out.items():
                task.cancel()
                task.add_done_callback(_forget)
                self._endpoints.given_up(attempt, self._clock(), beaten=race.beaten)

    def _begin(self, attempt: Attempt, call: Call) -> asyncio.Task[Answer]:
        return asyncio.ensure_future(self._transports[attempt.endpoint.index].infer(call))

    async def _second_try(self, failed: Attempt, ends: float) -> Attempt | None:
        now = self._clock()
        if pause := self._endpoints.retry_pause(failed, ends - now, now):
            await asyncio.sleep(pause)
            now = self._clock()
        return self._endpoints.retry(failed, ends - now, now)

    def _begin_health_calls(self, now: float) -> None:
        for endpoint in self._endpoints.health_calls(now):
            task = asyncio.create_task(self._examine(endpoint))
            self._examinations.add(task)
            task.add_done_callback(self._examinations.discard)

    async def _examine(self, endpoint: Endpoint) -> None:
        """A health call."""
        well = False
        try:
            well = await self._is_ready(endpoint.index, READY_DEADLINE)
        finally:
            self._endpoints.examined(endpoint, well, self._clock())

    async def _is_ready(self, index: int, timeout: float) -> bool:
        try:
            return await self._transports[index].ready(SCORE_MODEL, timeout)
        except FraudClientError:
            return False


async def _outcome(task: asyncio.Task[Answer]) -> Outcome:
    """Of a task that is done."""
    try:
        return await task
    except FraudClientError as error:
        return error.with_traceback(None)


def _forget(task: asyncio.Task[Answer]) -> None:
    """A request that was given up may have failed meanwhile: asyncio is not to tell of it."""
    if not task.cancelled():
        task.exception()
