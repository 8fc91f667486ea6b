"""Two spellings of one name are one person; a name that could pass for another's is refused."""

from __future__ import annotations

import pytest

from fraud_release.registry.people import Person, account, person, tidy_name, tidy_reason
from fraud_scoring.errors import InvalidInput


@pytest.mark.parametrize(
    "other",
    ["Ann", "ann ", " ANN", "Ａｎｎ", "a\u200bnn", "ann\t", "\ufeffann", "an\u00adn"],
)
def test_one_person_is_one_however_the_name_is_written(other: str) -> None:
    assert Person("ann", "a@b").is_same_as(Person(tidy_name(other), "c@d"))
    assert Person("ann", "a@b").is_same_as(Person(other, "c@d"))


def test_case_composition_and_spaces_do_not_tell_people_apart() -> None:
    assert Person("Jos\u00e9 Stra\u00dfe", "").is_same_as(Person("JOSE\u0301  STRASSE", ""))
    assert not Person("ann", "").is_same_as(Person("anna", ""))


@pytest.mark.parametrize("name", ["\u0430nn", "a\u03bfn", "Ann\u0410"])
def test_letters_of_two_scripts_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"mixes .* letters"):
        tidy_name(name)


@pytest.mark.parametrize("name", ["", "  ", "\u200b", "a" * 101, "42", "ann\x1b[31m", "<ann>"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        tidy_name(name)


def test_names_of_any_one_script_are_names() -> None:
    for name in ("Ann O'Neil", "ann@example.com", "svc-release_2", "Анна", "山田たろう"):
        assert tidy_name(name) == name


def test_a_reason_is_a_line_and_is_not_left_out() -> None:
    assert tidy_reason(" better\non  new cards ") == "better on new cards"
    for reason in ("", " \n", "x" * 1001):
        with pytest.raises(InvalidInput, match="a reason has 1 to 1000 characters"):
            tidy_reason(reason)


def test_the_account_is_the_systems_and_no_variable_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = account()
    for name in ("USER", "LOGNAME", "USERNAME", "LNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert account() == before
    assert person(None).name == before.partition("@")[0]
