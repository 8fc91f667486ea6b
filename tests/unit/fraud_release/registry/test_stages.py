"""Which stage follows which; nothing is skipped, two are kept."""

from __future__ import annotations

from itertools import product

import pytest

from fraud_release.errors import PromotionRefused
from fraud_release.registry.stages import Stages, bootstrapped, promoted, registered, rolled_back


def test_a_release_comes_in_as_dev_and_rises_one_stage_at_a_time() -> None:
    at = registered(Stages(), 1)
    assert at.stage_of(1) == "dev"
    with pytest.raises(
        PromotionRefused, match="no stage is skipped: first fraudctl release promote r0001 --to staging"
    ):
        promoted(at, 1, "production")
    at = promoted(at, 1, "staging")
    assert (at.stage_of(1), at.dev) == ("staging", None)
    assert promoted(at, 1, "production") == Stages(production=1)


def test_two_releases_that_were_in_production_are_kept_and_older_ones_retire() -> None:
    at = Stages()
    for release in (1, 2, 3, 4):
        at = promoted(promoted(registered(at, release), release, "staging"), release, "production")
    assert at.kept == (4, 3, 2)
    assert at.stage_of(1, was_production=[1, 2, 3, 4]) == "retired"
    assert at.stage_of(9, was_production=[1, 2, 3, 4]) == "dev"


def test_what_was_in_staging_goes_back_to_dev() -> None:
    at = promoted(registered(registered(Stages(), 1), 2), 1, "staging")
    at = promoted(at, 2, "staging")
    assert (at.stage_of(1), at.stage_of(2)) == ("dev", "staging")


def test_a_kept_release_may_rise_again_and_is_then_not_kept_twice() -> None:
    at = promoted(promoted(Stages(production=3, previous_1=2, previous_2=1), 2, "staging"), 2, "production")
    assert at == Stages(production=2, previous_1=3, previous_2=1)


@pytest.mark.parametrize(("release", "to"), [(3, "staging"), (3, "production"), (4, "staging")])
def test_where_a_release_is_already_it_is_not_promoted_to(release: int, to: str) -> None:
    with pytest.raises(PromotionRefused, match=r"is in (production|staging) already"):
        promoted(Stages(staging=4, production=3), release, to)


@pytest.mark.parametrize("to", ["dev", "previous-1", "retired", ""])
def test_other_stages_are_none_that_one_is_promoted_to(to: str) -> None:
    with pytest.raises(PromotionRefused, match="write staging or production"):
        promoted(Stages(dev=1), 1, to)


def test_going_back_takes_what_was_before_and_retires_what_was_there() -> None:
    at = rolled_back(Stages(production=3, previous_1=2, previous_2=1))
    assert at == Stages(production=2, previous_1=1)
    assert rolled_back(at) == Stages(production=1)
    with pytest.raises(PromotionRefused, match="there is no previous-1"):
        rolled_back(Stages(production=1))


def test_going_back_to_what_is_in_staging_empties_staging() -> None:
    assert rolled_back(Stages(staging=2, production=3, previous_1=2)) == Stages(production=2)


@pytest.mark.parametrize("at", [Stages(), Stages(dev=2), Stages(dev=1, production=3), Stages(staging=1)])
def test_only_the_first_of_an_empty_registry_goes_to_production_at_once(at: Stages) -> None:
    with pytest.raises(PromotionRefused, match="only the first release of an empty registry"):
        bootstrapped(at, 1)
    assert bootstrapped(Stages(dev=1), 1) == Stages(production=1)


def test_no_way_of_four_steps_leads_to_production_but_through_staging() -> None:
    """All sequences of acts on two releases; a stage holds one release, production and the kept ones differ."""
    acts = list(product((1, 2), ("staging", "production", "back")))
    for way in product(acts, repeat=4):
        at = registered(registered(Stages(), 1), 2)
        for release, to in way:
            before = at
            try:
                at = rolled_back(at) if to == "back" else promoted(at, release, to)
            except PromotionRefused:
                assert at == before
                continue
            if to == "production":
                assert before.staging == release
            held = [one for one in at.kept if one is not None]
            assert len(set(held)) == len(held)
            assert at.staging is None or at.staging != at.production


def test_a_table_is_what_its_document_says() -> None:
    at = Stages(5, 4, 3, 2, 1)
    assert at.as_dict() == {
        "dev": "r0005",
        "staging": "r0004",
        "production": "r0003",
        "previous-1": "r0002",
        "previous-2": "r0001",
    }
    assert Stages.from_dict(at.as_dict()) == at
    with pytest.raises(ValueError, match="unknown alias"):
        Stages.from_dict({"best": "r0001"})
