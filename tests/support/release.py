"""A small history, and a model repository with a release that was trained on it: a few seconds, the same every time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from fraud_data import SimulatorSettings, Transactions, simulate
from fraud_release.splits import SplitDays
from fraud_release.train import Plan, train
from fraud_scoring.routes import Routes
from fraud_scoring.schema import default_schema

MODEL_REPOSITORY: Final = Path(__file__).parents[2] / "model_repository"
IN_GIT: Final = ("fraud_score", "fraud_front_door", "fraud_feedback", "release_template")
"""What a repository holds before its first release."""
SETTINGS: Final = SimulatorSettings(customers=300, terminals=600, days=75)
PLAN: Final = Plan(days=SplitDays(train=40, validation=7, test=7), trees=60)


def small_history() -> Transactions:
    """Some 40,000 labelled transactions of 300 customers in 75 days."""
    return simulate(SETTINGS)


def empty_repository(folder: Path) -> Path:
    """A model repository without a release, as git has it."""
    for name in IN_GIT:
        shutil.copytree(MODEL_REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def repository_with_release(folder: Path, data: Transactions) -> Path:
    """A model repository that serves release r0001, trained on `data`."""
    repository = empty_repository(folder)
    train(data, default_schema(), repository, PLAN, provenance={"simulated": True}, progress=lambda share, text: None)
    Routes(1).write(repository)
    return repository
