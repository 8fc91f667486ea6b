"""The asyncio runner: a scenario against a server, from the plan to the judged result.

    plan → generator processes, ready and waiting → start → ticks, progress, the server once a second → result

It ends by itself: with the last answer, at the step of a knee where p99 has left, or on Ctrl-C, which keeps what was
measured until then.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise
from typing import Final

import numpy as np

from fraud_client import Access
from fraud_load import access as showing
from fraud_load import workload
from fraud_load.arrivals import geometric_rates
from fraud_load.assembly import Observed, assemble
from fraud_load.findings import holds
from fraud_load.fleet import TICK_S, Done, Fleet, Tick
from fraud_load.result import Requests, Result
from fraud_load.scenario import Scenario
from fraud_load.server_side import ServerWatch, is_loopback, metrics_url, split_url
from fraud_load.slow_clients import SlowClients
from fraud_load.workload import Plan
from fraud_scoring.errors import InvalidInput

Progress = Callable[[float, str], None]
_SILENCE_S: Final = 60.0


@dataclass(frozen=True)
class Target:
    """The server to load. InvalidInput for another machine's, unless that is said to be meant."""

    url: str
    metrics: str | None = None
    """Its metrics page; found by itself on this machine, else port 8002 of the same host."""
    allow_remote: bool = False
    access: Access | None = None
    """TLS, and who calls, where the URL is a gateway's."""

    @property
    def watched(self) -> str | None:
        """Where the server's processes may listen; a gateway's port says nothing of the servers behind it."""
        return None if self.access else self.url

    def __post_init__(self) -> None:
        try:
            host, _ = split_url(self.url)
        except ValueError:
            raise InvalidInput(f"--url is {self.url!r}; write host:port, for example localhost:8001") from None
        if not self.allow_remote and not is_loopback(host):
            raise InvalidInput(
                f"{host} is not this machine: a load test can take a service down; "
                "if that server is yours to load, say so with --allow-remote"
            )


def run(scenario: Scenario, target: Target, progress: Progress = lambda share, text: None) -> Result:
    """Send `scenario` to `target` and judge it; FraudClientError where there is no server to begin with."""
    showing.for_transport(target.access)  # what cannot be read is told before anything is prepared
    plan = workload.plan(scenario, secrets.randbits(62), lambda share, text: progress(0.0, f"preparing {text}"))
    with ExitStack() as stack:
        fleet = stack.enter_context(Fleet(target.url, plan, scenario.sending, scenario.workload.purpose, target.access))
        progress(0.0, "connecting")
        fleet.ready()
        if slow := scenario.sending.slow_connections:
            stack.enter_context(SlowClients(*split_url(target.url), slow, showing.for_connection(target.access)))
        word = fleet.go()
        watch = ServerWatch(target.watched, word.start, metrics_url(target.url, target.metrics), fleet.pids())
        stack.enter_context(watch)
        done = _listen(fleet, scenario, plan, progress)
        server = watch.series()
    started = datetime.fromtimestamp(word.start_us / 1e6, timezone.utc).isoformat(timespec="milliseconds")
    requests = Requests.merged([one.requests for one in done])
    cpu = [one.cpu_seconds for one in done]
    return assemble(scenario, Observed("asyncio", target.url, started, requests, server, cpu))


def _listen(fleet: Fleet, scenario: Scenario, plan: Plan, progress: Progress) -> list[Done]:
    """The results of all processes, in their order; stops them when the knee is behind us or on Ctrl-C."""
    live, done, stopped = _Live(scenario, plan), list[Done](), False
    while True:
        try:
            for message in fleet.messages(_SILENCE_S):
                if isinstance(message, Done):
                    done.append(message)
                    continue
                live.hear(message)
                progress(*live.said())
                if live.left() and not stopped:
                    fleet.stop()
                    stopped = True
            break
        except KeyboardInterrupt:
            if stopped:
                raise
            fleet.stop()
            stopped = True
    return sorted(done, key=lambda one: one.number)


class _Live:
    """What is known while the run goes on."""

    def __init__(self, scenario: Scenario, plan: Plan) -> None:
        self._scenario, self._plan = scenario, plan
        self._taken: dict[int, int] = {}
        self._latest: dict[int, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
        self._latency = np.full(len(plan), np.nan)

    def hear(self, tick: Tick) -> None:
        self._taken[tick.number] = tick.taken
        self._latest[tick.number] = tick.latency_s
        self._latency[tick.arrival] = tick.latency_s

    def said(self) -> tuple[float, str]:
        """The share that is done, and a line for people."""
        taken = sum(self._taken.values())
        now = float(self._plan.intended_s[min(taken, len(self._plan) - 1)])
        latest = np.concatenate(list(self._latest.values())) * 1e3
        text = f"{now:.0f} of {self._scenario.duration_s:.0f} s, {taken:,} sent"
        if len(latest):
            p50, p99 = np.percentile(latest, [50, 99])
            text += f", p50 {p50:.1f} ms, p99 {p99:.1f} ms, {len(latest) / TICK_S:,.0f}/s answered"
        return min(now / self._scenario.duration_s, 1.0), text

    def left(self) -> bool:
        """Whether the last steps have all left their limit: then there is nothing more to learn."""
        if self._scenario.arrivals.kind != "steps":
            return False
        numbers = self._scenario.arrivals.numbers
        hold_s, leaves_ms, patience = numbers["hold_s"], numbers["leaves_ms"], int(numbers["patience"])
        count = len(geometric_rates(numbers["first"], numbers["last"], numbers["factor"]))
        now = float(self._plan.intended_s[max(sum(self._taken.values()) - 1, 0)])
        ended = min(int((now - leaves_ms / 1e3) / hold_s), count)  # steps whose last arrival is late if still out
        if ended < patience:
            return False
        edges = np.searchsorted(self._plan.intended_s, np.arange(ended - patience, ended + 1) * hold_s)
        for a, b in pairwise(edges.tolist()):
            latency = self._latency[a:b]
            answered = latency[~np.isnan(latency)]
            if holds(answered, len(latency) - len(answered), leaves_ms):
                return False
        return True
