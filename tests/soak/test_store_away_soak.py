"""The window store hangs, is slow or comes back empty under load: is everybody answered inside the deadline?

python -m pytest tests/soak/test_store_away_soak.py -s
FRAUD_SOAK_DEADLINE=0.08 python -m pytest tests/soak/test_store_away_soak.py -s     the default of callers, 80 ms

Each trouble is told beside the calm before it: what the machine is late with by itself, the store is not to blame for.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fraud_scoring.wire import Source
from support.open_loop import OpenLoop, Reply
from support.redis import MISSING, PROGRAM, RedisServer
from support.server import Server, fraudctl
from support.slow_network import SlowNetwork

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)

RATE = 200.0
DEADLINE = float(os.environ.get("FRAUD_SOAK_DEADLINE", "0.25"))
SECONDS = 10
ADDED_S = 0.05


@pytest.fixture(scope="module")
def parts(served_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    with (
        RedisServer(tmp_path_factory.mktemp("redis")) as redis,
        SlowNetwork(redis.port) as network,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("FRAUD_STORE", f"redis://127.0.0.1:{network.port}")
        with Server(served_repository, tmp_path_factory.mktemp("home")) as server:
            yield server, redis, network


def figures(replies: list[Reply]) -> dict[str, object]:
    latency = np.array([reply.answered - reply.due for reply in replies]) * 1e3
    names = ("p50", 0.5), ("p99", 0.99), ("max", 1.0)
    return {
        "requests": len(replies),
        "failed": Counter(reply.error[:60] for reply in replies if reply.scored is None),
        "late": sum(reply.answered - reply.due > DEADLINE for reply in replies),
        "by_the_scorecard": sum(reply.sources == {Source.SCORECARD} for reply in replies),
        "latency_ms": {name: round(float(np.quantile(latency, q)), 1) for name, q in names},
    }


def accepted(server: Server, network: SlowNetwork) -> None:
    done = fraudctl("store", "accept", "--store", f"redis://127.0.0.1:{network.port}", "--home", server.home)
    assert done.returncode == 0, done


@pytest.mark.timeout(300)
@pytest.mark.parametrize("trouble", ["hangs", "is slow", "comes back empty"])
def test_everybody_is_answered_inside_the_deadline_while_the_store(parts: tuple, trouble: str) -> None:
    server, redis, network = parts
    with OpenLoop(server.url, RATE, deadline=DEADLINE, seed=len(trouble)) as load:
        load.wait_for(lambda: load.replies[-1].sources == {Source.PRIMARY})
        began = len(load.replies)
        load.wait_for_more(int(SECONDS * RATE))
        struck = len(load.replies)
        if trouble == "hangs":
            with redis.frozen():
                load.wait_for_more(int(SECONDS * RATE))
        elif trouble == "is slow":
            network.delay_s = ADDED_S
            load.wait_for_more(int(SECONDS * RATE))
            network.delay_s = 0.0
        else:
            redis.kill()
            load.wait_for_more(int(SECONDS * RATE / 2))
            redis.start()
            load.wait_for_more(int(SECONDS * RATE / 2))
            accepted(server, network)
        load.wait_for(lambda: load.replies[-1].sources == {Source.PRIMARY})
        load.wait_for_more(int(RATE))
    calm, bad = load.replies[began:struck], load.replies[struck:]
    told = {"store": trouble, "deadline_ms": DEADLINE * 1e3, "calm": figures(calm), "trouble": figures(bad)}
    print(json.dumps(told), file=sys.__stderr__, flush=True)
    assert set(load.sources()) <= {Source.PRIMARY, Source.SCORECARD}
    assert sum(reply.sources == {Source.SCORECARD} for reply in bad) > 0.8 * len(bad)
    own_share = sum(reply.scored is None for reply in calm) / len(calm)
    assert sum(reply.scored is None for reply in bad) / len(bad) <= 0.001 + 2 * own_share
