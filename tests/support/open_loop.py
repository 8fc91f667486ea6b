"""Callers that do not wait for one another: requests go out when they are due, whatever became of the ones before."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fraud_client import Access, AsyncFraudClient, FraudClientError, Policy, Scored
from fraud_scoring import wire
from fraud_scoring.pipeline import Pipeline

_RELEASE, _SOURCE = wire.VERDICT_COLUMNS.index("release"), wire.VERDICT_COLUMNS.index("source")
_FIRST_ID = 1 << 40


@dataclass(frozen=True)
class Reply:
    """What became of one request: when it was due and answered (time.monotonic), with what, or with which error; `rows`
    are what was asked."""

    due: float
    answered: float
    scored: Scored | None
    error: str = ""
    rows: np.ndarray = field(default_factory=lambda: np.empty((0, 5), np.int64), repr=False)

    @property
    def releases(self) -> frozenset[int]:
        return frozenset() if self.scored is None else frozenset(self.scored.verdict[:, _RELEASE].tolist())

    @property
    def sources(self) -> frozenset[wire.Source]:
        if self.scored is None:
            return frozenset()
        return frozenset(wire.Source(one) for one in np.unique(self.scored.verdict[:, _SOURCE]).tolist())


class OpenLoop:
    """Sends `rate` requests a second of `rows` rows each to `url` in a thread, from `start` until `stop`."""

    def __init__(
        self,
        url: str,
        rate: float,
        *,
        rows: int = 1,
        deadline: float = 1.0,
        seed: int = 1,
        access: Access | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._client = {"access": access, "policy": policy}
        self.deadline = deadline
        self.replies: list[Reply] = []
        self.sent: list[np.ndarray] = []
        self._url, self._rate, self._rows = url, rate, rows
        self._random = np.random.default_rng(seed)
        self._first_id = _FIRST_ID + seed * (1 << 32)
        self._ended = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="open-loop", daemon=True)

    def __enter__(self) -> OpenLoop:
        self._thread.start()
        self.wait_for(lambda: len(self.replies) > 0)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no more, and return when all that was sent is answered."""
        self._ended.set()
        self._thread.join()

    def wait_for(self, happened: object, within: float = 60.0) -> None:
        """Return once `happened()` says so; it is asked after each reply."""
        with self._changed:
            assert self._changed.wait_for(happened, within), "it did not happen"  # type: ignore[arg-type]

    def wait_for_one(self, like: Callable[[Reply], bool]) -> None:
        """Return once a reply from now on is `like` that, be it that others came behind it meanwhile."""
        before = len(self.replies)
        self.wait_for(lambda: any(like(reply) for reply in self.replies[before:]))

    def wait_for_more(self, replies: int) -> None:
        """Return when so many more requests were answered."""
        wanted = len(self.replies) + replies
        self.wait_for(lambda: len(self.replies) >= wanted)

    def failed(self) -> list[Reply]:
        """Requests that got an error."""
        return [reply for reply in self.replies if reply.scored is None]

    def sources(self) -> Counter[wire.Source]:
        """How many requests were answered by whom."""
        return Counter(source for reply in self.replies for source in reply.sources)

    def wrong(self, pipelines: Mapping[int, Pipeline]) -> int:
        """Rows whose score is not, to the bit, what the release that they name gives for their features."""
        found = 0
        scored = [reply.scored for reply in self.replies if reply.scored is not None]
        decided = [one for one in scored if one.verdict[0, _SOURCE] < wire.Source.SCORECARD]
        if not decided:
            return 0
        verdict = np.concatenate([one.verdict for one in decided])
        score = np.concatenate([one.score for one in decided]).reshape(-1)
        features = np.concatenate([one.features for one in decided if one.features is not None])
        for release in np.unique(verdict[:, _RELEASE]).tolist():
            mine = verdict[:, _RELEASE] == release
            again = pipelines[release].decide(np.ascontiguousarray(features[mine]))
            differ = again.score.reshape(-1).view(np.uint32) != score[mine].view(np.uint32)
            differ |= (again.verdict[:, :_SOURCE] != verdict[mine][:, :_SOURCE]).any(axis=1)
            found += int(differ.sum())
        return found

    async def _run(self) -> None:
        pending: set[asyncio.Task[None]] = set()
        async with AsyncFraudClient(self._url, deadline=self.deadline, **self._client) as client:
            await client.ready()
            began, sent = time.monotonic(), 0
            while not self._ended.is_set():
                due = began + sent / self._rate
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                task = asyncio.create_task(self._ask(client, due, sent))
                pending.add(task)
                task.add_done_callback(pending.discard)
                sent += 1
            await asyncio.gather(*pending)

    async def _ask(self, client: AsyncFraudClient, due: float, number: int) -> None:
        now_us = time.time_ns() // 1000
        ids = self._first_id + number * self._rows + np.arange(self._rows)
        draw = self._random.integers
        keys = [draw(1, 5_000, self._rows), draw(1, 10_000, self._rows), draw(100, 30_000, self._rows)]
        rows = np.stack([ids, np.full(self._rows, now_us), *keys], axis=1).astype(np.int64)
        self.sent.append(rows)
        try:
            scored = await client.score_rows(rows, with_features=True)
            reply = Reply(due, time.monotonic(), scored, rows=rows)
        except FraudClientError as error:
            reply = Reply(due, time.monotonic(), None, f"{type(error).__name__}: {error}", rows)
        with self._changed:
            self.replies.append(reply)
            self._changed.notify_all()


def pipelines_of(repository: Path, *releases: int) -> dict[int, Pipeline]:
    """Releases in this process: what a server must answer, to the bit."""
    return {release: Pipeline.load(repository, release) for release in releases}
