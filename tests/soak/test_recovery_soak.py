"""The figures of docs/recovery.md: a machine is lost under traffic; what goes with it, how long until it answers.

python -m pytest tests/soak/test_recovery_soak.py -s
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fraud_data import Transactions
from fraud_scoring.pipeline import Pipeline
from support.recovery import compare_windows, lose_a_machine
from support.redis import MISSING, PROGRAM, RedisServer
from support.release import empty_repository
from support.server import Server, json_of

ROWS = 30_000
MORE = 3_000


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """One that will be lost, and one in its place."""
    if PROGRAM is None:
        pytest.skip(MISSING)
    with RedisServer(tmp_path / "redis-1") as one, RedisServer(tmp_path / "redis-2") as two:
        yield one, two


@pytest.mark.parametrize("store", ["lmdb", "redis"])
@pytest.mark.parametrize("log_survives", [True, False], ids=["the log survives", "the archive alone"])
def test_what_a_lost_machine_costs(
    served_repository: Path,
    small_data: Transactions,
    served_pipeline: Pipeline,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    store: str,
    log_survives: bool,
) -> None:
    schema, home, log = served_pipeline.schema, tmp_path / "home", tmp_path / "other-disk"
    home.mkdir()
    log.mkdir()
    (home / "log").symlink_to(log)
    old, new = "", f"lmdb://{tmp_path / 'new' / 'store'}"
    with ExitStack() as stack:
        if store == "redis":
            one, two = request.getfixturevalue("redis")
            old, new = one.url, two.url
            monkeypatch.setenv("FRAUD_STORE", old)
            stack.callback(one.kill)
        server = stack.enter_context(Server(served_repository, home))
        loss = lose_a_machine(server, small_data, schema, tmp_path / "archives", ROWS, old)
    monkeypatch.setenv("FRAUD_STORE", new)
    models = empty_repository(tmp_path / "models")
    surviving = ("--surviving-log", log) if log_survives else ()
    began = time.monotonic()
    where = ("--repository", models, "--home", tmp_path / "new")
    report = json_of("restore", "--latest", tmp_path / "archives", *where, *surviving)
    with Server(models, tmp_path / "new"):
        ready = time.monotonic() - began
    found = compare_windows(new, tmp_path / "new" / "log", small_data, schema, loss.acknowledged, MORE)
    assert found.different == 0
    assert (found.lost == 0) == log_survives
    replayed = report["replay"]
    assert isinstance(replayed, dict)
    sys.stderr.write(
        f"\n{store}: backup of {loss.backup['bytes']:,} bytes in {loss.backup['seconds']} s under traffic; "
        f"{loss.acknowledged:,} transactions acknowledged, {found.lost:,} lost; restore {report['seconds']} s "
        f"({replayed['transactions']:,} read again, {replayed['transactions_added']:,} of them missing), "
        f"ready {ready:.1f} s after its begin; {found.compared:,} rows of features compared, {found.different} differ\n"
    )
