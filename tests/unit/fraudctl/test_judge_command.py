"""`fraudctl judge`: what it says without a rollout, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fraud_judge.settings import JudgeSettings
from fraud_judge.study import SCENARIOS, Outcome, Result, documents
from fraudctl.cli import main
from support.rollouts import repository


def end_of(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code


def test_nothing_is_on_trial_where_there_is_no_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert end_of(["judge", "status", "--home", str(tmp_path), "--json"]) == 0
    said = {"state": "idle", "acts": [], "looked_at_us": None, "logs": []}
    assert json.loads(capsys.readouterr().out) == said
    assert end_of(["judge", "status", "--home", str(tmp_path), "--looked-within", "60"]) == 1


def test_arms_that_the_routes_do_not_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").mkdir()
    models = str(repository(tmp_path / "models"))
    assert end_of(["judge", "ab", "--home", str(tmp_path), "--repository", models]) == 2
    assert "--by-release" in capsys.readouterr().err


def test_a_log_without_such_decisions_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").mkdir()
    models = str(repository(tmp_path / "models"))
    arguments = ["judge", "ab", "--home", str(tmp_path), "--repository", models, "--by-release", "r0001,r0002"]
    assert end_of(arguments) == 2
    assert "no decision of these arms" in capsys.readouterr().err


def test_a_study_becomes_a_table_for_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome("roll back", 12.0, 500, "scores", 60)
    study = documents([Result(SCENARIOS[-1], (outcome,))], JudgeSettings(), 100.0)
    file = tmp_path / "study.json"
    file.write_text(json.dumps(study), encoding="utf-8")
    assert end_of(["judge", "table", str(file)]) == 0
    assert (
        "| scores of other transactions | 1 | 1 | 2.5% to 100.0% | 12 s | 12 s | 0 | scores 1 |"
        in capsys.readouterr().out
    )
    file.write_text("{}", encoding="utf-8")
    assert end_of(["judge", "table", str(file)]) == 2
    assert "is no study" in capsys.readouterr().err
