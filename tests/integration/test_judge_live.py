"""Rollouts on a real server under traffic: a good release is promoted, a bad one thrown out, by the judge alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Fresh
from fraud_judge.journal import read_journal
from fraud_scoring.routes import Routes
from support.rehearsal import Rehearsal, higher
from support.server import Server
from support.variants import variant

pytestmark = [pytest.mark.triton, pytest.mark.timeout(300)]


@pytest.fixture
def rehearsal(served_repository: Path, tmp_path: Path, fresh: Fresh) -> Iterator[Rehearsal]:
    repository = Path(shutil.copytree(served_repository, tmp_path / "models"))
    good, bad = variant(repository), variant(repository, rule=higher)
    Routes.read(repository).with_warm(good).with_warm(bad).write(repository)
    with Server(repository, tmp_path / "home") as server:
        made = Rehearsal([server], fresh)
        yield made
        made.close()


def test_a_good_release_takes_over_and_a_bad_one_is_thrown_out(rehearsal: Rehearsal) -> None:
    rehearsal.begin(2)
    rehearsal.until(lambda: bool(rehearsal.ended), "an end of the good release's rollout")
    assert rehearsal.ended == "promote", read_journal(rehearsal.home / "judge")[-2]
    assert (rehearsal.routes.production, rehearsal.routes.previous) == (2, (1,))
    rehearsal.until(lambda: rehearsal.releases[0][-1:] == [2], "answers of the promoted release")

    said = rehearsal.thrown_out_by_a_process_of_its_own(3)
    assert 3 in rehearsal.releases[0]
    assert any("roll back: r0003" in line for line in said)
    assert (rehearsal.routes.production, rehearsal.routes.canary) == (2, None)
    intent = [one for one in read_journal(rehearsal.home / "judge") if one["kind"] == "intent"][-1]
    assert intent["action"] == "roll back"
    assert intent["test"] in ("scores", "reviews", "declines")
