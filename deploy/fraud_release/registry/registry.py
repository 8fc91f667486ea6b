"""The registry of record: releases come in, rise through the stages, and every act leaves a row that cannot be edited.

The row is the act. It is appended in one step, under a number that only one writer gets, and names the stages after it;
MLflow's aliases follow it. A process that dies before the row has done nothing; one that dies after it has done all but
the aliases, and whoever opens the registry next lets them follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from fraud_release.errors import PromotionRefused, RegistryConflict, RegistryDamaged, RegistryUnavailable
from fraud_release.registry import stages
from fraud_release.registry.book import Book, Finding, check_approval, check_head, check_seen, read_book
from fraud_release.registry.catalogue import Catalogue, Place
from fraud_release.registry.checks import Checks, GateResult
from fraud_release.registry.home import Home
from fraud_release.registry.people import Person, tidy_name, tidy_reason
from fraud_release.registry.people import key_of as person_key
from fraud_release.registry.rows import NO_DIGEST, Act, Row
from fraud_release.registry.stages import Stages
from fraud_release.registry.transport import install, lay_out, manifest_digest
from fraud_scoring.errors import InvalidDefinition, ReleaseUnavailable
from fraud_scoring.releases import existing, release_name, release_number

_ATTEMPTS: Final = 10
_LONGEST_DETAIL: Final = 300
_FIRST: Final = "the first release of an empty registry; it takes the traffic, and nobody approved it"


@dataclass(frozen=True)
class Settings:
    """`distinct_accounts`: who approves must also be another account of the operating system than who asked."""

    distinct_accounts: bool = False


@dataclass
class Registry:
    """One registry, seen from one host and its model repository.

    `reached` is told of each step of a change; tests end the process there.
    """

    repository: Path
    catalogue: Catalogue
    home: Home
    checks: Checks
    settings: Settings = field(default_factory=Settings)
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    reached: Callable[[str], None] = lambda step: None

    def book(self) -> Book:
        """The audit, checked, with MLflow's aliases as it says; RegistryDamaged where they cannot be."""
        book = self._read()
        if book.rows:
            self._explain(book, self.catalogue.aliases())
            book = self._follow()
            self.home.saw(book.head)
        return book

    def stage_of(self, release: int) -> str | None:
        """The stage of a release; None for one that is not registered."""
        book = self.book()
        return None if book.registration(release) is None else book.stage_of(release)

    def register(self, release: int, actor: Person, reason: str) -> Row:
        """Bring a release of the repository in, as `dev`. A second time changes nothing."""
        from fraud_release.registry.facts import facts_of  # numba and ONNX Runtime, which no other act needs

        reason = tidy_reason(reason)
        self.checks.verify(self.repository, release)
        digest = manifest_digest(self.repository, release)
        if known := self._known(self.book(), release, digest):
            return known
        with TemporaryDirectory(prefix="fraud-release-") as folder:
            manifest = lay_out(self.repository, release, Path(folder))
            self.checks.verify(Path(folder), release)  # what goes out is what was checked
            place = self.catalogue.add(release, Path(folder), facts_of(Path(folder), release, manifest))
        self.reached("files")
        while True:
            book = self.book()
            if known := self._known(book, release, digest):
                return known
            row = self._draft(book, Act.REGISTERED, release, actor, reason, stages.registered(book.stages, release))
            try:
                return self._write(replace(row, manifest=digest, version=place.version, run=place.run, to=stages.DEV))
            except RegistryConflict:
                continue  # somebody else's row does not stand against this one

    def bootstrap(self, release: int, actor: Person, reason: str) -> Row:
        """The first release of an empty registry goes to production at once; the row says that nobody approved it."""
        book = self.book()
        self.registration(book, release)
        after = stages.bootstrapped(book.stages, release)
        row = self._draft(book, Act.BOOTSTRAPPED, release, actor, tidy_reason(reason), after)
        return self._write(replace(row, to=stages.PRODUCTION))

    def bring_in(self, release: int, actor: Person, reason: str) -> list[Row]:
        """Register, and bootstrap where the release is all that the registry holds and takes the traffic already."""
        rows = [self.register(release, actor, reason)]
        book = self.book()
        if book.stages == Stages(dev=release) and book.releases == [release] and self._takes_traffic(release):
            rows.append(self.bootstrap(release, actor, _FIRST))
        return rows

    def _takes_traffic(self, release: int) -> bool:
        from fraud_scoring.routes import Routes  # numba

        try:
            return Routes.read(self.repository).production == release
        except (ReleaseUnavailable, InvalidDefinition):
            return False

    def promote(self, release: int, to: str, actor: Person, reason: str, approver: str | None = None) -> Row:
        """Let a release rise to staging, or ask for production; the gates are asked first."""
        reason = tidy_reason(reason)
        wanted = None if approver is None else tidy_name(approver)
        book = self.book()
        self.registration(book, release)
        after = stages.promoted(book.stages, release, to)
        if to == stages.PRODUCTION:
            if waiting := book.pending(release):
                name = release_name(release)
                raise PromotionRefused(
                    f"{waiting[0].actor} asked for production of {name} already (row {waiting[0].sequence}); "
                    f"approve it: fraudctl release approve {name} --approver NAME"
                )
            if wanted is not None and person_key(wanted) == person_key(actor.name):
                raise PromotionRefused(f"{wanted} cannot approve what {actor.name} asks for: that is one person")
            after = book.stages
        elif wanted is not None:
            raise PromotionRefused("staging needs no approver; leave --approver away")
        draft = self._draft(
            book, Act.REQUESTED if to == stages.PRODUCTION else Act.PROMOTED, release, actor, reason, after
        )
        return self._pass_gates(replace(draft, to=to, approver=wanted))

    def approve(self, release: int, approver: Person, reason: str = "") -> Row:
        """A second person lets the release into production: `production` moves on, two before it are kept."""
        book = self.book()
        request = self._request(book, release)
        row = self._draft(book, Act.PROMOTED, release, approver, request.reason, book.stages)
        row = replace(
            row,
            actor=request.actor,
            account=request.account,
            approver=approver.name,
            approver_account=approver.account,
            reason=tidy_reason(f"{request.reason} / approved: {reason}") if reason.strip() else request.reason,
            to=stages.PRODUCTION,
            request=request.sequence,
        )
        check_approval(book, row)
        if self.settings.distinct_accounts and approver.account == request.account:
            raise PromotionRefused(
                f"{approver.account} asked for it, too: this registry wants two accounts for production"
            )
        return self._pass_gates(replace(row, stages=stages.promoted(book.stages, release, stages.PRODUCTION).as_dict()))

    def reject(self, release: int, person: Person, reason: str) -> Row:
        """A request for production ends without it: a second person said no, or the first one took it back."""
        book = self.book()
        request = self._request(book, release)
        row = self._draft(book, Act.REJECTED, release, person, tidy_reason(reason), book.stages)
        return self._write(replace(row, to=stages.PRODUCTION, request=request.sequence))

    def roll_back(self, actor: Person, reason: str) -> Row:
        """previous-1 is production again, what was there is retired. One person may: it was approved before."""
        book = self.book()
        after = stages.rolled_back(book.stages)
        assert after.production is not None
        row = self._draft(book, Act.ROLLED_BACK, after.production, actor, tidy_reason(reason), after)
        return self._write(replace(row, to=stages.PRODUCTION))

    def restore(self, actor: Person, reason: str) -> Row:
        """Aliases that somebody changed by other means are put back to what the audit says; a row says so."""
        book = self._read()
        if not book.rows:
            raise PromotionRefused("the registry is empty; there is nothing to restore")
        row = self._draft(book, Act.RESTORED, book.releases[-1], actor, tidy_reason(reason), book.stages)
        return self._write(row)

    def fetch(self, release: int, *, admit: bool = False) -> bool:
        """Copy a release from the registry into the repository; False if it is there already, and the same.

        The files are verified in a staging folder, before any of them gets its name. `admit`: also if this host has
        verified newer ones before.
        """
        check_files = self.checks.admit if admit else self.checks.verify
        registration = self.registration(self.book(), release)
        if release in existing(self.repository):
            self._check_manifest(self.repository, registration)
            check_files(self.repository, release)
            return False

        def check(folder: Path) -> None:
            self._check_manifest(folder, registration)
            check_files(folder, release)

        place = Place(registration.version, registration.run)
        install(self.repository, release, lambda folder: self.catalogue.download(place, folder), check)
        return True

    def verify(self, head: str | None = None) -> tuple[Book, list[Finding]]:
        """Everything that is not as it was written: rows, aliases, what this host has seen, and what somebody kept
        elsewhere (`head`, a row's digest)."""
        book, findings = read_book(self.catalogue.audit.lines(), self.home.trusted())
        findings += check_head(book, self.home.head())
        if head is not None and all(row.digest != head for row in book.rows):
            findings.append(Finding(len(book.rows), "and none before it has the digest that was asked for"))
        try:
            self._explain(book, self.catalogue.aliases())
        except RegistryDamaged as damage:
            findings.append(Finding(len(book.rows), f"does not explain the aliases: {damage}"))
        return book, findings

    def _read(self) -> Book:
        return check_seen(self.catalogue.audit.lines(), self.home.trusted(), self.home.head())

    def registration(self, book: Book, release: int) -> Row:
        """The row with which `release` came in; PromotionRefused where it never did."""
        found = book.registration(release)
        if found is None:
            name = release_name(release)
            raise PromotionRefused(f"release {name} is not registered; register it: fraudctl release register {name}")
        return found

    def _request(self, book: Book, release: int) -> Row:
        self.registration(book, release)
        waiting = book.pending(release)
        if not waiting:
            name = release_name(release)
            raise PromotionRefused(
                f"nobody has asked for production of {name}; ask first: "
                f"fraudctl release promote {name} --to production --actor NAME --reason TEXT"
            )
        return waiting[0]

    def _known(self, book: Book, release: int, digest: str) -> Row | None:
        known = book.registration(release)
        if known is not None and known.manifest != digest:
            newest = release_name(book.releases[-1])
            raise PromotionRefused(
                f"another release is registered as {release_name(release)}; fetch the newest (fraudctl release fetch "
                f"{newest}) and train again: then yours gets a number of its own"
            )
        return known

    def _check_manifest(self, folder: Path, registration: Row) -> None:
        if manifest_digest(folder, release_number(registration.release)) != registration.manifest:
            raise PromotionRefused(
                f"release {registration.release}: its manifest is not the one that was registered; restore the release"
            )

    def _pass_gates(self, row: Row) -> Row:
        """Ask the gates, and write `row`; a gate that says no is written instead, and named."""
        release, champion = release_number(row.release), Stages.from_dict(self._read().stages.as_dict()).production
        results = self._judge(release, champion)
        row = replace(row, gates=tuple((one.name, one.passed, one.detail[:_LONGEST_DETAIL]) for one in results))
        failed = [result for result in results if not result.passed]
        if not failed:
            return self._write(row)
        unchanged = self._read().stages.as_dict()
        self._write(replace(row, act=Act.REFUSED, stages=unchanged))
        told = "; ".join(f"{result.name}: {result.detail}" for result in failed)
        raise PromotionRefused(
            f"release {row.release} is refused for {row.to} by {len(failed)} of {len(results)} gates: {told}"
        )

    def _judge(self, release: int, champion: int | None) -> Sequence[GateResult]:
        here = existing(self.repository)
        for needed in (release, champion):
            if needed is not None and needed not in here:
                name = release_name(needed)
                raise PromotionRefused(
                    f"release {name} is not in {self.repository.name}, and the gates look at it; "
                    f"fetch it: fraudctl release fetch {name}"
                )
        self.checks.verify(self.repository, release)
        self._check_manifest(self.repository, self.registration(self._read(), release))
        return self.checks.judge(self.repository, release, champion)

    def _draft(self, book: Book, act: Act, release: int, who: Person, reason: str, after: Stages) -> Row:
        known = book.registration(release)
        return Row(
            sequence=len(book.rows) + 1,
            previous=book.head.digest if book.head else NO_DIGEST,
            at=self.now().isoformat(timespec="milliseconds"),
            act=act,
            release=release_name(release),
            to=None,
            actor=who.name,
            account=who.account,
            approver=None,
            approver_account=None,
            reason=reason,
            request=None,
            gates=(),
            manifest=known.manifest if known else "",
            version=known.version if known else "",
            run=known.run if known else "",
            stages=after.as_dict(),
            key="",
        )

    def _write(self, row: Row) -> Row:
        signed = row.signed(self.home.key())
        self.reached("row")
        try:
            self.catalogue.audit.append(signed.sequence, signed.line())
        except (RegistryConflict, RegistryUnavailable):
            if signed.line() not in self.catalogue.audit.lines():  # a repeated request finds its own row there
                raise
        self.reached("written")
        try:
            self.home.saw(self._follow().head)
        except RegistryUnavailable as trouble:
            raise RegistryUnavailable(
                f"row {signed.sequence} is written and counts, but its aliases were not set ({trouble}); "
                "they follow with the next command"
            ) from None
        return signed

    def _follow(self) -> Book:
        """Let MLflow's aliases say what the last row says; that row may be another's that came in meanwhile."""
        trouble: RegistryUnavailable | None = None
        for _ in range(_ATTEMPTS):
            book = self._read()
            try:
                self._set_aliases(book)
            except RegistryUnavailable as error:  # of two who set one alias at once, MLflow fails one
                trouble = error
                continue
            if self._read().head == book.head:
                return book
        raise trouble or RegistryConflict("the registry changes too fast to be followed; ask again")

    def _set_aliases(self, book: Book) -> None:
        wanted, found = _versions(book, book.stages), self.catalogue.aliases()
        for alias in stages.ALIASES:
            if found.get(alias) != wanted.get(alias):
                self.reached(f"alias {alias}")
                self.catalogue.set_alias(alias, wanted.get(alias))

    def _explain(self, book: Book, found: dict[str, str]) -> None:
        """RegistryDamaged for an alias at which no row ever pointed: somebody set it by other means."""
        for alias in stages.ALIASES:
            ever = {_versions(book, Stages.from_dict(row.stages)).get(alias) for row in book.rows} | {None}
            if found.get(alias) not in ever:
                raise RegistryDamaged(
                    f"alias {alias} is at version {found[alias]}, where the audit never put it: it was set by other "
                    "means, or rows were removed; see fraudctl release audit verify, then audit restore"
                )


def _versions(book: Book, at: Stages) -> dict[str, str]:
    """Aliases to MLflow's version numbers."""
    versions = {row.release: row.version for row in book.rows if row.act is Act.REGISTERED}
    return {alias: versions[name] for alias, name in at.as_dict().items()}
