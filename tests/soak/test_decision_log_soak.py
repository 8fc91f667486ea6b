"""The long versions: 1,000 kills, 200 runs on a disk that loses what was not synced, 1,000 tamperings, 100,000 replays.

make soak                                                  about 40 minutes
FRAUD_SOAK_KILLS=100 python -m pytest tests/soak           fewer kills
FRAUD_SOAK_SIDECAR=0 python -m pytest tests/soak           without a sidecar, which follows the log and dies, too
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraud_scoring.decision_log import Context, Decisions, LogWriter, Signer, verify_log
from fraud_scoring.decision_log.replay import Replay, replay_log
from fraud_scoring.pipeline import Pipeline
from support.decision_logs import FRONT_DOOR, Traffic
from support.kills import Lives, sidecar_wanted, to_stderr, wanted_kills
from support.lost_writes import compile_shim, lose
from support.rows import Clock
from support.server import free_ports
from support.shims import gcc
from support.tampering import Tamperer, write_log

KILLS, RUNS, TAMPERINGS, REPLAYS = 1_000, 200, 1_000, 100_000
SEED = 2026


@pytest.mark.timeout(7_200)
def test_after_a_thousand_kills_everything_that_was_acknowledged_is_in_the_log(
    served_repository: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with capfd.disabled():
        lives = Lives(served_repository, tmp_path / "home", free_ports(), SEED, sidecar=sidecar_wanted())
        tally = lives.run(wanted_kills(KILLS), to_stderr)
        to_stderr(tally.to_json())
    assert tally.missing == 0
    assert tally.nothing_lost, tally.to_json()
    assert tally.acknowledged > 10 * tally.kills


@pytest.mark.skipif(gcc() is None, reason="gcc is not installed: the disk that loses writes cannot be built")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("hands_over", [0, 12])
def test_on_a_disk_that_loses_what_was_not_synced_nothing_that_was_acknowledged_is_lost(
    hands_over: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    library = compile_shim(tmp_path)
    (tmp_path / "durable").mkdir()
    losses = lose(library, tmp_path / "durable", RUNS, SEED, hands_over=hands_over)
    with capfd.disabled():
        to_stderr(str(losses))
    assert (losses.runs, losses.missing, losses.findings) == (RUNS, 0, [])
    (tmp_path / "control").mkdir()
    control = lose(library, tmp_path / "control", 20, SEED, sync=False)
    assert control.runs_with_losses == control.runs == 20


@pytest.mark.timeout(600)
def test_every_one_of_a_thousand_tamperings_is_found(tmp_path: Path) -> None:
    signer, unseen = Signer(Ed25519PrivateKey.generate()), []
    log = write_log(tmp_path / "log", signer)
    for seed in range(1_000_000, 1_000_000 + TAMPERINGS):
        copy = Path(shutil.copytree(log, tmp_path / "copy"))
        tamperer = Tamperer(copy, seed)
        tamperer.tamper()
        if not verify_log(copy, signer.public_key).findings:
            unseen.append((seed, tamperer.done))
        shutil.rmtree(copy)
    assert unseen == []


@pytest.mark.timeout(600)
def test_a_hundred_thousand_decisions_are_decided_again_to_the_bit(
    tmp_path: Path, served_repository: Path, served_pipeline: Pipeline
) -> None:
    traffic, written = Traffic(np.random.default_rng(SEED), schema=served_pipeline.schema, release=1), 0
    signer = Signer(Ed25519PrivateKey.generate())
    clock = Clock()
    writer = LogWriter(
        tmp_path / "log" / FRONT_DOOR,
        Context(1, served_pipeline.schema.document),
        signer,
        durable=False,
        now_us=clock,
    )
    while written < REPLAYS:
        clock.now_us += 7_000_000
        drawn = traffic.decisions(int(traffic.rng.integers(1, 65)), clock.now_us)
        answers = served_pipeline.decide(drawn.features)
        writer.append(Decisions(**{**vars(drawn), "score": answers.score.reshape(-1), "verdict": answers.verdict}))
        written += len(drawn)
    writer.close()
    assert replay_log(tmp_path / "log", served_repository) == Replay(replayed=written)
