"""A table that is written elsewhere is taken when everything that it names is here and right, and not before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fraud_release.errors import ArtifactRefused
from fraud_release.release_store import open_store, publish_release
from fraud_scoring.errors import FraudError, InvalidDefinition, ReleaseUnavailable
from fraud_scoring.releases import existing
from fraud_scoring.routes import Canary, Routes, StaleRoutes
from fraud_server.probe import NotReady, WrongAnswer
from fraud_server.release_probe import state_of
from fraud_server.route_changes import ChangeFailed
from fraud_server.routes_follower import RoutesFollower
from support.release import empty_repository
from support.release_stores import TRUST, write_release_by_name


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with releases 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("store")
    repository = empty_repository(folder / "models")
    for content in (b"one", b"two", b"three"):
        publish_release(
            repository, write_release_by_name(repository, content), open_store(f"folder://{folder}/r"), TRUST
        )
    return folder / "r"


class Place:
    """A repository that follows, what it reported, and whom the server was asked for."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.repository = empty_repository(folder / "models")
        self.said: list[str] = []
        self.asked: list[tuple[int, Routes]] = []
        self.follower = RoutesFollower(
            self.repository,
            open_store(f"folder://{store}"),
            replace(TRUST, record=folder / "home" / "keys" / "record.json"),
            self.said.append,
            patience_s=0.2,
        )

    def serving(self, answer: Callable[[int], None] = lambda release: None) -> RoutesFollower:
        """The same beside a server that answers so."""

        def ask(release: int) -> None:
            self.asked.append((release, self.routes))
            answer(release)

        return replace(self.follower, ask=ask)

    @property
    def routes(self) -> Routes:
        return Routes.read(self.repository)


@pytest.fixture
def place(tmp_path: Path, store: Path) -> Place:
    return Place(tmp_path, store)


def test_the_first_table_brings_its_releases(place: Place) -> None:
    assert place.follower.take(Routes(2, epoch=5, previous=(1,)).to_json())
    assert existing(place.repository) == [1, 2]
    assert (place.routes.production, place.routes.previous) == (2, (1,))
    assert [line.split(" in ")[0] for line in place.said] == [
        "release r0001 fetched and verified",
        "release r0002 fetched and verified",
        "the table of epoch 5 is followed: r0002",
    ]


def test_a_table_is_taken_once(place: Place) -> None:
    table = Routes(1, epoch=5).to_json()
    assert place.follower.take(table)
    assert not place.follower.take(table)
    assert place.routes.epoch == 1, "nothing was written again"


def test_an_older_table_and_one_that_was_edited_are_refused(place: Place) -> None:
    place.follower.take(Routes(2, epoch=5, previous=(1,)).to_json())
    with pytest.raises(StaleRoutes, match="its epoch is 4, and the one of 5 is followed"):
        place.follower.take(Routes(1, epoch=4).to_json())
    with pytest.raises(InvalidDefinition, match="another table of epoch 5 is followed"):
        place.follower.take(Routes(1, epoch=5).to_json())
    assert place.routes.production == 2


def test_a_new_release_is_loaded_and_asked_before_the_table_routes_to_it(place: Place) -> None:
    place.follower.take(Routes(1, epoch=1).to_json())
    place.serving().take(Routes(1, epoch=2, canary=Canary(2, 500)).to_json())
    ((release, then),) = place.asked
    assert (release, then.warm, then.canary) == (2, (2,), None)
    assert place.routes.canary == Canary(2, 500)


def test_a_release_that_is_wrong_or_does_not_come_leaves_the_table_as_it_was(place: Place) -> None:
    place.follower.take(Routes(1, epoch=1).to_json())
    before = place.routes
    canary = Routes(1, epoch=2, canary=Canary(2, 500)).to_json()
    for answer, refusal in ((WrongAnswer("differs"), WrongAnswer), (NotReady("not loaded"), ChangeFailed)):

        def never(release: int, answer: FraudError = answer) -> None:
            raise answer

        with pytest.raises(refusal):
            place.serving(never).take(canary)
        assert replace(place.routes, epoch=before.epoch) == before
    assert place.serving().take(canary), "it is tried again"


def test_going_back_to_what_is_loaded_waits_for_nothing(place: Place) -> None:
    place.follower.take(Routes(2, epoch=1, previous=(1,)).to_json())

    def dead(release: int) -> None:
        raise NotReady("the server does not answer")

    assert place.serving(dead).take(Routes(1, epoch=2, warm=(2,)).to_json())
    assert place.routes.production == 1


def test_a_table_whose_release_is_nowhere_or_was_changed_is_refused(place: Place, store: Path) -> None:
    place.follower.take(Routes(1, epoch=1).to_json())
    with pytest.raises(ReleaseUnavailable, match="r0009 is not in the release store"):
        place.follower.take(Routes(9, epoch=2).to_json())
    graph = store / "r0003" / "fraud_model_r0003" / "1" / "model.onnx"
    whole = graph.read_bytes()
    try:
        graph.write_bytes(b"other")
        with pytest.raises(ArtifactRefused, match="r0003"):
            place.follower.take(Routes(3, epoch=2).to_json())
    finally:
        graph.write_bytes(whole)
    assert place.routes.production == 1


def test_an_older_release_than_was_seen_is_refused_as_a_downgrade(place: Place) -> None:
    place.follower.take(Routes(3, epoch=1).to_json())
    with pytest.raises(ArtifactRefused, match="r0002"):
        place.follower.take(Routes(2, epoch=2).to_json())


def test_a_file_is_followed_until_somebody_says_stop_and_a_refusal_is_told_once(place: Place, tmp_path: Path) -> None:
    table, stop = tmp_path / "routes.json", threading.Event()
    happened = threading.Event()

    def report(line: str) -> None:
        place.said.append(line)
        happened.set()

    follower = replace(place.follower, report=report)
    thread = threading.Thread(target=follower.follow, args=(table, stop))
    thread.start()
    try:
        for text, said in (
            (Routes(1, epoch=1).to_json(), "the table of epoch 1 is followed"),
            ("{", "the table is not followed: routes.json is broken"),
            (Routes(1, epoch=2, previous=(2,)).to_json(), "the table of epoch 2 is followed"),
        ):
            staged = tmp_path / "next"
            staged.write_text(text)
            staged.replace(table)
            while not any(said in line for line in place.said):
                assert happened.wait(20), place.said
                happened.clear()
    finally:
        stop.set()
        thread.join()
    assert sum("broken" in line for line in place.said) == 1


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, ("right", False)),
        (NotReady("it is not loaded"), ("it is not loaded", False)),
        (WrongAnswer("score differs"), ("score differs", True)),
    ],
)
def test_a_release_that_is_away_is_told_and_one_that_is_wrong_counts(
    error: FraudError, state: tuple[str, bool]
) -> None:
    def ask(release: int) -> None:
        if error is not None:
            raise error

    assert state_of(2, ask) == state
