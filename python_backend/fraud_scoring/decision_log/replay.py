"""The logged decisions, decided again: the proof that what was answered is what the release answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fraud_scoring import wire
from fraud_scoring.decision_log.export import decisions
from fraud_scoring.decision_log.segments import frames_of, segments, writers
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.reasons import NOT_WORKED_OUT
from fraud_scoring.releases import existing


@dataclass
class Replay:
    """`different`: replayed decisions of which any bit of score or verdict differs; `unknown_release`: not replayed;
    `scorecard`: answers that no release decided; `unexplained`: replayed ones whose reasons were not worked out
    in time, and are not compared."""

    replayed: int = 0
    different: int = 0
    scorecard: int = 0
    unknown_release: int = 0
    unexplained: int = 0
    first_different: int | None = None


def replay_log(
    log: Path,
    repository: Path,
    limit: int | None = None,
    progress: Callable[[float, str], None] = lambda share, text: None,
) -> Replay:
    """Decide every logged decision again from its logged features, by the release in `repository` that it names."""
    out = Replay()
    pipelines = {number: Pipeline.load(repository, number) for number in existing(repository)}
    for name in writers(log):
        for number in segments(log / name):
            for _, schema, content in decisions(frames_of(log / name, number)):
                sources = content.verdict[:, wire.VERDICT_SOURCE]
                out.scorecard += int((sources >= wire.Source.SCORECARD).sum())
                for release in np.unique(content.verdict[:, wire.VERDICT_RELEASE]).tolist():
                    mine = (content.verdict[:, wire.VERDICT_RELEASE] == release) & (sources < wire.Source.SCORECARD)
                    if not mine.any():
                        continue  # a scorecard's rows, which have no features
                    if release not in pipelines:
                        out.unknown_release += int(mine.sum())
                        continue
                    again = pipelines[release].decide(np.ascontiguousarray(content.features[mine]))
                    logged = content.verdict[mine]
                    unexplained = logged[:, wire.VERDICT_REASONS.start] == NOT_WORKED_OUT
                    again.verdict[unexplained, wire.VERDICT_REASONS] = logged[unexplained, wire.VERDICT_REASONS]
                    out.unexplained += int(unexplained.sum())
                    # who answered is the front door's knowledge, and not the release's
                    differ = (again.verdict[:, : wire.VERDICT_SOURCE] != logged[:, : wire.VERDICT_SOURCE]).any(axis=1)
                    differ |= again.score[:, 0].view(np.uint32) != content.score[mine].view(np.uint32)
                    out.replayed += len(differ)
                    out.different += int(differ.sum())
                    if differ.any() and out.first_different is None:
                        ids = content.transaction[mine][:, schema.id_index]
                        out.first_different = int(ids[np.argmax(differ)])
                progress(0.0 if limit is None else min(1.0, out.replayed / limit), f"{name} segment {number}")
                if limit is not None and out.replayed >= limit:
                    return out
    return out
