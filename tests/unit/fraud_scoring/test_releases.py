"""Names of releases, which of them are complete, and the table that says which one takes the traffic."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_scoring import releases
from fraud_scoring.errors import InvalidDefinition, ReleaseUnavailable
from fraud_scoring.releases import Routes
from support.rows import DEFAULT_SCHEMA, SEEDED


def add_release(repository: Path, number: int) -> None:
    """A complete release, as far as its name goes."""
    folder = repository / releases.ensemble_name(number)
    folder.mkdir(parents=True)
    (folder / releases.MANIFEST_FILE).write_text("{}", encoding="utf-8")


def write_routes(repository: Path, text: str) -> None:
    (repository / releases.ROUTES_FILE).write_text(text, encoding="utf-8")


def test_a_release_and_its_parts_are_named_for_its_number() -> None:
    assert releases.release_name(7) == "r0007"
    assert releases.ensemble_name(7) == "fraud_r0007"
    assert [releases.part_name(part, 7) for part in releases.PARTS] == [
        "fraud_features_r0007",
        "fraud_model_r0007",
        "fraud_decision_r0007",
    ]


@given(st.integers(0, 10**9))
@settings(SEEDED, max_examples=100)
def test_a_releases_name_leads_back_to_its_number(number: int) -> None:
    assert releases.release_number(releases.release_name(number)) == number


@pytest.mark.parametrize("name", ["", "7", "0007", "r7", "r007", "R0007", "fraud_r0007", "r0007 ", "r-007", "r0007\n"])
def test_anything_else_is_no_release(name: str) -> None:
    with pytest.raises(InvalidDefinition, match="is not a release; write r and four digits, as in r0001"):
        releases.release_number(name)


def test_only_complete_releases_exist_and_they_come_in_order(tmp_path: Path) -> None:
    for number in (10_000, 2, 11):
        add_release(tmp_path, number)
    (tmp_path / "fraud_r0003").mkdir()  # not complete: no manifest
    add_release(tmp_path / ".staging-r0004", 4)
    (tmp_path / "fraud_score").mkdir()
    (tmp_path / "routes.json").write_text("{}", encoding="utf-8")
    assert releases.existing(tmp_path) == [2, 11, 10_000]


def test_a_repository_that_is_not_there_has_no_releases(tmp_path: Path) -> None:
    assert releases.existing(tmp_path / "nowhere") == []


def test_a_release_pins_its_schema(tmp_path: Path) -> None:
    folder = tmp_path / "fraud_features_r0007" / "1"
    folder.mkdir(parents=True)
    (folder / releases.SCHEMA_FILE).write_text(DEFAULT_SCHEMA.document, encoding="utf-8")
    assert releases.pinned_schema(tmp_path, 7) == DEFAULT_SCHEMA


def test_routes_are_read_as_they_were_written(tmp_path: Path) -> None:
    add_release(tmp_path, 7)
    Routes(production=7).write(tmp_path)
    assert Routes.read(tmp_path) == Routes(production=7)


def test_routes_are_replaced_in_one_step(tmp_path: Path) -> None:
    """Whoever has the old table open keeps the whole old table, and nothing else is left behind."""
    for number in (1, 2):
        add_release(tmp_path, number)
    Routes(production=1).write(tmp_path)
    with (tmp_path / releases.ROUTES_FILE).open(encoding="utf-8") as old:
        Routes(production=2).write(tmp_path)
        assert old.read() == '{"production": "r0001"}\n'
    assert Routes.read(tmp_path) == Routes(production=2)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["fraud_r0001", "fraud_r0002", "routes.json"]


def test_without_a_route_table_the_remedy_is_to_train(tmp_path: Path) -> None:
    with pytest.raises(ReleaseUnavailable, match=r"no route table \(routes.json\); train a release with: fraudctl"):
        Routes.read(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"r0001"', "{}", '{"canary": "r0001"}', '{"production": 1}', '{"production": null}']
)
def test_a_broken_route_table_says_what_to_write(tmp_path: Path, text: str) -> None:
    add_release(tmp_path, 1)
    write_routes(tmp_path, text)
    with pytest.raises(InvalidDefinition, match=r'routes.json is broken; write {"production": "r0001"}'):
        Routes.read(tmp_path)


def test_a_route_table_that_is_no_text_is_broken_too(tmp_path: Path) -> None:
    (tmp_path / releases.ROUTES_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidDefinition, match=r"routes.json is broken"):
        Routes.read(tmp_path)


def test_a_route_to_something_else_than_a_release_is_refused(tmp_path: Path) -> None:
    write_routes(tmp_path, '{"production": "latest"}')
    with pytest.raises(InvalidDefinition, match="'latest' is not a release; write r and four digits"):
        Routes.read(tmp_path)


@pytest.mark.parametrize(("there", "known"), [([], "none"), ([1, 3], "r0001, r0003")])
def test_a_route_to_a_release_that_is_not_there_lists_those_that_are(
    tmp_path: Path, there: list[int], known: str
) -> None:
    for number in there:
        add_release(tmp_path, number)
    write_routes(tmp_path, '{"production": "r0002"}')
    with pytest.raises(
        ReleaseUnavailable, match=f"names release r0002, which is not in the repository; there is: {known}$"
    ):
        Routes.read(tmp_path)
