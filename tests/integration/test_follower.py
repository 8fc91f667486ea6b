"""A server that follows a table from elsewhere, as in a pod: a real Triton, `fraudctl routes follow` beside it."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fraud_release.release_store import open_store, publish_release
from fraud_release.trust import TrustSettings
from fraud_scoring.routes import Canary, Routes
from support.release import empty_repository
from support.server import FRAUDCTL, Said, Server, fraudctl
from support.variants import variant, with_second_release

WITHIN = 60.0


def spoiled(golden: bytes) -> bytes:
    """Golden vectors that the release does not give."""
    import io

    arrays = dict(np.load(io.BytesIO(golden)))
    arrays["score"] = arrays["score"] + np.float32(0.001)
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


@pytest.mark.triton
def test_a_pod_takes_its_first_table_then_a_canary_and_refuses_a_release_that_answers_otherwise(
    served_repository: Path, tmp_path: Path
) -> None:
    built = with_second_release(served_repository, tmp_path / "built")
    variant(built, golden=spoiled)
    store, trust = f"folder://{tmp_path}/store", TrustSettings.read(tmp_path / "builder")
    for release in (1, 2, 3):
        publish_release(built, release, open_store(store), trust)
    repository, table = empty_repository(tmp_path / "models"), tmp_path / "routes.json"
    table.write_text(Routes(1, epoch=1).to_json())
    words = [
        "routes",
        "follow",
        "--table",
        table,
        "--from",
        store,
        "--repository",
        repository,
        "--home",
        tmp_path / "h",
    ]

    first = fraudctl(*words, "--once")
    assert first.returncode == 0, first.stderr
    with Server(repository, tmp_path / "home") as server:
        asked = ("health", "--repository", repository, "--url", server.url, "--timeout", "20", "--json")
        following = subprocess.Popen(
            [FRAUDCTL, *map(str, words), "--url", server.url],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert following.stderr is not None
        said = Said(following.stderr)
        try:
            table.write_text(Routes(1, epoch=2, canary=Canary(2, 500)).to_json())
            said.wait_for("the table of epoch 2 is followed", WITHIN)
            assert Routes.read(repository).canary == Canary(2, 500)
            healthy = fraudctl(*asked, "--every-release")
            assert healthy.returncode == 0, healthy.stdout
            assert '"releases": {"r0001": "right", "r0002": "right"}' in healthy.stdout

            table.write_text(Routes(1, epoch=3, canary=Canary(3, 500)).to_json())
            said.wait_for("the table is not followed: release r0003 does not give its golden vectors", WITHIN)
            assert Routes.read(repository).canary == Canary(2, 500)

            Routes(1, epoch=Routes.read(repository).epoch, canary=Canary(3, 500)).write(repository)
            server.said.wait_for("release r0003 loaded", WITHIN)
            wrong = fraudctl(*asked, "--every-release")
            assert wrong.returncode == 1
            assert "release r0003 does not give its golden vectors: score differs" in wrong.stdout
            assert fraudctl(*asked, "--alive").returncode == 0
        finally:
            following.send_signal(signal.SIGTERM)
            assert following.wait(20) == 0
            said.finish()
