"""Follows every writer of a decision log, from where each was left.

What is given out was settled: a frame younger than `settle_us` may still be taken back (its sync failed) or be lost (a
power cut in async mode), so it waits. Whoever counts what `take` gave, and keeps `places` together with the counts,
counts each frame once, whatever happens in between.

A writer whose bytes are not what it wrote is left where the damage begins and looked at again when its folder changes;
the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fraud_scoring.decision_log import Context, Frame, Gap, LogDamaged, Position, read, segments, writers
from fraud_scoring.decision_log.batches import Batch, Int64, Pile
from fraud_scoring.decision_log.segments import frames_of, segment_path

Report = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """How far a writer was counted: what a checkpoint keeps of it. `context` is what its next decisions mean."""

    position: Position
    written_at_us: int = 0
    context: Context | None = None
    missed_frames: int = 0
    """Frames that were gone before they were counted: removed by retention, or skipped as damaged."""

    def document(self) -> dict[str, Any]:
        """The place as JSON holds it."""
        segment, offset, sequence, digest = self.position
        return {
            "position": [segment, offset, sequence, digest.hex()],
            "written_at_us": self.written_at_us,
            "missed_frames": self.missed_frames,
            "context": [self.context.release, self.context.schema] if self.context else None,
        }

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Place:
        """What `document` gave."""
        segment, offset, sequence, digest = document["position"]
        context = Context(*document["context"]) if document["context"] else None
        position = Position(segment, offset, sequence, bytes.fromhex(digest))
        return cls(position, document["written_at_us"], context, document["missed_frames"])


@dataclass
class Taken:
    """What one look at the log brought."""

    batches: list[Batch] = field(default_factory=list)
    labels: list[Int64] = field(default_factory=list)
    """int64 [M, 4]: a label's columns, then when its frame was written."""
    gaps: list[tuple[int, Gap]] = field(default_factory=list)
    contexts: dict[int, str] = field(default_factory=dict)
    """Schema documents by release."""
    frames: int = 0
    rows: int = 0


@dataclass(frozen=True)
class Lag:
    """How far behind a writer the count is. Every frame that was written before `watermark_us` was taken."""

    writer: str
    bytes: int
    seconds: float
    watermark_us: int
    written_at_us: int
    damage: str
    missed_frames: int


class Tail:
    """All writers of the folder `log`. `skip_damaged`: go on behind a damaged segment, and say so."""

    def __init__(
        self,
        log: Path,
        places: Mapping[str, Place],
        now_us: Callable[[], int],
        report: Report,
        *,
        settle_us: int = 1_000_000,
        skip_damaged: bool = False,
    ) -> None:
        self._log = log
        self._places = dict(places)
        self._now_us = now_us
        self._report = report
        self._settle_us = settle_us
        self._skip_damaged = skip_damaged
        self._followers: dict[str, _Follower] = {}

    @property
    def places(self) -> dict[str, Place]:
        """Where each writer's next frame is: behind all that `take` gave."""
        followed = {name: follower.place for name, follower in self._followers.items()}
        return {**self._places, **{name: place for name, place in followed.items() if place is not None}}

    def take(self, rows: int) -> Taken:
        """The next frames of every writer, at most about `rows` rows of each; nothing once all of it was taken."""
        for name in writers(self._log):
            if name not in self._followers:
                place = self._places.get(name)
                self._followers[name] = _Follower(self._log / name, place, self._report, self._skip_damaged)
                since = f"segment {place.position.segment}" if place else "its oldest segment"
                self._report(f"following writer {name} from {since} on")
        taken = Taken()
        for follower in self._followers.values():
            follower.take(taken, rows, self._now_us(), self._settle_us)
        return taken

    def lags(self) -> list[Lag]:
        """How far behind each writer the count is, as of the last `take`."""
        now_us = self._now_us()
        return [follower.lag(now_us, self._settle_us) for follower in self._followers.values()]


class _Follower:
    """One writer."""

    def __init__(self, folder: Path, place: Place | None, report: Report, skip_damaged: bool) -> None:
        self._folder = folder
        self.place = place
        self._report = report
        self._skip_damaged = skip_damaged
        self._frames: Iterator[tuple[Frame, Position]] | None = None
        self._opened_at_us = 0
        self._waits_since_us: int | None = None
        """When the first frame that was not taken was written; None at the end of the log."""
        self._damage = ""
        self._damaged_stamp: object = None

    def take(self, taken: Taken, rows: int, now_us: int, settle_us: int) -> None:
        """Add up to about `rows` rows to `taken`."""
        if self._damage and self._damaged_stamp == self._stamp():
            return
        pile = Pile()
        try:
            for frame, position in self._settled(now_us, settle_us):
                self._put(frame, position, pile, taken)
                if pile.rows >= rows:
                    self._waits_since_us = frame.written_at_us
                    break
            if self._damage:
                self._damage = ""
                self._report(f"writer {self._folder.name}: its log can be read again")
        except LogDamaged as damage:
            self._stop(str(damage), now_us)
        except FileNotFoundError:
            self._frames = None  # retention took the segment just now; the next look begins at the oldest kept
        except OSError as error:
            self._stop(f"the log of writer {self._folder.name} cannot be read: {error.strerror}", now_us)
        taken.batches += pile.batches()
        taken.labels += pile.labels()
        taken.frames += pile.frames
        taken.rows += pile.rows

    def lag(self, now_us: int, settle_us: int) -> Lag:
        """How far behind the count is."""
        watermark_us, seconds = self._opened_at_us - settle_us, 0.0
        if self._waits_since_us is not None:
            watermark_us = self._waits_since_us
            seconds = max(0.0, (now_us - self._waits_since_us) / 1e6)
        return Lag(
            writer=self._folder.name,
            bytes=self._bytes_behind(),
            seconds=seconds,
            watermark_us=watermark_us,
            written_at_us=self.place.written_at_us if self.place else 0,
            damage=self._damage,
            missed_frames=self.place.missed_frames if self.place else 0,
        )

    def _put(self, frame: Frame, position: Position, pile: Pile, taken: Taken) -> None:
        """Take one frame: onto the pile, and the place moves behind it."""
        place = self.place or Place(Position())
        context = place.context
        content = pile.add(frame, context)
        if isinstance(content, Context):
            context = content
            taken.contexts[content.release] = content.schema
        elif isinstance(content, Gap):
            taken.gaps.append((frame.written_at_us, content))
        self.place = Place(position, frame.written_at_us, context, place.missed_frames)

    def _settled(self, now_us: int, settle_us: int) -> Iterator[tuple[Frame, Position]]:
        """Frames from the place on that no failed sync can take back, each with the position behind it."""
        if self._frames is None:
            start = self._start()
            self._opened_at_us = now_us
            self._frames = read(self._folder, start)
        for frame, position in self._frames:
            # what was read may be as old as the opening; only a writer with a wrong clock is in the far future
            if self._opened_at_us - settle_us < frame.written_at_us <= now_us + settle_us:
                self._frames = None
                self._waits_since_us = frame.written_at_us
                return
            yield frame, position
        self._frames = None
        self._waits_since_us = None

    def _start(self) -> Position | None:
        """Where to read on: the place, unless retention has removed what lies there; None: at the oldest segment."""
        kept = segments(self._folder)
        if self.place is None or not kept:
            return None
        position = self.place.position
        if kept[0] > position.segment:
            return self._start_of(kept[0], "were removed before they were counted")
        path = segment_path(self._folder, position.segment)
        if kept[-1] < position.segment or (path.exists() and path.stat().st_size < position.offset):
            raise LogDamaged(
                f"the log of writer {self._folder.name} ends before byte {position.offset} of segment "
                f"{position.segment}, up to which it was counted; if it was replaced on purpose, start "
                "with an empty home"
            )
        return position

    def _start_of(self, segment: int, why: str) -> Position | None:
        """The start of a segment, as its first frame claims it; what lies between the place and it is missed."""
        place = self.place or Place(Position())
        first = next(frames_of(self._folder, segment), None)
        if first is None:
            return place.position
        start = Position(segment, 0, first.sequence, first.previous)
        missed = first.sequence - place.position.sequence
        if missed < 0:
            raise LogDamaged(
                f"segment {segment} of writer {self._folder.name} begins with frame {first.sequence}, and frame "
                f"{place.position.sequence - 1} was counted before; start with an empty home to count anew"
            )
        if missed == 0:
            start = place.position._replace(segment=segment, offset=0)
        else:
            self._report(f"writer {self._folder.name}: {missed:,} frames {why}; going on at segment {segment}")
        self.place = Place(start, place.written_at_us, place.context, place.missed_frames + missed)
        return start

    def _stop(self, damage: str, now_us: int) -> None:
        """Remember the damage; go on behind it where that is wanted and there is something behind it."""
        self._frames = None
        if not self._damage:
            self._waits_since_us = (self.place.written_at_us if self.place else 0) or now_us
        if self._folder.name not in damage:
            damage = f"writer {self._folder.name}: {damage}"
        if damage != self._damage:
            self._report(f"{damage}; this writer waits, see: fraudctl log verify")
        self._damage, self._damaged_stamp = damage, self._stamp()
        if self._skip_damaged:
            self._skip()

    def _skip(self) -> None:
        """Move the place to the first segment behind the damage."""
        kept = segments(self._folder)
        position = self.place.position if self.place else Position(segment=kept[0] if kept else 1)
        path = segment_path(self._folder, position.segment)
        inside = path.exists() and position.offset < path.stat().st_size
        behind = [number for number in kept if number > position.segment][0 if inside else 1 :]
        if behind:
            with suppress(LogDamaged):  # the next one begins no better: the damage stands
                self._start_of(behind[0], "were skipped as damaged")
                self._damaged_stamp = None

    def _stamp(self) -> object:
        """What changes when anything was written, cut or removed."""
        kept = segments(self._folder)
        return kept, segment_path(self._folder, kept[-1]).stat().st_size if kept else 0

    def _bytes_behind(self) -> int:
        position = self.place.position if self.place else Position()
        behind = 0
        for number in segments(self._folder):
            if number >= position.segment:
                with suppress(FileNotFoundError):
                    behind += segment_path(self._folder, number).stat().st_size
                    behind -= position.offset if number == position.segment else 0
        return max(0, behind)
