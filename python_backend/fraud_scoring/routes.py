"""The route table: which release takes which customers. One small file, replaced in one step, read by every front door.

A customer lies in one of 10,000 buckets by a keyed hash, for as long as the salt stays: a ramp only moves the border of
a range, so nobody who is on the canary's side leaves it while it grows. Each table has an epoch, one above that of the
table it replaces; whoever writes names the epoch that was read, and of two who read the same one, one is refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from fraud_scoring.disk import sync
from fraud_scoring.errors import InvalidDefinition, ReleaseUnavailable
from fraud_scoring.releases import existing, release_name, release_number
from fraud_scoring.windows import Int64

ROUTES_FILE: Final = "routes.json"
BUCKETS: Final = 10_000
KEPT_RELEASES: Final = 2
"""Production releases before this one that stay loaded: what a rollback goes back to."""
MOST_SHADOWS: Final = 2
_LOCK_FILE: Final = ".routes.lock"
_SALT_BYTES: Final = 8


class StaleRoutes(InvalidDefinition):
    """The table was replaced by somebody else after it was read; read it again and decide anew."""


@dataclass(frozen=True)
class Canary:
    """A release on trial: it takes the customers of the buckets [0, share)."""

    release: int
    share: int


@dataclass(frozen=True)
class Experiment:
    """Releases side by side: each arm (release, from, to) takes the customers of the buckets [from, to)."""

    name: str
    arms: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class ByAmount:
    """The last answer of all, by the amount in minor units alone: reviewed, declined from there on; None: never."""

    review_from: int | None = 20_000
    decline_from: int | None = None


@dataclass(frozen=True)
class Fallback:
    """Who answers where the routed release does not: the last production release, the scorecard, then the amount."""

    release: bool = True
    scorecard: bool = True
    by_amount: ByAmount = ByAmount()


@dataclass(frozen=True)
class DeadlineSplit:
    """Shares of what is left of a deadline that the store, the routed release and the fallback release may each take.

    What then remains is for the scorecard, the record, the log and the way back.
    """

    store: float = 0.3
    release: float = 0.5
    fallback: float = 0.5


@dataclass(frozen=True)
class Routes:
    """Which release takes the traffic. `previous`: the production releases before, newest first.

    `warm`: releases that are loaded and asked nothing yet. Releases are given by their numbers.
    """

    production: int
    epoch: int = 0
    salt: str = ""
    previous: tuple[int, ...] = ()
    canary: Canary | None = None
    experiment: Experiment | None = None
    shadow: tuple[int, ...] = ()
    warm: tuple[int, ...] = ()
    fallback: Fallback = Fallback()
    deadline: DeadlineSplit = DeadlineSplit()

    def __post_init__(self) -> None:
        _check(self)

    @property
    def slices(self) -> tuple[tuple[int, int, int], ...]:
        """(release, from, to) of each range of buckets that production does not take."""
        if self.canary is not None:
            return ((self.canary.release, 0, self.canary.share),)
        return self.experiment.arms if self.experiment is not None else ()

    @property
    def answering(self) -> tuple[int, ...]:
        """Every release that may have to answer a caller, production first."""
        return _distinct((self.production, *(release for release, _, _ in self.slices), *self.previous))

    @property
    def loaded(self) -> tuple[int, ...]:
        """Every release that a server keeps loaded."""
        return _distinct((*self.answering, *self.shadow, *self.warm))

    def release_of(self, buckets: Int64) -> Int64:
        """The release's number for each bucket, int64 [N]."""
        out = np.full(len(buckets), self.production, np.int64)
        for release, first, end in self.slices:
            out[(buckets >= first) & (buckets < end)] = release
        return out

    def fallback_of(self, release: int) -> int | None:
        """The release that answers where `release` does not; None where there is none."""
        if not self.fallback.release:
            return None
        candidates = (self.production, *self.previous)
        return next((other for other in candidates if other != release), None)

    def with_warm(self, release: int) -> Routes:
        """The same with `release` loaded."""
        if release in self.loaded:
            return self
        return replace(self, warm=(*self.warm, release))

    def with_canary(self, release: int, share: int) -> Routes:
        """`release` takes `share` of 10,000 buckets.

        A ramp keeps the salt, so that customers stay on their side; a new canary gets a new one, so that it is not
        always the same customers who go first.
        """
        if self.experiment is not None:
            raise InvalidDefinition(
                f"experiment {self.experiment.name} is running; end it first: fraudctl routes rollback"
            )
        if self.canary is not None and self.canary.release != release:
            raise InvalidDefinition(
                f"release {release_name(self.canary.release)} is the canary already; promote it or roll it back first"
            )
        salt = self.salt if self.canary is not None else secrets.token_hex(_SALT_BYTES)
        return replace(self, salt=salt, canary=Canary(release, share), warm=_without(self.warm, release))

    def with_experiment(self, name: str, arms: Iterable[tuple[int, int, int]]) -> Routes:
        """Releases side by side under a new salt: no group of customers is carried over from a trial before."""
        if self.canary is not None:
            raise InvalidDefinition(
                f"release {release_name(self.canary.release)} is the canary; promote it or roll it back first"
            )
        chosen = tuple(arms)
        warm = tuple(one for one in self.warm if one not in {release for release, _, _ in chosen})
        return replace(self, experiment=Experiment(name, chosen), warm=warm, salt=secrets.token_hex(_SALT_BYTES))

    def with_shadow(self, *releases: int) -> Routes:
        """`releases` score what production scores, and answer nobody; none ends it."""
        warm = tuple(one for one in self.warm if one not in releases)
        return replace(self, shadow=_distinct(releases), warm=warm)

    def promoted(self, release: int | None = None) -> Routes:
        """`release` (the canary, if none is named) takes all traffic; production before it stays loaded."""
        if release is None:
            if self.canary is None:
                raise InvalidDefinition("there is no canary to promote; name the release")
            release = self.canary.release
        if release == self.production:
            raise InvalidDefinition(f"release {release_name(release)} is in production already")
        previous = _distinct((self.production, *self.previous))
        return replace(
            self,
            production=release,
            previous=_without(previous, release)[:KEPT_RELEASES],
            canary=None,
            experiment=None,
            shadow=_without(self.shadow, release),
            warm=_without(self.warm, release),
        )

    def rolled_back(self) -> Routes:
        """One step back: the canary or the experiment ends, or else the production release before takes over.

        What is left stays loaded, so that neither this nor the way forward again waits for anything.
        """
        if self.canary is not None or self.experiment is not None:
            left = {release for release, _, _ in self.slices} - {self.production, *self.previous}
            return replace(self, canary=None, experiment=None, warm=_distinct((*self.warm, *sorted(left))))
        if not self.previous:
            raise InvalidDefinition("there is no production release before this one; nothing to go back to")
        back = self.previous[0]
        return replace(
            self,
            production=back,
            previous=self.previous[1:],
            shadow=_without(self.shadow, back),
            warm=_distinct((*_without(self.warm, back), self.production)),
        )

    def cleared(self) -> Routes:
        """The same with nothing loaded that is asked nothing."""
        return replace(self, warm=())

    @classmethod
    def read(cls, repository: Path) -> Routes:
        """The route table of `repository`; ReleaseUnavailable if there is none that can be used."""
        routes = cls._parse_file(repository)
        known = existing(repository)
        for release in routes.loaded:
            if release not in known:
                there = ", ".join(map(release_name, known)) or "none"
                raise ReleaseUnavailable(
                    f"{ROUTES_FILE} names release {release_name(release)}, which is not in the repository; "
                    f"there is: {there}"
                )
        return routes

    def write(self, repository: Path) -> Routes:
        """Replace the table in one step; returns it with its new epoch. StaleRoutes if another one was written since.

        A crash leaves the old table or the new one, whole.
        """
        with _locked(repository):
            try:
                there = self._parse_file(repository).epoch
            except (ReleaseUnavailable, InvalidDefinition):
                there = self.epoch  # no table that can be used: this one replaces it
            if there != self.epoch:
                raise StaleRoutes(
                    f"{ROUTES_FILE} is at epoch {there} and not at {self.epoch} any more: somebody changed it; "
                    "look again (fraudctl routes show) and repeat what still fits"
                )
            written = replace(self, epoch=self.epoch + 1)
            staged = repository / f".{ROUTES_FILE}.{os.getpid()}"
            with staged.open("w", encoding="utf-8") as file:
                file.write(written.to_json())
                file.flush()
                os.fsync(file.fileno())
            staged.replace(repository / ROUTES_FILE)
            sync(repository)
        return written

    def to_json(self) -> str:
        """The table as it is written."""
        return json.dumps(self.document(), indent=1) + "\n"

    def document(self) -> dict[str, Any]:
        """The table for people and programs: releases by name."""
        names = release_name
        experiment = self.experiment
        return {
            "epoch": self.epoch,
            "salt": self.salt,
            "production": names(self.production),
            "previous": [names(one) for one in self.previous],
            "canary": self.canary and {"release": names(self.canary.release), "share": self.canary.share},
            "experiment": experiment
            and {
                "name": experiment.name,
                "arms": [{"release": names(one), "from": first, "to": end} for one, first, end in experiment.arms],
            },
            "shadow": [names(one) for one in self.shadow],
            "warm": [names(one) for one in self.warm],
            "fallback": {
                "release": self.fallback.release,
                "scorecard": self.fallback.scorecard,
                "by_amount": dict(vars(self.fallback.by_amount)),
            },
            "deadline": dict(vars(self.deadline)),
        }

    @classmethod
    def parse(cls, text: str) -> Routes:
        """The table that `to_json` wrote; InvalidDefinition says what is wrong with any other text."""
        try:
            document = json.loads(text)
        except ValueError as error:
            raise _broken(f"it is no JSON ({error})") from None
        entries = _entries("the table", document, cls.__dataclass_fields__, {"production"})
        routes: dict[str, Any] = dict(entries)
        routes["production"] = _release(entries["production"])
        for name in ("previous", "shadow", "warm"):
            routes[name] = tuple(_release(one) for one in _list(name, entries.get(name, [])))
        if (canary := entries.get("canary")) is not None:
            found = _entries("canary", canary, {"release", "share"}, {"release", "share"})
            routes["canary"] = Canary(_release(found["release"]), found["share"])
        if (experiment := entries.get("experiment")) is not None:
            found = _entries("experiment", experiment, {"name", "arms"}, {"name", "arms"})
            routes["experiment"] = Experiment(found["name"], tuple(_arm(arm) for arm in _list("arms", found["arms"])))
        found = _entries("fallback", entries.get("fallback", {}), Fallback.__dataclass_fields__)
        limits = _entries("by_amount", found.get("by_amount", {}), ByAmount.__dataclass_fields__)
        routes["fallback"] = Fallback(**{**found, "by_amount": ByAmount(**limits)})
        found = _entries("deadline", entries.get("deadline", {}), DeadlineSplit.__dataclass_fields__)
        routes["deadline"] = DeadlineSplit(**found)
        return cls(**routes)

    @classmethod
    def _parse_file(cls, repository: Path) -> Routes:
        try:
            return cls.parse((repository / ROUTES_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ReleaseUnavailable(
                f"no route table ({ROUTES_FILE}); train a release with: fraudctl release train --data FILE"
            ) from None
        except UnicodeDecodeError:
            raise _broken("it is no text") from None


class RoutesWatch:
    """Says when the table of `repository` is another one. Asking costs a look at the file's entry."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._path = os.fspath(repository / ROUTES_FILE)
        self._seen: tuple[int, int, int] | None = None

    def news(self) -> Routes | None:
        """The table, if it is not the one that was returned, or refused, last; raises what `Routes.read` does."""
        try:
            entry = os.stat(self._path)  # noqa: PTH116 - asked before every batch: a third of the time
            there = (entry.st_ino, entry.st_mtime_ns, entry.st_size)
        except OSError:
            there = None
        if there is not None and there == self._seen:
            return None
        self._seen = there
        return Routes.read(self._repository)


def bucket_of(salt: str, customer_keys: Int64) -> Int64:
    """Buckets 0 … 9,999 int64 [N] of customers int64 [N].

    The finaliser of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014) over
    the key and 64 bits of the salt's BLAKE2b; then the high 32 bits times 10,000 over 2³².
    """
    mixed = customer_keys.view(np.uint64) ^ _salt_bits(salt)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (((mixed >> np.uint64(32)) * np.uint64(BUCKETS)) >> np.uint64(32)).astype(np.int64)


@lru_cache(maxsize=16)
def _salt_bits(salt: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(salt.encode(), digest_size=8).digest(), "little"))


def _check(routes: Routes) -> None:
    """InvalidDefinition for a table that must not be followed."""
    if not _is_whole(routes.epoch) or routes.epoch < 0:
        raise _broken(f"epoch is {routes.epoch!r}; write a whole number from 0 on")
    if not isinstance(routes.salt, str):
        raise _broken(f"salt is {routes.salt!r}; write a text")
    if routes.production in routes.previous or len(set(routes.previous)) < len(routes.previous):
        raise _broken("previous names a release twice, or the one in production; name each once")
    if len(routes.previous) > KEPT_RELEASES:
        raise _broken(f"previous names {len(routes.previous)} releases; name {KEPT_RELEASES} at most")
    if len(routes.shadow) > MOST_SHADOWS or routes.production in routes.shadow:
        raise _broken(f"shadow: name {MOST_SHADOWS} releases at most, and not the one in production")
    if routes.canary is not None and routes.experiment is not None:
        raise _broken("a canary and an experiment share no table; end one of them")
    if routes.canary is not None and routes.canary.release == routes.production:
        raise _broken(f"release {release_name(routes.production)} is in production; another one can be its canary")
    if routes.experiment is not None and not (isinstance(routes.experiment.name, str) and routes.experiment.name):
        raise _broken("the experiment has no name; give it one")
    taken = 0
    for _, first, end in sorted(routes.slices, key=lambda one: one[1]):
        if not (_is_whole(first) and _is_whole(end) and taken <= first < end <= BUCKETS):
            raise _broken(
                f"buckets {first!r} to {end!r}: ranges must not be empty, not overlap, and lie within 0 to {BUCKETS:,}"
            )
        taken = end
    for name in ("release", "scorecard"):
        if not isinstance(getattr(routes.fallback, name), bool):
            raise _broken(f"fallback {name}: write true or false")
    for name, limit in vars(routes.fallback.by_amount).items():
        if limit is not None and (not _is_whole(limit) or limit < 0):
            raise _broken(f"by_amount {name} is {limit!r}; write minor units from 0 on, or null for never")
    for name, share in vars(routes.deadline).items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
            raise _broken(f"deadline {name} is {share!r}; write a share between 0 and 1")


def _entries(where: str, document: Any, known: Iterable[str], needed: Iterable[str] = ()) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise _broken(f"{where} is no object; write {{…}}")
    if strange := sorted(set(document) - set(known)):
        raise _broken(f"{where} has {strange[0]!r}, which is not known; known are {', '.join(known)}")
    if missing := sorted(set(needed) - set(document)):
        raise _broken(f"{where} has no {missing[0]!r}; add it")
    return document


def _list(where: str, document: Any) -> list[Any]:
    if not isinstance(document, list):
        raise _broken(f"{where} is no list; write […]")
    return document


def _arm(document: Any) -> tuple[int, int, int]:
    found = _entries("an arm", document, ("release", "from", "to"), ("release", "from", "to"))
    return _release(found["release"]), found["from"], found["to"]


def _release(name: Any) -> int:
    if not isinstance(name, str):
        raise _broken(f'{name!r} is no release; write its name, as in "r0001"')
    return release_number(name)


def _broken(what: str) -> InvalidDefinition:
    return InvalidDefinition(f"{ROUTES_FILE} is broken: {what}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _distinct(releases: Iterable[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(releases))


def _without(releases: tuple[int, ...], release: int) -> tuple[int, ...]:
    return tuple(one for one in releases if one != release)


@contextmanager
def _locked(repository: Path) -> Iterator[None]:
    """The table for one writer at a time; the kernel frees it when a writer dies."""
    with (repository / _LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
