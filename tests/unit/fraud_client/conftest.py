"""Fakes of the server's side: transports that answer from a rule and remember what they were asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal

import numpy as np
import pytest

from fraud_client import Call, FraudClientError, Transaction
from fraud_scoring import wire

KEY = b"0123456789abcdef"
NOW = datetime(2026, 3, 1, 12, 30, tzinfo=timezone.utc)
VERDICT = (int(wire.Decision.REVIEW), 5, 2, 0, 7, int(wire.Source.PRIMARY))


def answer_to(call: Call) -> dict[str, np.ndarray]:
    """Score = amount in minor units / 10,000, so that a test sees whose answer it got."""
    rows = len(call.rows)
    tensors = {
        "score": (call.rows[:, -1:] / 10_000).astype(np.float32),
        "verdict": np.tile(np.array(VERDICT, dtype=np.int32), (rows, 1)),
        "features": np.tile(np.array([0.5, 2.0], dtype=np.float32), (rows, 1)),
        "accepted": np.ones((rows, 1), dtype=np.int32),
    }
    return {name: tensors[name] for name in call.outputs}


class FakeTransport:
    def __init__(self, answer: Callable[[Call], dict[str, np.ndarray]] = answer_to) -> None:
        self.answer = answer
        self.calls: list[Call] = []
        self.is_ready: bool | FraudClientError = True
        self.closed = False

    def infer(self, call: Call) -> dict[str, np.ndarray]:
        self.calls.append(call)
        return self.answer(call)

    def ready(self, model: str, timeout: float) -> bool:
        if isinstance(self.is_ready, FraudClientError):
            raise self.is_ready
        return self.is_ready

    def close(self) -> None:
        self.closed = True


class FakeAsyncTransport:
    """Answers only while `open` is set, so that a test can hold requests back."""

    def __init__(self, answer: Callable[[Call], dict[str, np.ndarray]] = answer_to) -> None:
        self.answer = answer
        self.calls: list[Call] = []
        self.open = asyncio.Event()
        self.open.set()
        self.closed = False

    async def infer(self, call: Call) -> dict[str, np.ndarray]:
        self.calls.append(call)
        await self.open.wait()
        return self.answer(call)

    async def ready(self, model: str, timeout: float) -> bool:
        return True

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def fake_transport() -> type[FakeTransport]:
    return FakeTransport


@pytest.fixture
def fake_async_transport() -> type[FakeAsyncTransport]:
    return FakeAsyncTransport


@pytest.fixture
def answer() -> Callable[[Call], dict[str, np.ndarray]]:
    return answer_to


@pytest.fixture
def transaction() -> Callable[..., Transaction]:
    """Makes a transaction; every field has a default."""

    def make(transaction_id: int = 17, amount: str = "12.50", **fields: object) -> Transaction:
        parts = {"event_time": NOW, "customer": 42, "terminal": 9, "amount": Decimal(amount)} | fields
        return Transaction(transaction_id, **parts)

    return make


@pytest.fixture(autouse=True)
def no_token_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FRAUD_TOKEN_KEY", raising=False)
