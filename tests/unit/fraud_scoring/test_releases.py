"""Names of releases, which of them are complete, and the table that says which one takes the traffic."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_scoring import releases
from fraud_scoring.errors import InvalidDefinition
from support.rows import DEFAULT_SCHEMA, SEEDED


def add_release(repository: Path, number: int) -> None:
    """A complete release, as far as its name goes."""
    folder = repository / releases.ensemble_name(number)
    folder.mkdir(parents=True)
    (folder / releases.MANIFEST_FILE).write_text("{}", encoding="utf-8")


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


def test_a_releases_model_is_its_engine_where_the_host_names_one() -> None:
    named = {
        releases.ENGINES_VARIABLE: "fraud_engine_r0007_sm90_tensorrt_10_fp16, fraud_engine_r0012_sm90_tensorrt_10_fp32"
    }
    assert releases.model_name(7, named) == "fraud_engine_r0007_sm90_tensorrt_10_fp16"
    assert releases.model_name(12, named) == "fraud_engine_r0012_sm90_tensorrt_10_fp32"
    assert releases.model_name(1, named) == "fraud_model_r0001"
    assert releases.model_name(7, {}) == "fraud_model_r0007"
    assert releases.model_name(120, {releases.ENGINES_VARIABLE: "fraud_engine_r01200_sm90"}) == "fraud_model_r0120"
