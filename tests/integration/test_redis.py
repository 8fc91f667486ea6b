"""A served release over a Redis: offline = online, and what callers see while the Redis is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fraud_client import FraudClient, Unavailable
from support.redis import MISSING, PROGRAM, RedisServer
from support.server import Server, json_of, until

pytestmark = [pytest.mark.triton, pytest.mark.skipif(PROGRAM is None, reason=MISSING)]

PASSWORD = "only-for-tests"
ROWS = 12_000


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), password=PASSWORD) as running:
        yield running


@pytest.fixture(scope="module")
def over_redis(
    redis: RedisServer, served_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Told where its store is by the environment, which no list of processes shows."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FRAUD_STORE", f"redis://:{PASSWORD}@127.0.0.1:{redis.port}?timeout_ms=1000")
        server = Server(served_repository, tmp_path_factory.mktemp("server"))
    with server:
        yield server


def test_a_history_through_the_server_has_the_features_of_the_replay_though_it_is_killed_halfway(
    over_redis: Server, small_data_file: Path
) -> None:
    found = json_of(
        "features", "verify", "--data", small_data_file, "--url", over_redis.url, "--repository", over_redis.repository,
        "--limit", ROWS, "--repeat-share", 0.2, "--kill-halfway", "--home", over_redis.home,
    )  # fmt: skip
    assert found["rows"] == ROWS
    assert found["mismatches"] == found["labels_unknown"] == 0
    assert found["repeats"] > 0.1 * ROWS
    assert found["killed"]


def test_while_the_redis_is_gone_callers_are_told_so_and_are_served_again_when_it_is_back(
    over_redis: Server, redis: RedisServer, fresh
) -> None:
    with FraudClient(over_redis.url, deadline=2.0, token_key=b"a key for tests, no secret") as client:
        client.score(fresh.transaction())
        redis.kill()
        with pytest.raises(Unavailable, match=r"the window store \(Redis\) cannot be used") as refusal:
            client.score(fresh.transaction())
        assert PASSWORD not in str(refusal.value)
        assert str(redis.port) not in str(refusal.value)
        redis.start()

        def served() -> bool:
            try:
                client.score(fresh.transaction())
            except Unavailable:
                return False
            return True

        until(served, 20)
    logs = [path.read_bytes() for path in over_redis.home.rglob("*") if path.is_file()]
    assert any(b"window store: 127.0.0.1" in text and b"is gone" in text for text in logs)
    assert not any(PASSWORD.encode() in text for text in logs)
    assert PASSWORD not in "".join(over_redis.said.lines)
