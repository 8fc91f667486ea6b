"""The front door with all that it holds, in this process: it follows the route table from batch to batch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fraud_scoring.requests import Request
from fraud_scoring.routes import ROUTES_FILE, Routes
from fraud_scoring.serving import Serving, inline_model
from fraud_scoring.settings import Settings
from fraud_scoring.stores import Answers
from support.rows import MONDAY_US
from support.variants import with_second_release


@pytest.fixture
def repository(served_repository: Path, tmp_path: Path) -> Path:
    """Release 1 in production, and release 2 that gives other scores."""
    return with_second_release(served_repository, tmp_path / "repository")


@pytest.fixture
def serving(repository: Path) -> Iterator[Serving]:
    opened = Serving(Settings("memory:"), repository, partial(inline_model, repository), "front-door-0")
    yield opened
    opened.close()


def ask(serving: Serving, identifier: int) -> Answers:
    (reply,) = serving.answer([Request(np.array([[identifier, MONDAY_US, 1, 1, 1_000]], np.int64))])
    assert isinstance(reply, Answers), reply
    return reply


def test_the_next_batch_goes_by_the_new_table(serving: Serving, repository: Path) -> None:
    before = ask(serving, 1)
    Routes.read(repository).promoted(2).write(repository)
    after = ask(serving, 2)
    assert [int(one.verdict[0, 4]) for one in (before, after)] == [1, 2]
    assert after.features.tobytes() != before.features.tobytes(), (
        "the store went on: the first payment is in its windows"
    )
    Routes.read(repository).rolled_back().write(repository)
    assert int(ask(serving, 3).verdict[0, 4]) == 1


def test_what_was_answered_by_one_release_stays_its_answer_under_another(serving: Serving, repository: Path) -> None:
    before = ask(serving, 1)
    Routes.read(repository).promoted(2).write(repository)
    again = ask(serving, 1)
    assert again.score.tobytes() == before.score.tobytes()
    assert again.verdict.tobytes() == before.verdict.tobytes()


@pytest.mark.parametrize("text", ["{", '{"production": "r0009"}', ""])
def test_a_table_that_cannot_be_used_leaves_the_one_before(serving: Serving, repository: Path, text: str) -> None:
    (repository / ROUTES_FILE).write_text(text, encoding="utf-8")
    assert int(ask(serving, 1).verdict[0, 4]) == 1
    (repository / ROUTES_FILE).write_text('{"production": "r0002"}', encoding="utf-8")
    assert int(ask(serving, 2).verdict[0, 4]) == 2


def test_a_table_that_is_gone_leaves_the_one_before(serving: Serving, repository: Path) -> None:
    (repository / ROUTES_FILE).unlink()
    assert int(ask(serving, 1).verdict[0, 4]) == 1
