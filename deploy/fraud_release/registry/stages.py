"""Stages of releases: which is where, and what may become of it. Pure: a table in, a table or a refusal out.

    dev → staging → production → previous-1 → previous-2 → retired

A stage is an alias: one release each. What staging held before goes back to dev. Two that were in production stay kept,
and loaded, so that going back loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from fraud_release.errors import PromotionRefused
from fraud_scoring.releases import release_name, release_number

DEV: Final = "dev"
STAGING: Final = "staging"
PRODUCTION: Final = "production"
PREVIOUS: Final = ("previous-1", "previous-2")
RETIRED: Final = "retired"
ALIASES: Final = (DEV, STAGING, PRODUCTION, *PREVIOUS)
"""What the registry's server shows; `dev` is the one that came in last, until it rises."""
TARGETS: Final = (STAGING, PRODUCTION)


@dataclass(frozen=True)
class Stages:
    """Release numbers by stage; None where there is none."""

    dev: int | None = None
    staging: int | None = None
    production: int | None = None
    previous_1: int | None = None
    previous_2: int | None = None

    def as_dict(self) -> dict[str, str]:
        """Aliases to releases' names, without those that point nowhere."""
        numbers = (self.dev, self.staging, self.production, self.previous_1, self.previous_2)
        pairs = zip(ALIASES, numbers, strict=True)
        return {alias: release_name(number) for alias, number in pairs if number is not None}

    @classmethod
    def from_dict(cls, document: Mapping[str, str]) -> Stages:
        """ValueError for an alias that is none."""
        if set(document) - set(ALIASES):
            raise ValueError("an unknown alias")
        return cls(*(release_number(document[alias]) if alias in document else None for alias in ALIASES))

    def stage_of(self, release: int, was_production: Iterable[int] = ()) -> str:
        """The stage of a registered release."""
        by_rank = (PRODUCTION, STAGING, *PREVIOUS)
        held = self.as_dict()
        for alias in by_rank:
            if held.get(alias) == release_name(release):
                return alias
        return RETIRED if release in set(was_production) else DEV

    @property
    def kept(self) -> tuple[int | None, int | None, int | None]:
        """What stays loaded: production, previous-1, previous-2."""
        return self.production, self.previous_1, self.previous_2


def registered(stages: Stages, release: int) -> Stages:
    """After a release came in: it is the newest in dev."""
    return Stages(release, stages.staging, *stages.kept)


def promoted(stages: Stages, release: int, to: str) -> Stages:
    """After `release` rose to `to`; PromotionRefused where a stage would be skipped or nothing would change."""
    name, held = release_name(release), stages.stage_of(release)
    if to not in TARGETS:
        raise PromotionRefused(f"{to!r} is no stage that a release is promoted to; write staging or production")
    if held in (to, PRODUCTION):
        raise PromotionRefused(f"release {name} is in {held} already")
    dev = None if stages.dev == release else stages.dev
    if to == STAGING:
        return Stages(dev, release, *stages.kept)
    if held != STAGING:
        raise PromotionRefused(
            f"release {name} is in {held}; no stage is skipped: first fraudctl release promote {name} --to staging"
        )
    return Stages(dev, None, release, *_before(stages, release))


def bootstrapped(stages: Stages, release: int) -> Stages:
    """The first release of an empty registry, in production at once; PromotionRefused where it is not empty."""
    if stages != Stages(dev=release):
        raise PromotionRefused("only the first release of an empty registry goes to production at once")
    return Stages(production=release)


def rolled_back(stages: Stages) -> Stages:
    """After going back to previous-1; what was in production is retired."""
    if stages.previous_1 is None:
        raise PromotionRefused("there is no previous-1 to go back to")
    staging = None if stages.staging == stages.previous_1 else stages.staging
    return Stages(stages.dev, staging, stages.previous_1, stages.previous_2)


def _before(stages: Stages, release: int) -> tuple[int | None, int | None]:
    """previous-1 and previous-2 after `release` took the place of what is in production."""
    line = [one for one in stages.kept if one is not None and one != release]
    first, second, *_ = (*line, None, None)
    return first, second
