"""What Locust's users share in a process, and what the processes of a test hand in. Knows nothing of Locust.

A `Caller` is one process's share of a plan: users ask it for the next arrival, one after the other. A `Collector` is
where the shares come together, and what watches the server meanwhile.
"""

from __future__ import annotations

import io
import threading
import time
from dataclasses import fields
from datetime import datetime, timezone
from typing import NamedTuple

import numpy as np

from fraud_client import Access, FraudClientError, GrpcTransport, Unavailable
from fraud_load import workload
from fraud_load.access import for_transport
from fraud_load.assembly import Observed, assemble
from fraud_load.generator import Record, score_call, sources, status_of
from fraud_load.result import Kind, Requests, Result, Status
from fraud_load.runner import Target
from fraud_load.scenario import Scenario
from fraud_load.server_side import ServerWatch, metrics_url
from fraud_scoring.schema import default_schema
from fraud_scoring.wire import SCORE_MODEL

_CONNECT_S = 10.0


class Sent(NamedTuple):
    """One arrival, ended."""

    latency_s: float
    error: Exception | None
    """None where the answer was the right one: to refuse a bad request is right."""


class HandedIn(NamedTuple):
    """A process's part of the result."""

    requests: Requests
    cpu_seconds: float


class Caller:
    """Process `number` of `of`; users call `next` until it gives None."""

    def __init__(
        self, scenario: Scenario, salt: int, number: int, of: int, url: str, access: Access | None = None
    ) -> None:
        self._scenario, self._plan = scenario, workload.plan(scenario, salt).share(number, of)
        self._transport = GrpcTransport(url, **for_transport(access))
        if not self._transport.ready(SCORE_MODEL, _CONNECT_S):
            raise Unavailable(f"{url} does not serve {SCORE_MODEL}; is it ready?")
        self._record = Record(self._plan)
        self._next = self._out = 0
        self._stopped = False
        self.ended = threading.Event()
        """Set with the last answer."""

    def start(self, start_us: int) -> None:
        """Second 0 is `start_us` (UTC microseconds), for all processes alike: a duplicate must equal its original."""
        self._rows = self._plan.stamped(start_us, default_schema())
        self._cpu = time.process_time()
        self._start = time.monotonic() + start_us / 1e6 - time.time()
        if not len(self._plan):
            self.ended.set()

    def stop(self) -> None:
        """Give nobody anything more."""
        self._stopped = True
        self._look_for_the_end()

    def next(self) -> Sent | None:
        """Wait for the next arrival's time, send it, and say how it went; None when there is none left."""
        if self._stopped or self._next == len(self._plan):
            return None
        i, self._next, self._out = self._next, self._next + 1, self._out + 1
        try:
            wait = self._start + self._plan.intended_s[i] - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            return None if self._stopped else self._send(i)
        finally:
            self._out -= 1
            self._look_for_the_end()

    def hand_in(self) -> HandedIn:
        """The part of this process."""
        self._transport.close()
        return HandedIn(self._record.requests(self._start), time.process_time() - self._cpu)

    def _send(self, i: int) -> Sent:
        record, plan = self._record, self._plan
        rows = self._rows[plan.first[i] : plan.first[i + 1]]
        record.call[i] = i
        record.taken[i] = record.sent[i] = time.monotonic()
        problem: Exception | None = None
        try:
            answer = self._transport.infer(score_call(rows, self._scenario.sending, self._scenario.workload.purpose))
        except FraudClientError as error:
            problem, status = error, status_of(error)
        else:
            found = sources(answer, len(rows))
            status = Status.OTHER if found is None else Status.OK
            if found is not None:
                record.source[i] = found.max()
        record.done[i], record.status[i] = time.monotonic(), status
        due = Status.REFUSED if plan.kind[i] == Kind.BAD else Status.OK
        if status == due:
            problem = None
        elif problem is None:
            problem = RuntimeError(f"the answer was {Status(status).name.lower()}, {due.name.lower()} was due")
        return Sent(float(record.done[i] - self._start - plan.intended_s[i]), problem)

    def _look_for_the_end(self) -> None:
        if self._out == 0 and (self._stopped or self._next == len(self._plan)):
            self.ended.set()


class Collector:
    """Puts the parts of `processes` processes together."""

    def __init__(self, scenario: Scenario, target: Target, processes: int) -> None:
        self.scenario, self.profile = scenario, scenario.arrivals.profile()
        self._target, self._processes = target, processes
        self._parts: list[HandedIn] = []
        self.judged = False
        """Whether the test is over; set by whoever asked for `result`."""
        self._started = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        page = metrics_url(target.url, target.metrics)
        self._watch = ServerWatch(target.watched, time.monotonic(), page)
        self._watch.__enter__()

    def add(self, part: HandedIn) -> bool:
        """One more part; returns whether it was the last."""
        self._parts.append(part)
        return len(self._parts) == self._processes

    def result(self) -> Result:
        """The judged result."""
        self._watch.__exit__(None, None, None)
        requests = Requests.merged([part.requests for part in self._parts])
        cpu = [part.cpu_seconds for part in self._parts]
        observed = Observed("locust", self._target.url, self._started, requests, self._watch.series(), cpu)
        return assemble(self.scenario, observed)


def pack(part: HandedIn) -> bytes:
    """For the way from a worker to its master."""
    buffer = io.BytesIO()
    arrays = {one.name: getattr(part.requests, one.name) for one in fields(Requests)}
    np.savez_compressed(buffer, cpu_seconds=part.cpu_seconds, **arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> HandedIn:
    """What `pack` packed."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        requests = Requests(**{one.name: arrays[one.name] for one in fields(Requests)})
        return HandedIn(requests, float(arrays["cpu_seconds"]))
