"""What shadows wrote into the decision log, as pairs of one challenger and one champion."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fraud_judge.paired import Pairs
from fraud_scoring.decision_log import Context, Frame, LogDamaged, Shadowed, segments, writers
from fraud_scoring.decision_log.contents import DROPPED, SHADOW_WRITERS
from fraud_scoring.decision_log.segments import frames_of
from fraud_scoring.errors import InvalidInput
from fraud_scoring.releases import release_name
from fraud_scoring.schema import Schema

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Found:
    """The pairs of a challenger and a champion, and what else the log says of that challenger's time.

    `dropped`: rows that it did not score, by reason; `others`: rows that another release answered, by release.
    """

    challenger: int
    champion: int
    minor_units: int
    """Of an amount, in one major unit."""
    pairs: Pairs
    dropped: dict[str, int]
    others: dict[str, int]


def read_pairs(
    logs: Sequence[Path],
    challenger: int | None = None,
    champion: int | None = None,
    span_us: tuple[int, int] = (-(2**62), 2**62),
    progress: Progress = lambda share, text: None,
) -> Found:
    """The pairs within `span_us` in the logs of one or several servers; InvalidInput if there are none.

    Without a `challenger` the one that was logged last; without a `champion` the release that answered most of what
    that one scored.
    """
    schema: Schema | None = None
    frames: list[tuple[int, Shadowed]] = []
    for frame in _frames(logs, progress):
        content = frame.content()
        if isinstance(content, Context):
            schema = Schema.parse(json.loads(content.schema))
        elif isinstance(content, Shadowed) and span_us[0] <= frame.written_at_us < span_us[1]:
            frames.append((frame.written_at_us, content))
    if schema is None or not any(len(content) for _, content in frames):
        raise InvalidInput("no shadow scored anything in that time; let one: fraudctl routes shadow r0002")
    if challenger is None:
        challenger = max(frames, key=lambda one: one[0])[1].release
    mine = [(at_us, content) for at_us, content in frames if content.release == challenger]
    answered = Counter(release for _, content in mine for release in content.champion[:, 0].tolist())
    if not answered:
        there = ", ".join(sorted({release_name(content.release) for _, content in frames if len(content)}))
        raise InvalidInput(f"release {release_name(challenger)} scored nothing in that time; there is: {there}")
    if champion is None:
        champion = answered.most_common(1)[0][0]
    if not answered[champion]:
        there = ", ".join(map(release_name, sorted(answered)))
        raise InvalidInput(
            f"release {release_name(champion)} answered nothing that {release_name(challenger)} scored; there is: "
            f"{there}"
        )
    dropped = np.sum([content.dropped for _, content in mine], axis=0).tolist()
    return Found(
        challenger,
        champion,
        schema.columns[schema.amount_index].minor_units,
        _pairs(mine, champion, schema),
        dict(zip(DROPPED, dropped, strict=True)),
        {release_name(release): count for release, count in sorted(answered.items()) if release != champion},
    )


def _frames(logs: Sequence[Path], progress: Progress) -> Iterator[Frame]:
    folders = [log / name for log in logs for name in writers(log) if name.startswith(SHADOW_WRITERS)]
    todo = [(folder, number) for folder in folders for number in segments(folder)]
    for count, (folder, number) in enumerate(todo):
        progress(count / len(todo), f"{folder.name} segment {number}")
        yield from frames_of(folder, number)


def _pairs(frames: list[tuple[int, Shadowed]], champion: int, schema: Schema) -> Pairs:
    parts = [content for _, content in frames]
    kept = np.concatenate([part.champion[:, 0] for part in parts]) == champion
    if len({part.transaction.shape[1] for part in parts if len(part)}) > 1:
        raise LogDamaged("transactions of different widths stand in the log; give --from, behind the change of columns")
    transaction = np.concatenate([part.transaction for part in parts if len(part)])[kept]
    at_us = np.repeat([at_us for at_us, _ in frames], [len(part) for part in parts])[kept]
    return Pairs(
        at_us=at_us.astype(np.int64),
        identifier=transaction[:, schema.id_index],
        customer=np.ascontiguousarray(transaction[:, schema.entities[0][0]]),
        amount=np.ascontiguousarray(transaction[:, schema.amount_index]),
        champion_score=np.concatenate([part.champion_score for part in parts])[kept].astype(np.float64),
        score=np.concatenate([part.score for part in parts])[kept].astype(np.float64),
        champion=np.concatenate([part.champion[:, 2] for part in parts])[kept].astype(np.int64),
        challenger=np.concatenate([part.decision for part in parts])[kept].astype(np.int64),
    )
