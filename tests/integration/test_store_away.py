"""The window store hangs, is slow, or comes back empty, under callers who do not wait: a real Triton, a real Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fraud_client import FraudClient, Unavailable
from fraud_scoring.features import replay
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.stores import open_store
from fraud_scoring.wire import Accepted, Source
from support.open_loop import OpenLoop
from support.redis import MISSING, PROGRAM, RedisServer
from support.rows import Int64
from support.server import Server, fraudctl, json_of, when_labels_are_taken
from support.slow_network import SlowNetwork

pytestmark = [pytest.mark.triton, pytest.mark.skipif(PROGRAM is None, reason=MISSING)]

PATIENT = 30.0
"""Seconds that a caller waits here; how long answers take is for a benchmark to say."""
RATE = 60.0
SOME = 60
"""Requests that are looked at in each state."""
ADDED_S = 0.05


class Scene:
    """A server, its Redis, the network between them, and all that was ever sent."""

    def __init__(self, server: Server, redis: RedisServer, network: SlowNetwork, pipeline: Pipeline) -> None:
        self.server, self.redis, self.network = server, redis, network
        self.url = f"redis://127.0.0.1:{redis.port}"
        self.pipeline = pipeline
        self._sent: list[Int64] = []
        self._next_id = 1 << 50

    @contextmanager
    def load(self, seed: int) -> Iterator[OpenLoop]:
        """Callers; none of them may fail or be answered by another than the release or the scorecard."""
        triton = self.server.triton().pid
        with OpenLoop(self.server.url, RATE, deadline=PATIENT, seed=seed) as load:
            load.wait_for(lambda: load.replies[-1].sources == {Source.PRIMARY})
            yield load
            load.wait_for(lambda: load.replies[-1].sources == {Source.PRIMARY})
        self._sent += load.sent
        assert load.failed() == []
        assert set(load.sources()) == {Source.PRIMARY, Source.SCORECARD}
        assert load.wrong({1: self.pipeline}) == 0
        assert self.server.triton().pid == triton, "a store that is away is no reason to start the server anew"

    def sent(self) -> Int64:
        return np.concatenate([np.empty((0, 5), np.int64), *self._sent])

    def features_are_exact(self) -> None:
        """New payments of the same customers at the same terminals see all that was sent, and nothing twice."""
        with FraudClient(self.server.url, deadline=PATIENT) as client:
            while True:
                rows = self.sent()[-300:].copy()
                rows[:, 0] = self._next_id + np.arange(len(rows))
                rows[:, 1] = time.time_ns() // 1000
                self._next_id += len(rows)
                scored = client.score_rows(rows, with_features=True)
                past = self.sent()
                self._sent.append(rows)
                if (scored.verdict[:, 5] == Source.PRIMARY).all():  # a busy machine's Redis may be late once more
                    break
        order = np.lexsort((past[:, 0], past[:, 1]))
        expected = replay(self.pipeline.schema, np.concatenate([past[order], rows]))[-len(rows) :]
        assert scored.features is not None
        assert scored.features.tobytes() == expected.tobytes()


@pytest.fixture(scope="module")
def scene(
    served_repository: Path, served_pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    with (
        RedisServer(tmp_path_factory.mktemp("redis")) as redis,
        SlowNetwork(redis.port) as network,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("FRAUD_STORE", f"redis://127.0.0.1:{network.port}/?timeout_ms=40")
        with Server(served_repository, tmp_path_factory.mktemp("home")) as server:
            yield Scene(server, redis, network, served_pipeline)


def until_degraded(load: OpenLoop) -> None:
    load.wait_for(lambda: load.replies[-1].sources == {Source.SCORECARD})
    load.wait_for_more(SOME)


def test_while_the_store_hangs_everybody_is_answered_and_afterwards_it_knows_all_of_them(scene: Scene) -> None:
    with scene.load(seed=1) as load:
        paid = load.replies[0].scored
        assert paid is not None
        label = np.array([[load.sent[0][0, 0], 0, time.time_ns() // 1000]])
        with FraudClient(scene.server.url, deadline=PATIENT) as client:
            with scene.redis.frozen():
                until_degraded(load)
                with pytest.raises(Unavailable, match="the window store"):
                    client.label_rows(label, deadline=2.0)
            load.wait_for(lambda: load.replies[-1].sources == {Source.PRIMARY})
            taken = when_labels_are_taken(lambda: client.label_rows(label))
            assert taken[0] in (Accepted.APPLIED, Accepted.ALREADY_KNOWN)
    scene.features_are_exact()


def test_while_the_store_is_slow_nobody_waits_for_it(scene: Scene) -> None:
    with scene.load(seed=2) as load:
        scene.network.delay_s = ADDED_S
        until_degraded(load)
        scene.network.delay_s = 0.0
    scene.features_are_exact()


def test_a_store_that_comes_back_empty_is_not_read_until_it_is_filled_and_accepted(scene: Scene) -> None:
    of_home = ("--store", f"redis://127.0.0.1:{scene.network.port}", "--home", scene.server.home)
    assert json_of("store", "status", *of_home)["right"]
    with scene.load(seed=3) as load:
        scene.redis.kill()
        until_degraded(load)
        empty_from = len(load.replies)
        scene.redis.start()
        until_degraded(load)
        assert fraudctl("store", "status", *of_home).returncode == 1
        filling = open_store(scene.url, scene.pipeline.schema, filling=True)
        filling.record(np.concatenate([scene.sent(), *load.sent]))
        filling.close()
        degraded_to = len(load.replies)
        assert json_of("store", "accept", *of_home)["right"]
    assert all(reply.sources == {Source.SCORECARD} for reply in load.replies[empty_from:degraded_to])
    scene.features_are_exact()
