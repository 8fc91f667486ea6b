"""`fraudctl routes` without a server: what changes the table, and whose stage on record forbids it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fraud_scoring.releases import MANIFEST_FILE, ensemble_name, part_name
from fraud_scoring.routes import Canary, Routes
from fraud_scoring.schema import default_schema
from fraudctl.cli import cli

Run = Callable[..., Result]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Three releases, as far as a table looks at them; release 1 in production."""
    for number in (1, 2, 3):
        schema = tmp_path / part_name("features", number) / "1" / "schema.json"
        schema.parent.mkdir(parents=True)
        schema.write_text(default_schema().document, encoding="utf-8")
        (tmp_path / ensemble_name(number)).mkdir()
        (tmp_path / ensemble_name(number) / MANIFEST_FILE).write_text("{}", encoding="utf-8")
    Routes(1).write(tmp_path)
    return tmp_path


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """What the registry says of each release; nothing of those that are not in it."""
    on_record: dict[int, str] = {}
    monkeypatch.setattr("fraud_release.registry.stage_of", lambda release, *_: on_record.get(release))
    return on_record


@pytest.fixture
def run(repository: Path) -> Run:
    def ask(*words: str) -> Result:
        return CliRunner().invoke(cli, ["routes", *words, "--repository", str(repository), "--no-server"])

    return ask


def said(result: Result) -> str:
    return f"{result.output} {result.exception}"


def test_each_change_leaves_its_table(run: Run, repository: Path, stages: dict[int, str]) -> None:
    assert run("canary", "r0002", "--percent", "5").exit_code == 0
    assert Routes.read(repository).canary == Canary(2, 500)
    assert run("promote").exit_code == 0
    assert (Routes.read(repository).production, Routes.read(repository).previous) == (2, (1,))
    assert run("shadow", "r0003").exit_code == 0
    assert Routes.read(repository).shadow == (3,)
    assert run("shadow", "--off").exit_code == 0
    assert Routes.read(repository).shadow == ()
    assert run("rollback").exit_code == 0
    assert Routes.read(repository).production == 1
    assert run("ab", "r0001", "r0003", "--percent", "40", "--name", "x").exit_code == 0
    assert Routes.read(repository).slices == ((1, 0, 4_000), (3, 4_000, 10_000))


@pytest.mark.parametrize("words", [("canary", "r0002", "--percent", "5"), ("bluegreen", "r0002"), ("promote", "r0002")])
def test_a_release_in_dev_answers_nobody(
    run: Run, repository: Path, stages: dict[int, str], words: tuple[str, ...]
) -> None:
    stages[2] = "dev"
    result = run(*words)
    assert result.exit_code != 0
    assert "release r0002 is in stage dev" in said(result)
    assert "fraudctl release promote r0002 --to staging" in said(result)
    assert Routes.read(repository) == Routes(1, epoch=1)


def test_a_release_in_staging_may_be_a_canary_and_take_all_only_when_it_was_approved(
    run: Run, repository: Path, stages: dict[int, str]
) -> None:
    stages[2] = "staging"
    assert run("canary", "r0002", "--percent", "5").exit_code == 0
    result = run("promote", "r0002")
    assert result.exit_code != 0
    assert "was not approved for production" in said(result)
    stages[2] = "production"
    assert run("promote", "r0002").exit_code == 0


def test_the_way_back_asks_nobody(run: Run, repository: Path, stages: dict[int, str]) -> None:
    Routes.read(repository).promoted(2).write(repository)
    stages.update({1: "retired", 2: "production"})
    assert run("rollback").exit_code == 0
    assert Routes.read(repository).production == 1
