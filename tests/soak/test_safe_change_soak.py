"""The long versions: 100 swaps under 1,000 requests a second, and releases that die or freeze under load.

python -m pytest tests/soak/test_safe_change_soak.py -s
FRAUD_SOAK_SWAPS=20 python -m pytest tests/soak/test_safe_change_soak.py -s
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fraud_scoring.routes import Routes
from fraud_scoring.wire import Source
from support.open_loop import OpenLoop, Reply, pipelines_of
from support.server import Server, fraudctl
from support.variants import with_second_release

SWAPS = int(os.environ.get("FRAUD_SOAK_SWAPS", "100"))
RATE = 1_000.0
CALM_RATE = 300.0
DEADLINE = 0.25
"""Seconds: of callers on the machine that serves them."""


@pytest.fixture(scope="module")
def repository(served_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copied = with_second_release(served_repository, tmp_path_factory.mktemp("change") / "repository")
    Routes(1, epoch=Routes.read(copied).epoch, warm=(2,)).write(copied)
    return copied


@pytest.fixture(scope="module", params=["inline", "served"])
def models(request: pytest.FixtureRequest) -> str:
    """Releases' graphs in the front door's process, and each in one of its own."""
    return str(request.param)


@pytest.fixture(scope="module")
def running(models: str, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(repository, tmp_path_factory.mktemp("home"), "--models", models) as server:
        yield server


@pytest.fixture
def routed(running: Server, repository: Path) -> Server:
    """The server with release 1 in production, and 2 loaded."""
    table = Routes.read(repository)
    Routes(1, epoch=table.epoch, warm=(2,)).write(repository)
    return running


def tell(**figures: object) -> None:
    """A line for people, beside what pytest captures."""
    print(json.dumps(figures), file=sys.__stderr__, flush=True)


def quantiles_ms(replies: list[Reply]) -> dict[str, float]:
    latency = np.array([reply.answered - reply.due for reply in replies]) * 1e3
    return {name: round(float(np.quantile(latency, q)), 1) for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def late(load: OpenLoop) -> int:
    return sum(reply.answered - reply.due > load.deadline for reply in load.replies)


@pytest.mark.timeout(600)
def test_a_hundred_swaps_fail_no_request_and_mix_no_answer(routed: Server, repository: Path) -> None:
    changes: list[tuple[float, int]] = []
    with OpenLoop(routed.url, RATE, deadline=5.0) as load:
        for _ in range(SWAPS // 2):
            for alter in (lambda table: table.promoted(2), lambda table: table.rolled_back()):
                written = alter(Routes.read(repository)).write(repository)
                changes.append((time.monotonic(), written.production))
                load.wait_for_more(int(RATE / 2))
    failed, mixed = load.failed(), [reply for reply in load.replies if len(reply.releases) > 1]
    wrong = load.wrong(pipelines_of(repository, 1, 2))
    tell(
        swaps=len(changes),
        requests=len(load.replies),
        failed=len(failed),
        mixed=len(mixed),
        rows_unlike_the_release_they_name=wrong,
        slowest_change_s=round(max(taken_up(load.replies, changes)), 3),
        latency_ms=quantiles_ms(load.replies),
    )
    assert failed == []
    assert mixed == []
    assert wrong == 0
    assert set(load.sources()) == {Source.PRIMARY}


def taken_up(replies: list[Reply], changes: list[tuple[float, int]]) -> list[float]:
    """Seconds from each change to the last answer of the release before."""
    ends = [moment for moment, _ in changes[1:]] + [float("inf")]
    out = []
    for (moment, release), end in zip(changes, ends, strict=True):
        old = [one.answered - moment for one in replies if moment < one.answered < end and one.releases != {release}]
        out.append(max(old, default=0.0))
    return out


@pytest.mark.timeout(300)
def test_a_rollback_is_over_within_a_second(routed: Server, repository: Path) -> None:
    Routes.read(repository).promoted(2).write(repository)
    with OpenLoop(routed.url, RATE, deadline=5.0, seed=2) as load:
        load.wait_for(lambda: load.replies[-1].releases == {2})
        typed = time.monotonic()
        done = fraudctl("routes", "rollback", "--repository", repository, "--url", routed.url)
        load.wait_for_more(1_000)
    last = max(reply.answered for reply in load.replies if reply.releases == {2})
    tell(rollback_from_typing_to_the_last_old_answer_s=round(last - typed, 3), requests=len(load.replies))
    assert done.returncode == 0
    assert load.failed() == []
    assert last - typed < 1.0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_release_that_dies_or_freezes_leaves_no_request_unanswered(
    routed: Server, models: str, repository: Path, number: signal.Signals
) -> None:
    Routes.read(repository).promoted(2).write(repository)
    with OpenLoop(routed.url, CALM_RATE, deadline=DEADLINE, seed=int(number)) as load:
        load.wait_for(lambda: load.replies[-1].releases == {2})
        routed.stub("fraud_model", release=2).send_signal(number)
        struck = time.monotonic()
        if models == "served":
            load.wait_for_one(lambda reply: Source.FALLBACK_RELEASE in reply.sources)
        load.wait_for(lambda: load.replies[-1].sources == {Source.PRIMARY})
        back = time.monotonic() - struck
        load.wait_for_more(int(CALM_RATE))
    tell(
        signal=number.name,
        requests=len(load.replies),
        failed=len(load.failed()),
        late=late(load),
        deadline_ms=1e3 * DEADLINE,
        primary_back_s=round(back, 2),
        sources={source.name: count for source, count in load.sources().items()},
        latency_ms=quantiles_ms(load.replies),
    )
    assert load.failed() == []
    assert late(load) == 0
    assert back < 10.0
