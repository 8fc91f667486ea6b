"""A shadow behind a real server: scored after the reply, logged beside the champion; nothing else is different."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest

from fraud_client import FraudClient
from fraud_data import Transactions
from fraud_release.train import train
from fraud_scoring.decision_log import Decisions, Shadowed, read
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.schema import Schema, default_schema
from support.release import PLAN
from support.server import Server, fraudctl, json_of, until

if TYPE_CHECKING:
    from conftest import Fresh

PATIENT: Final = 20.0
WRITER: Final = "shadow-0"


def shadowed(home: Path) -> list[Shadowed]:
    if not (home / "log" / WRITER).exists():
        return []
    found = [frame.content() for frame, _ in read(home / "log" / WRITER)]
    return [content for content in found if isinstance(content, Shadowed)]


@pytest.mark.triton
def test_a_shadow_says_what_it_would_have_answered_and_is_compared(
    served_repository: Path, small_data: Transactions, tmp_path: Path, fresh: Fresh
) -> None:
    repository, home = tmp_path / "models", tmp_path / "home"
    shutil.copytree(served_repository, repository)
    document = json.loads(default_schema().document)
    narrow = Schema.parse({**document, "features": document["features"][:-1]})
    train(small_data, narrow, repository, replace(PLAN, trees=20), provenance={}, progress=lambda share, text: None)
    routes = ("--repository", repository)
    with Server(repository, home) as server, FraudClient(server.url, deadline=PATIENT) as client:
        told = json_of("routes", "shadow", "r0002", *routes, "--url", server.url)
        assert told["shadow"] == ["r0002"]
        sent = [fresh.rows(n) for n in (1, 1, 40, 3)]
        for rows in sent:
            client.score_rows(rows)
        client.score_rows(sent[2])
        client.score_rows(fresh.rows(9), dry_run=True)
        until(lambda: sum(map(len, shadowed(home))) >= 45, PATIENT)
        json_of("routes", "shadow", "--off", *routes, "--url", server.url)
        client.score_rows(fresh.rows(5))
        until((home / "log" / WRITER / "00000001.root.json").exists, PATIENT)
        assert server.stop() == 0
    frames = shadowed(home)
    rows = np.concatenate(sent)
    assert np.concatenate([frame.transaction for frame in frames]).tolist() == rows.tolist()
    assert sum(frame.dropped for frame in frames).tolist() == [0, 0, 0]
    logged = [frame.content() for frame, _ in read(home / "log" / "front-door-0")]
    answers = [content for content in logged if isinstance(content, Decisions)]
    features = np.concatenate([one.features[~one.repeat] for one in answers])[: len(rows)]
    score = np.concatenate([one.score[~one.repeat] for one in answers])[: len(rows)]
    assert np.concatenate([frame.champion_score for frame in frames]).tobytes() == score.tobytes()
    challenger = Pipeline.load(repository, 2)
    names = [feature.name for feature in default_schema().features]
    chosen = [names.index(feature.name) for feature in challenger.schema.features]
    expected = challenger.decide(np.ascontiguousarray(features[:, chosen]))
    assert np.concatenate([frame.score for frame in frames]).tobytes() == expected.score.tobytes()
    assert np.concatenate([frame.decision for frame in frames]).tolist() == expected.verdict[:, 0].tolist()
    assert fraudctl("log", "verify", "--home", home).returncode == 0
    replayed = json_of("log", "replay", "--home", home, *routes)
    assert (replayed["replayed"], replayed["different"]) == (90, 0)
