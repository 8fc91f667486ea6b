"""The route table: which customers go where, what each change leaves in it, and who may replace it."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_scoring import releases
from fraud_scoring.errors import InvalidDefinition, ReleaseUnavailable
from fraud_scoring.routes import (
    BUCKETS,
    ROUTES_FILE,
    ByAmount,
    Canary,
    DeadlineSplit,
    Experiment,
    Fallback,
    Routes,
    StaleRoutes,
    bucket_of,
)
from support.rows import SEEDED


def add_release(repository: Path, number: int) -> None:
    """A complete release, as far as its name goes."""
    folder = repository / releases.ensemble_name(number)
    folder.mkdir(parents=True)
    (folder / releases.MANIFEST_FILE).write_text("{}", encoding="utf-8")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for number in range(1, 10):
        add_release(tmp_path, number)
    return tmp_path


def write_text(repository: Path, text: str) -> None:
    (repository / ROUTES_FILE).write_text(text, encoding="utf-8")


BUCKETS_OF_THE_EMPTY_SALT = [4700, 8644, 3219, 4492, 1703]

FULL = Routes(
    production=7,
    salt="s",
    previous=(6, 5),
    canary=Canary(8, 500),
    shadow=(9,),
    warm=(4,),
    fallback=Fallback(scorecard=False, by_amount=ByAmount(None, 100)),
    deadline=DeadlineSplit(0.1, 0.2, 0.3),
)
SIDE_BY_SIDE = Routes(production=7, experiment=Experiment("blue", ((7, 0, 5_000), (8, 5_000, 10_000))))


@pytest.mark.parametrize("routes", [Routes(production=7), FULL, SIDE_BY_SIDE], ids=["plain", "canary", "experiment"])
def test_a_table_is_read_as_it_was_written(repository: Path, routes: Routes) -> None:
    written = routes.write(repository)
    assert Routes.read(repository) == written == replace(routes, epoch=1)


def test_the_shortest_table_names_production_alone(repository: Path) -> None:
    write_text(repository, '{"production": "r0002"}')
    assert Routes.read(repository) == Routes(2)


def test_a_table_is_replaced_in_one_step(repository: Path) -> None:
    """Whoever has the old table open keeps the whole old table, and nothing else is left behind."""
    before = {entry.name for entry in repository.iterdir()}
    first = Routes(production=1).write(repository)
    with (repository / ROUTES_FILE).open(encoding="utf-8") as old:
        replace(first, production=2).write(repository)
        assert Routes.parse(old.read()) == first
    assert Routes.read(repository) == Routes(production=2, epoch=2)
    assert {entry.name for entry in repository.iterdir()} - before == {ROUTES_FILE, ".routes.lock"}


def test_a_change_to_a_table_that_was_replaced_meanwhile_is_refused(repository: Path) -> None:
    read = Routes(production=1).write(repository)
    read.with_canary(2, 500).write(repository)
    with pytest.raises(StaleRoutes, match="at epoch 2 and not at 1 any more: somebody changed it; look again"):
        read.with_canary(3, 500).write(repository)
    assert Routes.read(repository).canary == Canary(2, 500)


def _promote(repository: Path, release: int, won: Any) -> None:
    try:
        Routes.parse('{"epoch": 1, "production": "r0001"}').promoted(release).write(repository)
        won.put(release)
    except StaleRoutes:
        won.put(None)


def test_of_several_who_change_the_same_table_at_once_one_succeeds(repository: Path) -> None:
    Routes(production=1).write(repository)
    context = multiprocessing.get_context("fork")
    won = context.Queue()
    writers = [context.Process(target=_promote, args=(repository, release, won)) for release in (2, 3, 4, 5)]
    for writer in writers:
        writer.start()
    results = [won.get(timeout=30) for _ in writers]
    for writer in writers:
        writer.join(30)
    winner = [release for release in results if release is not None]
    assert len(winner) == 1
    assert Routes.read(repository) == Routes(winner[0], epoch=2, previous=(1,))


def test_a_broken_table_is_replaced_by_a_good_one(repository: Path) -> None:
    write_text(repository, "{")
    Routes(production=1).write(repository)
    assert Routes.read(repository) == Routes(1, epoch=1)


def test_without_a_route_table_the_remedy_is_to_train(repository: Path) -> None:
    with pytest.raises(ReleaseUnavailable, match=r"no route table \(routes.json\); train a release with: fraudctl"):
        Routes.read(repository)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.pop("production"), "has no 'production'; add it"),
        (lambda d: d.update(canary="r0008"), "canary is no object"),
        (lambda d: d.update(canary={"release": "r0008"}), "canary has no 'share'"),
        (lambda d: d.update(canary={"release": "r0008", "share": 0}), "buckets 0 to 0: ranges must not be empty"),
        (lambda d: d.update(canary={"release": "r0008", "share": 10_001}), "lie within 0 to 10,000"),
        (lambda d: d.update(canary={"release": "r0008", "share": True}), "buckets 0 to True"),
        (lambda d: d.update(canary={"release": "r0007", "share": 5}), "r0007 is in production; another one can be"),
        (lambda d: d.update(previous=["r0007"]), "previous names a release twice, or the one in production"),
        (lambda d: d.update(previous=["r0001", "r0002", "r0003"]), "previous names 3 releases; name 2 at most"),
        (lambda d: d.update(previous="r0001"), "previous is no list"),
        (lambda d: d.update(shadow=["r0007"]), "shadow: name 2 releases at most, and not the one in production"),
        (lambda d: d.update(production=7), '7 is no release; write its name, as in "r0001"'),
        (lambda d: d.update(production="latest"), "'latest' is not a release; write r and four digits"),
        (lambda d: d.update(canari=1), "the table has 'canari', which is not known; known are production, epoch"),
        (lambda d: d.update(epoch=-1), "epoch is -1; write a whole number"),
        (lambda d: d.update(salt=3), "salt is 3; write a text"),
        (lambda d: d["fallback"].update(scorecard=1), "fallback scorecard: write true or false"),
        (
            lambda d: d["fallback"].update(by_amount={"review_from": -1}),
            "by_amount review_from is -1; write minor units",
        ),
        (lambda d: d["deadline"].update(release=1), "deadline release is 1; write a share between 0 and 1"),
        (
            lambda d: d.update(
                canary=None,
                experiment={
                    "name": "x",
                    "arms": [
                        {"release": "r0007", "from": 0, "to": 6_000},
                        {"release": "r0008", "from": 5_000, "to": 10_000},
                    ],
                },
            ),
            "buckets 5000 to 10000: ranges must not be empty, not overlap",
        ),
        (lambda d: d.update(experiment={"name": "x", "arms": []}), "a canary and an experiment share no table"),
        (lambda d: d.update(canary=None, experiment={"name": "", "arms": []}), "the experiment has no name"),
    ],
)
def test_a_broken_table_says_what_is_wrong(
    repository: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    document = FULL.document()
    change(document)
    write_text(repository, json.dumps(document))
    with pytest.raises(InvalidDefinition) as refusal:
        Routes.read(repository)
    assert says in str(refusal.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"r0001"'])
def test_what_is_no_table_is_broken(repository: Path, text: str) -> None:
    write_text(repository, text)
    with pytest.raises(InvalidDefinition, match=r"routes.json is broken: (it is no JSON|the table is no object)"):
        Routes.read(repository)


def test_a_table_that_is_no_text_is_broken_too(repository: Path) -> None:
    (repository / ROUTES_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidDefinition, match=r"routes.json is broken: it is no text"):
        Routes.read(repository)


@pytest.mark.parametrize(("there", "known"), [([], "none"), ([1, 3], "r0001, r0003")])
def test_a_route_to_a_release_that_is_not_there_lists_those_that_are(
    tmp_path: Path, there: list[int], known: str
) -> None:
    for number in there:
        add_release(tmp_path, number)
    write_text(tmp_path, '{"production": "r0002"}')
    with pytest.raises(
        ReleaseUnavailable, match=f"names release r0002, which is not in the repository; there is: {known}$"
    ):
        Routes.read(tmp_path)


# --- who goes where ---


def test_buckets_are_the_same_on_every_machine() -> None:
    keys = np.array([0, 1, -1, 2**63 - 1, -(2**63)], np.int64)
    assert bucket_of("", keys).tolist() == BUCKETS_OF_THE_EMPTY_SALT
    assert bucket_of("s", keys).tolist() != BUCKETS_OF_THE_EMPTY_SALT


def test_customers_spread_evenly_over_the_buckets() -> None:
    """Keys that follow one another and keys that are random alike: χ² of 100 ranges within six deviations."""
    keys = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, 200_000, np.int64)
    for some in (np.arange(200_000, dtype=np.int64), keys):
        found = np.bincount(bucket_of("salt", some) // 100, minlength=100)
        chi2 = float(((found - 2_000.0) ** 2 / 2_000.0).sum())
        assert abs(chi2 - 99) < 6 * (2 * 99) ** 0.5
        assert len(found) == 100


@given(st.text(max_size=20), st.integers(1, BUCKETS), st.integers(1, BUCKETS))
@settings(SEEDED, max_examples=50)
def test_a_ramp_takes_nobody_back(salt: str, one: int, other: int) -> None:
    less, more = sorted((one, other))
    buckets = bucket_of(salt, np.arange(2_000, dtype=np.int64))
    first = replace(Routes(1, salt=salt), canary=Canary(2, less))
    then = first.with_canary(2, more)
    assert then.salt == first.salt
    moved = first.release_of(buckets) != then.release_of(buckets)
    assert (then.release_of(buckets)[moved] == 2).all()


def test_a_share_is_that_share_of_the_buckets() -> None:
    everybody = np.arange(BUCKETS, dtype=np.int64)
    assert (Routes(1).release_of(everybody) == 1).all()
    assert int((Routes(1).with_canary(2, 500).release_of(everybody) == 2).sum()) == 500
    arms = SIDE_BY_SIDE.release_of(everybody)
    assert [int((arms == release).sum()) for release in (7, 8)] == [5_000, 5_000]


def test_each_new_canary_meets_other_customers() -> None:
    first = Routes(1).with_canary(2, 500)
    second = first.rolled_back().with_canary(3, 500)
    assert first.salt != second.salt


# --- changes ---


def test_a_promoted_canary_takes_all_and_the_two_before_it_stay() -> None:
    routes = Routes(3, previous=(2, 1), canary=Canary(4, 10_000), shadow=(5,)).promoted()
    assert (routes.production, routes.previous, routes.canary, routes.shadow) == (4, (3, 2), None, (5,))
    assert routes.loaded == (4, 3, 2, 5)


def test_a_release_can_be_promoted_at_once_and_leaves_the_shadow() -> None:
    routes = Routes(3, shadow=(5,), warm=(5,)).promoted(5)
    assert (routes.production, routes.previous, routes.shadow, routes.warm) == (5, (3,), (), ())


def test_a_rollback_ends_a_canary_and_keeps_it_loaded() -> None:
    routes = Routes(3, previous=(2,)).with_canary(4, 500).rolled_back()
    assert (routes.production, routes.canary) == (3, None)
    assert 4 in routes.loaded


def test_a_rollback_without_a_canary_goes_to_the_production_before() -> None:
    routes = Routes(3, previous=(2, 1)).rolled_back()
    assert (routes.production, routes.previous) == (2, (1,))
    assert 3 in routes.loaded, "who is still being answered by it must be, and the way forward stays open"


def test_a_rollback_ends_an_experiment() -> None:
    assert SIDE_BY_SIDE.rolled_back().slices == ()


def test_what_is_only_kept_loaded_can_be_let_go() -> None:
    assert Routes(3).with_canary(4, 500).rolled_back().cleared().loaded == (3,)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda: Routes(1).rolled_back(), "nothing to go back to"),
        (lambda: Routes(1).promoted(), "no canary to promote; name the release"),
        (lambda: Routes(1).promoted(1), "r0001 is in production already"),
        (lambda: Routes(1).with_canary(2, 5).with_canary(3, 5), "r0002 is the canary already"),
        (lambda: SIDE_BY_SIDE.with_canary(3, 5), "experiment blue is running"),
        (lambda: Routes(1).with_canary(2, 5).with_experiment("x", ()), "r0002 is the canary"),
        (lambda: Routes(1).with_shadow(1), "not the one in production"),
    ],
)
def test_a_change_that_does_not_fit_is_refused(change: Callable[[], Routes], says: str) -> None:
    with pytest.raises(InvalidDefinition, match=says):
        change()


def test_the_last_production_release_answers_where_another_does_not() -> None:
    routes = Routes(3, previous=(2, 1)).with_canary(4, 500)
    assert [routes.fallback_of(release) for release in (4, 3, 2)] == [3, 2, 3]
    assert Routes(1).fallback_of(1) is None
    assert replace(routes, fallback=Fallback(release=False)).fallback_of(4) is None
