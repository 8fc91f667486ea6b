"""A small simulated history, an empty model repository, and a release that is trained once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fraud_data import SimulatorSettings, Transactions, simulate
from fraud_release.splits import SplitDays
from fraud_release.train import Plan, train
from support.release import empty_repository
from support.rows import DEFAULT_SCHEMA

PLAN = Plan(days=SplitDays(train=14, validation=6, test=6, delay=4), label_days=3.0, trees=20)
NOW = datetime(2026, 3, 2, 8, 0, tzinfo=timezone.utc)


class Trained(NamedTuple):
    """A repository that holds release 1, and its manifest."""

    repository: Path
    manifest: dict[str, Any]


Train = Callable[..., dict[str, Any]]


def run_training(data: Transactions, repository: Path, **changes: Any) -> dict[str, Any]:
    arguments = {"provenance": {"file": "tiny"}, "progress": lambda share, text: None, "now": lambda: NOW, **changes}
    return train(data, DEFAULT_SCHEMA, repository, arguments.pop("plan", PLAN), **arguments)


@pytest.fixture(scope="session")
def plan() -> Plan:
    return PLAN


@pytest.fixture(scope="session")
def history() -> Transactions:
    """40 days, 24,000 transactions, 7% of them fraud."""
    return simulate(SimulatorSettings(customers=300, terminals=800, days=40, radius=12.0, seed=11))


@pytest.fixture(scope="session")
def train_into() -> Train:
    """Train with the small plan: (data, repository, **changes) → manifest."""
    return run_training


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A model repository without a release."""
    return empty_repository(tmp_path / "models")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, history: Transactions) -> Trained:
    """A trained release; not to be changed."""
    folder = empty_repository(tmp_path_factory.mktemp("trained") / "models")
    return Trained(folder, run_training(history, folder))
