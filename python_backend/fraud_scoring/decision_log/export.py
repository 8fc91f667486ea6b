"""The log for people and warehouses: rows with names, and closed segments as Parquet, partitioned by day.

<out>/day=2026-03-01/front-door-0-00000001.parquet        one file per closed segment and day; never written twice
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fraud_scoring import wire
from fraud_scoring.decision_log.contents import STAGES, Context, Decisions
from fraud_scoring.decision_log.errors import LogDamaged
from fraud_scoring.decision_log.frames import Frame
from fraud_scoring.decision_log.segments import (
    Position,
    frames_of,
    pruned_path,
    read,
    root_path,
    segment_path,
    segments,
    writers,
)
from fraud_scoring.decision_log.signing import Says, Signer, read_statement
from fraud_scoring.releases import release_name
from fraud_scoring.schema import MICROSECONDS_PER_DAY, Schema

if TYPE_CHECKING:
    import polars

Progress = Callable[[float, str], None]


def decisions(frames: Iterable[Frame]) -> Iterator[tuple[Frame, Schema, Decisions]]:
    """The decisions among `frames`, which begin with a context, each with the schema that names its columns.

    Frames without a row, which only count requests that got no answer, are left out.
    """
    schema: Schema | None = None
    for frame in frames:
        content = frame.content()
        if isinstance(content, Context):
            schema = Schema.parse(json.loads(content.schema))
        elif isinstance(content, Decisions):
            if schema is None:
                raise LogDamaged(f"frame {frame.sequence} has no context before it")
            if len(content):
                yield frame, schema, content


def table(writer: str, frame: Frame, schema: Schema, content: Decisions) -> dict[str, Any]:
    """One frame as named columns [N]: the transaction, the decision, the features, when and by whom it was written."""
    n = len(content)
    columns: dict[str, Any] = {name: content.transaction[:, i] for i, name in enumerate(schema.column_names)}
    columns |= {"score": content.score}
    columns |= {name: content.verdict[:, i] for i, name in enumerate(wire.VERDICT_COLUMNS)}
    columns |= {"repeat": content.repeat, "deadline_left_us": content.deadline_left_us}
    columns |= {f"{stage}_us": np.full(n, content.stage_us[i]) for i, stage in enumerate(STAGES)}
    columns |= {"written_at_us": np.full(n, frame.written_at_us), "sequence": np.full(n, frame.sequence)}
    has_features = content.features.shape[1] == len(schema.features)
    for i, name in enumerate(schema.feature_names):
        columns[name] = content.features[:, i] if has_features else np.full(n, np.nan, np.float32)
    return columns | {"writer": [writer] * n}


def rows(writer: str, frame: Frame, schema: Schema, content: Decisions) -> Iterator[dict[str, Any]]:
    """The same, one mapping of plain values per decision, with words for codes."""
    columns = {name: np.asarray(values).tolist() for name, values in table(writer, frame, schema, content).items()}
    for i in range(len(content)):
        row = {name: values[i] for name, values in columns.items()}
        row["decision"] = wire.Decision(row["decision"]).name.lower()
        row["release"] = release_name(row["release"])
        row["source"] = wire.Source(row["source"]).name.lower()
        yield row


def export(log: Path, out: Path, progress: Progress = lambda share, text: None) -> dict[str, int]:
    """Write the closed segments that were not written before; returns segments, files and decisions written."""
    import polars

    closed = [
        (name, number)
        for name in writers(log)
        for number in segments(log / name)
        if root_path(log / name, number).exists()
    ]
    done = {"segments": 0, "files": 0, "decisions": 0}
    for count, (name, number) in enumerate(closed):
        marker = out / ".exported" / f"{name}-{number:08d}"
        if marker.exists():
            continue
        progress(count / len(closed), f"{name} {number}")
        frames = [
            polars.DataFrame(table(name, frame, schema, content))
            for frame, schema, content in decisions(frames_of(log / name, number))
        ]
        if frames:
            done["files"] += _write_days(polars.concat(frames, how="diagonal"), out, f"{name}-{number:08d}")
        done["decisions"] += sum(frame.height for frame in frames)
        done["segments"] += 1
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    progress(1.0, "exported")
    return done


def prune(log: Path, out: Path, before_us: int, signer: Signer) -> int:
    """Remove closed segments that were exported and ended before `before_us`; returns how many.

    What stays is a signed statement that the segment was removed, which holds the chain for `verify_log`.
    """
    removed = 0
    for name in writers(log):
        folder = log / name
        for number in segments(folder)[:-1]:
            exported = (out / ".exported" / f"{name}-{number:08d}").exists()
            if not exported or not root_path(folder, number).exists():
                break
            root = read_statement(root_path(folder, number), signer.public_key, Says.ROOT)
            if root.at_us >= before_us:
                break
            signer.write(pruned_path(folder, number), replace(root, says=Says.PRUNED))
            segment_path(folder, number).unlink()
            root_path(folder, number).unlink()
            removed += 1
    return removed


def _write_days(frame: polars.DataFrame, out: Path, name: str) -> int:
    import polars

    day = (polars.col("written_at_us") // MICROSECONDS_PER_DAY * MICROSECONDS_PER_DAY).cast(polars.Datetime("us"))
    parts = frame.with_columns(day.dt.strftime("%Y-%m-%d").alias("day")).partition_by("day", as_dict=True)
    for (key,), part in parts.items():
        folder = out / f"day={key}"
        folder.mkdir(parents=True, exist_ok=True)
        staged = folder / f".{name}.part"
        part.drop("day").write_parquet(staged)
        staged.replace(folder / f"{name}.parquet")
    return len(parts)


def last_rows(log: Path, count: int) -> list[dict[str, Any]]:
    """The last `count` decisions of all writers, in the order in which they were written."""
    found: list[dict[str, Any]] = []
    for name in writers(log):
        mine: list[dict[str, Any]] = []
        for number in reversed(segments(log / name)):
            mine = [
                row
                for frame, schema, content in decisions(frames_of(log / name, number))
                for row in rows(name, frame, schema, content)
            ][-count:] + mine
            if len(mine) >= count:
                break
        found += mine
    return sorted(found, key=lambda row: row["written_at_us"])[-count:] if count else []


def new_rows(log: Path, poll_s: float = 0.2) -> Iterator[dict[str, Any]]:
    """Decisions as they are written from now on, for ever."""
    positions: dict[str, Position] = {}
    schemas: dict[str, Schema] = {}
    started = False
    while True:
        for name in writers(log):
            for frame, position in read(log / name, positions.get(name)):
                positions[name] = position
                content = frame.content()
                if isinstance(content, Context):
                    schemas[name] = Schema.parse(json.loads(content.schema))
                elif isinstance(content, Decisions) and started:
                    yield from rows(name, frame, schemas[name], content)
        started = True
        time.sleep(poll_s)
