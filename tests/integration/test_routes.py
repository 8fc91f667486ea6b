"""Releases change under callers who do not wait: a real Triton, real releases, `fraudctl routes` as it is typed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fraud_client import FraudClient
from fraud_scoring.routes import ROUTES_FILE, Routes
from fraud_scoring.wire import Source
from support.open_loop import OpenLoop, pipelines_of
from support.server import Server, fraudctl, json_of, until
from support.variants import variant, with_second_release

PATIENT = 30.0
"""Seconds that a caller waits here: this is about answers, and a busy machine's times are not."""
RATE = 60.0


@pytest.fixture(scope="module")
def repository(served_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release 1 in production, and release 2 that decides otherwise."""
    return with_second_release(served_repository, tmp_path_factory.mktemp("routes") / "repository")


@pytest.fixture(scope="module")
def running(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each model in a process of its own: it can die."""
    with Server(repository, tmp_path_factory.mktemp("home"), "--models", "served") as server:
        yield server


@pytest.fixture
def routed(running: Server, repository: Path) -> Server:
    """The server with release 1 in production and nothing else asked."""
    there = Routes.read(repository)
    Routes(1, epoch=there.epoch, warm=tuple(one for one in there.loaded if one != 1)).write(repository)
    now_us = time.time_ns() // 1000
    with FraudClient(running.url, deadline=PATIENT) as client:
        until(lambda: client.score_rows(np.array([[7, now_us, 1, 1, 1_000]]), dry_run=True).verdict[0, 4] == 1)
    return running


def routes(server: Server, *words: str) -> dict[str, object]:
    return json_of("routes", *words, "--repository", server.repository, "--url", server.url)


def test_releases_take_over_and_give_back_and_no_request_fails_or_mixes_them(routed: Server, repository: Path) -> None:
    with OpenLoop(routed.url, RATE, rows=4, deadline=PATIENT) as load:
        for _ in range(3):
            assert routes(routed, "bluegreen", "r0002")["production"] == "r0002"
            load.wait_for(lambda: load.replies[-1].releases == {2})
            assert routes(routed, "rollback")["production"] == "r0001"
            load.wait_for(lambda: load.replies[-1].releases == {1})
    assert load.failed() == []
    assert all(len(reply.releases) == 1 for reply in load.replies), "no answer is made of two releases"
    assert load.wrong(pipelines_of(repository, 1, 2)) == 0
    assert set(load.sources()) == {Source.PRIMARY}


def test_a_canary_answers_its_own_customers_from_then_on(routed: Server, repository: Path) -> None:
    routes(routed, "canary", "r0002", "--percent", "30")
    salt = Routes.read(repository).salt
    with OpenLoop(routed.url, RATE, rows=4, deadline=PATIENT, seed=2) as load:
        load.wait_for_more(40)
        routes(routed, "canary", "r0002", "--percent", "60")
        grown_at = time.monotonic()
        load.wait_for_more(40)
    assert load.failed() == []
    assert Routes.read(repository).salt == salt
    for reply in load.replies:
        assert reply.scored is not None
        on_canary = reply.scored.verdict[:, 4] == 2
        assert ((reply.scored.verdict[:, 5] == Source.CANARY) == on_canary).all()
    assert load.wrong(pipelines_of(repository, 1, 2)) == 0
    late = np.concatenate([reply.scored.verdict for reply in load.replies if reply.scored and reply.due > grown_at])
    assert 0.4 < (late[:, 4] == 2).mean() < 0.8


def test_a_dry_run_of_a_customer_of_the_canary_is_answered_by_production(routed: Server) -> None:
    routes(routed, "canary", "r0002", "--percent", "100")
    with FraudClient(routed.url, deadline=PATIENT) as client:
        now_us = time.time_ns() // 1000
        row = np.array([[7, now_us, 1, 1, 1_000]], np.int64)
        assert client.score_rows(row, dry_run=True).verdict[0, 4:].tolist() == [1, Source.PRIMARY]
        assert client.score_rows(row + np.array([[1 << 41, 0, 0, 0, 0]])).verdict[0, 4:].tolist() == [2, Source.CANARY]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_while_a_release_is_dead_or_frozen_another_answers_and_says_so(
    routed: Server, repository: Path, number: signal.Signals
) -> None:
    routes(routed, "bluegreen", "r0002")  # so that there is a production before
    with OpenLoop(routed.url, RATE, deadline=PATIENT, seed=3 + number) as load:
        lines = len(routed.said.lines)
        routed.stub("fraud_model", release=2).send_signal(number)
        load.wait_for_one(lambda reply: Source.FALLBACK_RELEASE in reply.sources)
        routed.said.wait_for("release r0002 loaded in", PATIENT, after=lines)
        load.wait_for(lambda: load.replies[-1].sources == {Source.PRIMARY})
    assert load.failed() == []
    assert set(load.sources()) == {Source.PRIMARY, Source.FALLBACK_RELEASE}
    assert {release for reply in load.replies for release in reply.releases} == {1, 2}
    assert load.wrong(pipelines_of(repository, 1, 2)) == 0


def test_a_table_that_is_broken_is_told_once_and_the_one_before_stays(routed: Server, repository: Path) -> None:
    lines, good = len(routed.said.lines), (repository / ROUTES_FILE).read_text(encoding="utf-8")
    (repository / ROUTES_FILE).write_text("{", encoding="utf-8")
    try:
        routed.said.wait_for("routes.json is broken", PATIENT, after=lines)
        with OpenLoop(routed.url, RATE, deadline=PATIENT, seed=9) as load:
            load.wait_for_more(30)
        assert load.failed() == []
        assert {release for reply in load.replies for release in reply.releases} == {1}
    finally:
        (repository / ROUTES_FILE).write_text(good, encoding="utf-8")


def test_a_release_that_was_changed_is_not_loaded_and_nothing_is_changed_for_anybody(
    routed: Server, repository: Path
) -> None:
    assert variant(repository) == 3
    model = repository / "fraud_model_r0003" / "1" / "model.onnx"
    model.chmod(0o644)
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    before, lines = Routes.read(repository), len(routed.said.lines)
    done = fraudctl(
        *("routes", "canary", "r0003", "--percent", 5, "--patience", 3),
        *("--repository", repository, "--url", routed.url),
    )
    assert done.returncode == 1
    assert "has not loaded release r0003 within 3 s, and nothing was changed" in done.stderr
    assert "fraud_model_r0003/1/model.onnx" in "".join(routed.said.lines[lines:])
    after = Routes.read(repository)
    assert (after.production, after.canary, 3 in after.loaded) == (before.production, None, False)


def test_where_no_server_answers_nothing_is_changed(repository: Path, routed: Server) -> None:
    before = Routes.read(repository)
    done = fraudctl("routes", "bluegreen", "r0002", "--repository", repository, "--url", "127.0.0.1:9")
    assert done.returncode == 1
    assert "no server answers at 127.0.0.1:9, and nothing was changed; start it" in done.stderr
    assert Routes.read(repository) == before


def test_the_table_is_shown_for_people_and_for_programs(routed: Server) -> None:
    routes(routed, "canary", "r0002", "--percent", "5")
    shown = fraudctl("routes", "show", "--repository", routed.repository).stdout
    assert "r0001, 95% of the customers" in shown
    assert "r0002, 5% of the customers" in shown
    table = json_of("routes", "show", "--repository", routed.repository)
    assert table["canary"] == {"release": "r0002", "share": 500}
