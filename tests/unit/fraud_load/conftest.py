"""A small history, a release in this process, and a server's inside without a server around it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from fraud_client import Call, InvalidRequest
from fraud_data import SimulatorSettings, Transactions, simulate
from fraud_scoring import wire
from fraud_scoring.errors import FraudError
from fraud_scoring.front_door import FrontDoor
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.requests import Request
from fraud_scoring.stores.memory import MemoryStore
from fraud_scoring.validation import check_labels

Tensors = Mapping[str, np.ndarray[Any, Any]]
Answer = Callable[[Call], Tensors]


class Inside:
    """Front door, window store and release in this process: what a transport's `infer` gets from a real server."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.store = MemoryStore(pipeline.schema)
        self._door = FrontDoor(
            pipeline.schema, self.store, lambda rows, until: pipeline.answer(rows, self.store.read(rows))
        )

    def __call__(self, call: Call) -> Tensors:
        if call.model == wire.FEEDBACK_MODEL:
            check_labels(call.rows)
            return {wire.ACCEPTED: self.store.label(call.rows).astype(np.int32)[:, None]}
        reply = self._door.answer([Request(call.rows, json.dumps(dict(call.parameters)))])[0]
        if isinstance(reply, FraudError):
            raise InvalidRequest(str(reply))
        return {"score": reply.score, "verdict": reply.verdict, "features": reply.features}


class InProcessTransport:
    """Carries calls to `answer` and remembers them."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.calls: list[Call] = []

    def infer(self, call: Call) -> Tensors:
        self.calls.append(call)
        return self._answer(call)

    def ready(self, model: str, timeout: float) -> bool:
        return True

    def close(self) -> None:
        """Nothing is held."""


class AsyncInProcessTransport(InProcessTransport):
    """The same, to be awaited."""

    async def infer(self, call: Call) -> Tensors:  # type: ignore[override]
        return super().infer(call)

    async def ready(self, model: str, timeout: float) -> bool:  # type: ignore[override]
        return True

    async def close(self) -> None:  # type: ignore[override]
        """Nothing is held."""


@pytest.fixture(scope="session")
def history() -> Transactions:
    """45 days of few customers and terminals: windows fill, and frauds are known while the stream goes on."""
    return simulate(SimulatorSettings(customers=30, terminals=40, days=45, radius=40.0, seed=5))


@pytest.fixture(scope="session")
def pipeline(served_pipeline: Pipeline) -> Pipeline:
    """A release in this process."""
    return served_pipeline


@pytest.fixture
def inside(pipeline: Pipeline) -> Inside:
    """The inside of a server with an empty window store."""
    return Inside(pipeline)


@pytest.fixture(scope="session")
def transport() -> type[InProcessTransport]:
    return InProcessTransport


@pytest.fixture(scope="session")
def async_transport() -> type[AsyncInProcessTransport]:
    return AsyncInProcessTransport
