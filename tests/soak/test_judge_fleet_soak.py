"""Two real servers over one Redis behind a balancer, one judge: a bad canary is thrown out on the evidence of both.

python -m pytest tests/soak/test_judge_fleet_soak.py -s
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from conftest import Fresh
from fraud_judge.journal import read_journal
from fraud_scoring.routes import Routes
from support.redis import MISSING, PROGRAM, RedisServer
from support.rehearsal import Rehearsal, higher
from support.server import START_SECONDS, Server, json_of
from support.variants import variant

pytestmark = [
    pytest.mark.triton,
    pytest.mark.timeout(600),
    pytest.mark.skipif(PROGRAM is None, reason=MISSING),
]


@pytest.fixture
def fleet(served_repository: Path, tmp_path: Path, fresh: Fresh) -> Iterator[Rehearsal]:
    repository = Path(shutil.copytree(served_repository, tmp_path / "models"))
    bad = variant(repository, rule=higher)
    Routes.read(repository).with_warm(bad).write(repository)
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(tmp_path / "redis"))
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("FRAUD_STORE", redis.url)
        servers = [stack.enter_context(Server(repository, tmp_path / name, wait=False)) for name in ("one", "two")]
        for server in servers:
            server.said.wait_for("ready on", 2 * START_SECONDS)
        made = Rehearsal(servers, fresh)
        stack.callback(made.close)
        yield made


def test_a_bad_canary_is_thrown_out_on_what_two_servers_answered(fleet: Rehearsal) -> None:
    # one row of the canary's in each request: what it takes to throw it out comes by turns
    said = fleet.thrown_out_by_a_process_of_its_own(2, at_once=20)
    assert any("roll back: r0002" in line for line in said)
    assert all(2 in answered for answered in fleet.releases), "the canary answered at both servers"
    assert (fleet.routes.production, fleet.routes.canary) == (1, None)
    records = read_journal(fleet.home / "judge")
    begun, intent = (next(one for one in records if one["kind"] == kind) for kind in ("begun", "intent"))
    assert {str(Path(key).parent) for key in begun["places"]} == {str(log) for log in fleet.logs}
    assert intent["action"] == "roll back"
    seen = {one["log"]: one["canary_rows"] for one in intent["logs"]}
    assert set(seen) == {str(log) for log in fleet.logs}
    assert min(seen.values()) > 0
    assert sum(seen.values()) == intent["counts"]["rows"][0], "the evidence is what both logs hold, and each row once"
    status = json_of("judge", "status", "--home", fleet.home)
    assert {one["log"]: one["state"] for one in status["logs"]} == dict.fromkeys(map(str, fleet.logs), "read")
