"""What integration and end-to-end tests share: a trained release, a server that nobody harms, fresh transactions."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from fraud_client import FraudClient, Token, Transaction
    from fraud_data import Transactions
    from fraud_scoring.pipeline import Pipeline
    from support.server import Server

PATIENT = 20.0
"""Seconds: tests ask whether an answer is right; how fast it comes is the load test's."""


WAITING = ("integration", "e2e")
"""Folders of tests that mostly wait for servers. They go first, so that others fill the processor meanwhile."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After the shuffling: a stable sort keeps what is random in it."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(here).parts[0] not in WAITING)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """How to repeat the order of a run that failed."""
    if terminalreporter.stats.get("failed") or terminalreporter.stats.get("error"):
        seed = config.getoption("randomly_seed", None)
        terminalreporter.write_line(f"the same order again: pytest --randomly-seed={seed} FILE")


class Fresh:
    """Transactions of the past month, with ids, customers and terminals that no other test uses."""

    def __init__(self) -> None:
        self._numbers = itertools.count(time.time_ns() // 1000)
        self.now = datetime.now(timezone.utc) - timedelta(minutes=1)

    def number(self) -> int:
        return next(self._numbers)

    def key(self) -> Token:
        """A customer or a terminal, as a token: one in ten plain numbers of this length looks like a card number."""
        from fraud_client import Token

        return Token(next(self._numbers))

    def transaction(
        self,
        amount: str = "12.50",
        *,
        customer: str | int | None = None,
        terminal: str | int | None = None,
        days_ago: float = 1.0,
        transaction_id: int | None = None,
    ) -> Transaction:
        from fraud_client import Transaction

        return Transaction(
            self.number() if transaction_id is None else transaction_id,
            self.now - timedelta(days=days_ago),
            self.key() if customer is None else customer,
            self.key() if terminal is None else terminal,
            Decimal(amount),
        )

    def rows(self, count: int) -> np.ndarray:
        """Rows int64 [count, 5], each of a customer and a terminal of its own; amounts rise from 10.00."""
        now_us = time.time_ns() // 1000
        return np.array(
            [[self.number(), now_us, self.number(), self.number(), 1_000 + i] for i in range(count)], np.int64
        )


@pytest.fixture(scope="session")
def fresh() -> Fresh:
    return Fresh()


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Every server, stub and shared-memory region of the whole run is gone at its end."""
    from support.server import leftovers

    yield
    assert leftovers() == []


@pytest.fixture(scope="session", autouse=True)
def release_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file of the key that signs every release of the run; servers trust it. What is set here, commands inherit."""
    from fraud_release.trust import (
        RELEASE_KEY_VARIABLE,
        SIGNING_KEY_VARIABLE,
        open_signing_key,
        public_key_file,
    )

    key = tmp_path_factory.mktemp("keys") / "release.key"
    open_signing_key(key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SIGNING_KEY_VARIABLE, str(key))
        patch.setenv(RELEASE_KEY_VARIABLE, str(public_key_file(key)))
        yield key


@pytest.fixture(scope="session")
def small_data() -> Transactions:
    from support.release import small_history

    return small_history()


@pytest.fixture(scope="session")
def small_data_file(small_data: Transactions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fraud_data import write_transactions
    from fraud_scoring.schema import default_schema

    path = tmp_path_factory.mktemp("data") / "transactions.parquet"
    write_transactions(path, small_data, default_schema())
    return path


@pytest.fixture(scope="session")
def served_repository(small_data: Transactions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with release r0001. Read it; change a copy."""
    from support.release import repository_with_release

    return repository_with_release(tmp_path_factory.mktemp("repository"), small_data)


@pytest.fixture(scope="session")
def served_pipeline(served_repository: Path) -> Pipeline:
    """The served release in this process: what the server must answer, to the bit."""
    from fraud_scoring.pipeline import Pipeline

    return Pipeline.load(served_repository, 1)


@pytest.fixture(scope="session")
def server(served_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of all tests that do it no harm."""
    from support.server import Server

    with Server(served_repository, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[FraudClient]:
    from fraud_client import FraudClient

    with FraudClient(server.url, deadline=PATIENT, token_key=b"a key for tests, no secret") as connected:
        yield connected


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of all tests that do it no harm; each uses a namespace of its own."""
    from support.redis import MISSING, PROGRAM, RedisServer

    if PROGRAM is None:
        pytest.skip(MISSING)
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same, three primaries with a replica each."""
    from support.redis import MISSING, PROGRAM, RedisCluster

    if PROGRAM is None:
        pytest.skip(MISSING)
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster.url
