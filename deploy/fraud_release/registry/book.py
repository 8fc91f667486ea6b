"""The audit as a whole: what the rows add up to, and whether they are what was written.

Every row is replayed: the stages that it names must be those to which its act leads from the row before, so that a row
that breaks a rule is found even if a trusted key signed it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from fraud_release.errors import PromotionRefused, RegistryDamaged
from fraud_release.registry import stages
from fraud_release.registry.people import key_of
from fraud_release.registry.rows import NO_DIGEST, Act, Row, parse
from fraud_release.registry.stages import Stages
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.releases import release_name, release_number


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was written; `sequence` is the row's."""

    sequence: int
    what: str


@dataclass(frozen=True)
class Head:
    """How far an audit had come: the digest of row `sequence`."""

    sequence: int
    digest: str


class Book:
    """The rows from the first on, as far as they can be read."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.rows = tuple(rows)

    @property
    def head(self) -> Head | None:
        return Head(self.rows[-1].sequence, self.rows[-1].digest) if self.rows else None

    @property
    def stages(self) -> Stages:
        return Stages.from_dict(self.rows[-1].stages) if self.rows else Stages()

    @property
    def before_last(self) -> Stages:
        """The stages before the last row."""
        return Stages.from_dict(self.rows[-2].stages) if len(self.rows) > 1 else Stages()

    def registration(self, release: int) -> Row | None:
        """The row with which `release` came in."""
        name = release_name(release)
        return next((row for row in self.rows if row.act is Act.REGISTERED and row.release == name), None)

    @property
    def releases(self) -> list[int]:
        """Numbers of the registered releases, rising."""
        return sorted(release_number(row.release) for row in self.rows if row.act is Act.REGISTERED)

    def stage_of(self, release: int) -> str:
        served = {release_number(row.stages[stages.PRODUCTION]) for row in self.rows if stages.PRODUCTION in row.stages}
        return self.stages.stage_of(release, served)

    def pending(self, release: int | None = None) -> list[Row]:
        """Requests for production that nobody has answered, of `release` or of all; their releases are in staging."""
        answered = {row.request for row in self.rows if row.request is not None}
        waiting = [row for row in self.rows if row.act is Act.REQUESTED and row.sequence not in answered]
        left = self._left_staging()
        return [
            row
            for row in waiting
            if (release is None or row.release == release_name(release)) and left.get(row.release, -1) < row.sequence
        ]

    def _left_staging(self) -> dict[str, int]:
        """By release: the last row after which it was no longer in staging, though it had been."""
        left: dict[str, int] = {}
        held: str | None = None
        for row in self.rows:
            now = row.stages.get(stages.STAGING)
            if held is not None and now != held:
                left[held] = row.sequence
            held = now
        return left


def read_book(lines: Iterable[str], trusted: Collection[str] | None) -> tuple[Book, list[Finding]]:
    """The book of these lines, and everything about them that is not as it was written.

    `trusted`: public keys whose rows count; None takes any key, so that only the chain and the signatures are checked.
    """
    rows: list[Row] = []
    findings: list[Finding] = []
    for number, line in enumerate(lines, 1):
        try:
            row = parse(line)
        except (ValueError, TypeError, InvalidDefinition):
            findings.append(Finding(number, "cannot be read: it was changed"))
            continue
        findings += [Finding(number, what) for what in _findings_of(row, number, rows, trusted)]
        rows.append(row)
    return Book(rows), findings


def check_seen(lines: Iterable[str], trusted: Collection[str] | None, head: Head | None) -> Book:
    """The book of these lines, which had come as far as `head` before; RegistryDamaged names the first thing that is
    not as it was written."""
    book, findings = read_book(lines, trusted)
    if findings:
        first = findings[0]
        raise RegistryDamaged(
            f"the registry's audit is not what was written: row {first.sequence} {first.what}; "
            "see all of it with: fraudctl release audit verify"
        )
    if cut := check_head(book, head):
        raise RegistryDamaged(f"the registry's audit was cut or rewritten: row {cut[0].sequence} {cut[0].what}")
    return book


def check_head(book: Book, head: Head | None) -> list[Finding]:
    """What a book lacks that had come as far as `head` before."""
    if head is None:
        return []
    if len(book.rows) < head.sequence:
        return [
            Finding(
                len(book.rows) + 1,
                f"to row {head.sequence} are gone: this host has seen them (if the registry was made anew on purpose, "
                "remove registry-heads.json in the home folder)",
            )
        ]
    if book.rows[head.sequence - 1].digest != head.digest:
        return [Finding(head.sequence, "is another row than the one that this host has seen: history was rewritten")]
    return []


def _findings_of(row: Row, number: int, before: list[Row], trusted: Collection[str] | None) -> Iterable[str]:
    previous = before[-1].digest if before else NO_DIGEST
    if row.sequence != number:
        yield f"says that it is row {row.sequence}: rows were removed, added or moved"
    elif row.previous != previous:
        yield "does not follow the row before it: one of them was changed, removed or moved"
    try:
        row.check_signature()
    except RegistryDamaged:
        yield "is not signed by the key that it names: it was changed"
    if trusted is not None and row.key not in trusted:
        yield (
            "is signed by a key that is not trusted here; if it is a colleague's: "
            f"fraudctl release audit trust {row.key}"
        )
    try:
        allowed = _next(Book(before), row).as_dict() == dict(row.stages)
    except (PromotionRefused, InvalidDefinition, ValueError):
        allowed = False
    if not allowed:
        yield f"says {row.act.value} of {row.release}, which the rules do not allow there"


def _next(book: Book, row: Row) -> Stages:
    """The stages after `row`, by the rules; PromotionRefused where they do not allow it."""
    release = release_number(row.release)
    if row.act is Act.REGISTERED:
        if book.registration(release) is not None:
            raise PromotionRefused("registered twice")
        return stages.registered(book.stages, release)
    if book.registration(release) is None:
        raise PromotionRefused("never registered")
    if row.act is Act.BOOTSTRAPPED:
        return stages.bootstrapped(book.stages, release)
    if row.act is Act.ROLLED_BACK:
        return stages.rolled_back(book.stages)
    if row.act is not Act.PROMOTED:
        return book.stages
    if not all(passed for _, passed, _ in row.gates):
        raise PromotionRefused("a gate said no")
    if row.to == stages.PRODUCTION:
        check_approval(book, row)
    return stages.promoted(book.stages, release, row.to or "")


def check_approval(book: Book, row: Row) -> None:
    """PromotionRefused unless `row` answers a request of somebody else, for the same release."""
    request = next((one for one in book.pending(release_number(row.release)) if one.sequence == row.request), None)
    if request is None:
        raise PromotionRefused(f"there is no request for production of {row.release} that waits for approval")
    if not row.approver or key_of(row.approver) == key_of(request.actor):
        raise PromotionRefused(
            f"{row.approver} asked for it and cannot approve it: production takes a second person "
            f"(fraudctl release approve {row.release} --approver NAME)"
        )
    if request.approver is not None and key_of(row.approver) != key_of(request.approver):
        raise PromotionRefused(f"{request.approver} was asked to approve it, and not {row.approver}")
