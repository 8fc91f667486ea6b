"""The audit cannot be edited: not through SQLite, and what is edited beside it is found, by whoever holds which key."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraud_release.errors import RegistryConflict, RegistryDamaged
from fraud_release.registry.audit_stores import SqliteAudit
from fraud_release.registry.book import Book, check_head, read_book
from fraud_release.registry.people import Person
from fraud_release.registry.registry import Registry
from fraud_release.registry.rows import NO_DIGEST, Act, Row, parse
from fraud_release.registry.stages import Stages, bootstrapped, promoted, registered
from support.registries import ANN, registry_of, to_production

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PUBLIC = KEY.public_key().public_bytes_raw().hex()


def row(before: list[Row], act: Act, release: int, stages: Stages, key: Ed25519PrivateKey = KEY, **changes) -> Row:
    """A signed row after `before`."""
    drafted = Row(
        sequence=len(before) + 1,
        previous=before[-1].digest if before else NO_DIGEST,
        at="2026-01-01T00:00:00.000+00:00",
        act=act,
        release=f"r{release:04d}",
        to=None,
        actor="ann",
        account="ann@desk",
        approver=None,
        approver_account=None,
        reason="because",
        request=None,
        gates=(),
        manifest="m" * 64,
        version=str(release),
        run="run",
        stages=stages.as_dict(),
        key="",
    )
    return replace(drafted, **changes).signed(key)


@pytest.fixture
def rows() -> list[Row]:
    """Releases 1 and 2; the second one is in production, approved by bob."""
    found: list[Row] = []
    at = registered(Stages(), 1)
    found.append(row(found, Act.REGISTERED, 1, at))
    at = bootstrapped(at, 1)
    found.append(row(found, Act.BOOTSTRAPPED, 1, at))
    at = registered(at, 2)
    found.append(row(found, Act.REGISTERED, 2, at))
    at = promoted(at, 2, "staging")
    found.append(row(found, Act.PROMOTED, 2, at, to="staging", gates=(("quality", True, "0.75"),)))
    found.append(row(found, Act.REQUESTED, 2, at, to="production"))
    at = promoted(at, 2, "production")
    found.append(row(found, Act.PROMOTED, 2, at, to="production", request=5, approver="bob", approver_account="b@c"))
    return found


def findings(lines: list[str], trusted: tuple[str, ...] = (PUBLIC,)) -> list[int]:
    return [finding.sequence for finding in read_book(lines, trusted)[1]]


def lines_of(rows: list[Row]) -> list[str]:
    return [one.line() for one in rows]


def test_an_audit_that_nobody_touched_has_no_findings(rows: list[Row]) -> None:
    assert findings(lines_of(rows)) == []
    assert [parse(line) for line in lines_of(rows)] == rows


def test_every_changed_byte_is_found(rows: list[Row]) -> None:
    lines = lines_of(rows)
    for index in (0, 3, 5):
        line = lines[index]
        for at in range(0, len(line), 3):
            changed = line[:at] + chr(ord(line[at]) ^ 1) + line[at + 1 :]
            assert findings([*lines[:index], changed, *lines[index + 1 :]]), f"row {index + 1}, character {at}"


def test_a_line_that_says_the_same_in_other_words_is_found(rows: list[Row]) -> None:
    lines = lines_of(rows)
    assert findings([json.dumps(json.loads(lines[0])), *lines[1:]])[0] == 1


@pytest.mark.parametrize("index", range(5))
def test_a_removed_row_and_two_that_changed_places_are_found(rows: list[Row], index: int) -> None:
    lines = lines_of(rows)
    assert index + 1 in findings([*lines[:index], *lines[index + 1 :]])
    swapped = [*lines[:index], lines[index + 1], lines[index], *lines[index + 2 :]]
    assert index + 1 in findings(swapped)


def test_rows_cut_from_the_end_are_found_by_whoever_has_seen_them(rows: list[Row]) -> None:
    head = Book(rows).head
    assert check_head(Book(rows), head) == []
    assert [finding.sequence for finding in check_head(Book(rows[:-1]), head)] == [6]
    assert [finding.sequence for finding in check_head(Book(), head)] == [1]
    rewritten = [*rows[:5], row(rows[:5], Act.REJECTED, 2, Stages(staging=2, production=1), request=5)]
    assert findings(lines_of(rewritten)) == []
    assert check_head(Book(rewritten), head)[0].what.startswith("is another row than the one that this host has seen")


def test_a_row_of_a_key_that_is_not_trusted_is_found(rows: list[Row]) -> None:
    assert findings(lines_of(rows), ()) == [1, 2, 3, 4, 5, 6]
    added = [*rows, row(rows, Act.ROLLED_BACK, 1, Stages(production=1), key=OTHER)]
    assert findings(lines_of(added)) == [7]
    assert findings(lines_of(added), (PUBLIC, OTHER.public_key().public_bytes_raw().hex())) == []


@pytest.mark.parametrize(
    "breaks",
    [
        {"act": Act.PROMOTED, "to": "production", "request": 5, "approver": "ANN "},
        {"act": Act.PROMOTED, "to": "production", "request": 5, "approver": None},
        {"act": Act.PROMOTED, "to": "production", "request": None, "approver": "bob"},
        {"act": Act.PROMOTED, "to": "production", "request": 4, "approver": "bob"},
        {
            "act": Act.PROMOTED,
            "to": "production",
            "request": 5,
            "approver": "bob",
            "gates": (("quality", False, "0.7"),),
        },
        {"act": Act.BOOTSTRAPPED, "to": "production"},
        {"act": Act.RESTORED},
        {"act": Act.REGISTERED},
    ],
)
def test_a_row_against_the_rules_is_found_even_if_it_is_signed(rows: list[Row], breaks: dict[str, object]) -> None:
    after = Stages(production=2, previous_1=1)
    assert findings(lines_of([*rows[:5], row(rows[:5], breaks.pop("act"), 2, after, **breaks)])) == [6]


def test_sqlite_itself_refuses_every_change_but_an_append(tmp_path: Path, rows: list[Row]) -> None:
    store = SqliteAudit(tmp_path / "audit.sqlite")
    for one in rows:
        store.append(one.sequence, one.line())
    for statement in (
        "UPDATE audit SET line = 'x' WHERE sequence = 2",
        "DELETE FROM audit WHERE sequence = 6",
        "DELETE FROM audit",
        "UPDATE audit SET sequence = 99 WHERE sequence = 6",
        "INSERT INTO audit VALUES (8, 'x')",
        "INSERT INTO audit VALUES (-1, 'x')",
        "INSERT OR REPLACE INTO audit VALUES (6, 'x')",
    ):
        with closing(sqlite3.connect(tmp_path / "audit.sqlite")) as connection:
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(statement)
            connection.commit()
    assert store.lines() == lines_of(rows)
    with pytest.raises(RegistryConflict):
        store.append(6, "x")


def test_what_goes_round_the_triggers_is_found(registry: Registry, repository: Path) -> None:
    to_production(registry, 1)

    def without_triggers(statement: str) -> Callable[[Path], None]:
        def edit(file: Path) -> None:
            with closing(sqlite3.connect(file)) as connection:
                for name in ("audit_is_not_updated", "audit_is_not_deleted", "audit_has_no_gap"):
                    connection.execute(f"DROP TRIGGER {name}")
                assert connection.execute(statement).rowcount
                connection.commit()

        return edit

    file = repository / ".registry" / "audit.sqlite"
    kept = file.read_bytes()
    for edit in (
        without_triggers("UPDATE audit SET line = replace(line, 'bob', 'eve') WHERE sequence = 4"),
        without_triggers("DELETE FROM audit WHERE sequence = 2"),
        without_triggers("DELETE FROM audit WHERE sequence = 4"),
        without_triggers("DELETE FROM audit"),
        Path.unlink,
    ):
        edit(file)
        assert registry.verify()[1]
        with pytest.raises(RegistryDamaged):
            registry.register(2, ANN, "trained")
        file.write_bytes(kept)
    assert registry.verify()[1] == []


def test_a_registry_put_back_to_an_earlier_state_is_found_by_the_head_that_was_kept(
    registry: Registry, repository: Path, tmp_path: Path
) -> None:
    registry.register(1, ANN, "trained")
    shutil.copytree(repository / ".registry", tmp_path / "earlier")
    registry.promote(1, "staging", ANN, "looks right")
    head = registry.book().head
    assert head is not None
    shutil.rmtree(repository / ".registry")
    shutil.move(tmp_path / "earlier", repository / ".registry")
    found = [finding.what for finding in registry.verify(head.digest)[1]]
    assert any("to row 2 are gone: this host has seen them" in what for what in found)
    assert any("none before it has the digest that was asked for" in what for what in found)


def test_a_colleagues_rows_count_once_the_key_is_trusted(registry: Registry, repository: Path, tmp_path: Path) -> None:
    registry.register(1, ANN, "trained")
    colleague = registry_of(repository, tmp_path / "other home")
    with pytest.raises(RegistryDamaged, match="fraudctl release audit trust"):
        colleague.promote(1, "staging", Person("bob", "bob@desk"), "looks right")
    public = next(iter(registry.home.trusted()))
    colleague.home.trust(public)
    colleague.promote(1, "staging", Person("bob", "bob@desk"), "looks right")
    with pytest.raises(RegistryDamaged, match="row 2 is signed by a key that is not trusted here"):
        registry.book()
