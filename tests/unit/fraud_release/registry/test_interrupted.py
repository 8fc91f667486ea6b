"""A promotion happened whole or not at all: killed at any step, and with others who promote at the same moment."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fraud_release.errors import PromotionRefused, RegistryConflict
from fraud_release.registry.people import Person
from fraud_release.registry.registry import Registry
from fraud_release.registry.rows import Act
from support.registries import ANN, BOB, registry_of, to_production

TESTS = Path(__file__).parents[3]
BEFORE = {"staging": "r0003", "production": "r0002", "previous-1": "r0001"}
AFTER = {"production": "r0003", "previous-1": "r0002", "previous-2": "r0001"}


def test_a_promotion_that_is_killed_at_any_step_happened_whole_or_not_at_all(
    registry: Registry, repository: Path, home: Path, tmp_path: Path
) -> None:
    for release in (1, 2):
        to_production(registry, release)
    registry.register(3, ANN, "trained")
    registry.promote(3, "staging", ANN, "looks right")
    registry.promote(3, "production", ANN, "is better")
    before = registry.book()
    assert before.stages.as_dict() == BEFORE
    script = Path(__file__).with_name("killed_promoter.py")
    ran = subprocess.run(
        [sys.executable, str(script), str(repository), str(tmp_path / "killed"), str(home)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert ran.returncode == 0, ran.stderr
    steps = int(ran.stdout)
    assert steps >= 1 + 2 + len(BEFORE | AFTER), "before the row, after it, before each alias, and the end"
    seen = []
    for step in range(1, steps + 1):
        after = registry_of(tmp_path / "killed" / str(step), home)
        book = after.book()
        assert book.rows[: len(before.rows)] == before.rows
        happened = len(book.rows) > len(before.rows)
        seen.append(happened)
        stages = AFTER if happened else BEFORE
        assert book.stages.as_dict() == stages
        versions = {row.release: row.version for row in book.rows}
        assert after.catalogue.aliases() == {alias: versions[name] for alias, name in stages.items()}
        assert after.verify()[1] == []
        if not happened:
            after.approve(3, BOB)
            assert after.book().stages.as_dict() == AFTER
    assert seen == sorted(seen)
    assert set(seen) == {True, False}


def test_of_those_who_promote_at_once_one_does_and_the_others_are_told(
    registry: Registry, repository: Path, home: Path
) -> None:
    releases = (1, 2, 3, 4)
    for release in releases:
        registry.register(release, ANN, "trained")
    people = [Person(name, f"{name}@desk") for name in ("ann", "bob", "carl", "dora")]

    def promote(person: Person) -> str:
        own = registry_of(repository, home)
        release = releases[people.index(person)]
        try:
            own.promote(release, "staging", person, "mine first")
        except (RegistryConflict, PromotionRefused) as refusal:
            return type(refusal).__name__
        return "promoted"

    with ThreadPoolExecutor(len(people)) as pool:
        ended = list(pool.map(promote, people))
    book = registry.book()
    assert registry.verify()[1] == []
    assert ended.count("promoted") == sum(row.act is Act.PROMOTED for row in book.rows) >= 1
    assert set(ended) <= {"promoted", "RegistryConflict"}
    last = book.rows[-1]
    assert book.stages.as_dict()["staging"] == last.release
    versions = {row.release: row.version for row in book.rows}
    assert registry.catalogue.aliases()["staging"] == versions[last.release]
