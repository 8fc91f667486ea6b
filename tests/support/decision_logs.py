"""Decision logs for tests: realistic, seeded, written by the real writer, with a second opinion on what they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraud_scoring import wire
from fraud_scoring.binning import ValidationPart, make_reference
from fraud_scoring.decision_log import STAGES, Context, Decisions, Gap, Labels, LogWriter, Signer, read, verify_log
from fraud_scoring.reference import REFERENCE_FILE
from fraud_scoring.releases import ensemble_name
from fraud_scoring.schema import Schema
from support.rows import DEFAULT_SCHEMA, MONDAY_US, Clock

MINUTE_US: Final = 60_000_000
FRONT_DOOR: Final = "front-door-0"
FEEDBACK: Final = "feedback-0"
REVIEW_AT: Final = 0.2
DECLINE_AT: Final = 0.6

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@dataclass
class Traffic:
    """Transactions as a release of the default schema sees them: what each call draws follows from the seed.

    `shift` moves a feature by so many standard deviations; `missing` is a feature's share of NaN; `fraud` scales how
    many rows have a high score; `failed` requests go before each frame.
    """

    rng: np.random.Generator
    schema: Schema = DEFAULT_SCHEMA
    release: int = 7
    shift: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, float] = field(default_factory=dict)
    fraud: float = 1.0
    repeats: float = 0.0
    failed: int = 0
    next_id: int = 1

    def features(self, n: int, time_us: Int64) -> Float32:
        """Features FP32 [n, F] by the kind of each: amounts, counts, means, rates, ratios."""
        hours = time_us // (60 * MINUTE_US)
        drawn = []
        for feature in self.schema.features:
            if feature.of == "weekend":
                values = ((hours // 24 + 3) % 7 >= 5).astype(np.float64)
            elif feature.of == "night":
                values = (hours % 24 <= feature.until_hour).astype(np.float64)
            elif feature.of == "count":
                values = 1.0 + self.rng.poisson(2.0 * feature.window_us / 86_400e6, n)
            elif feature.of == "fraud_rate":
                values = np.where(self.rng.random(n) < 0.97, 0.0, self.rng.beta(1, 9, n).round(2))
            elif feature.of == "ratio":
                values = self.rng.lognormal(0.0, 0.6, n)
            else:
                values = self.rng.gamma(4.0, 15.0, n).round(2)
            values = values + self.shift.get(feature.name, 0.0) * values.std()
            values[self.rng.random(n) < self.missing.get(feature.name, 0.0)] = np.nan
            drawn.append(values)
        return np.column_stack(drawn).astype(np.float32)

    def decisions(self, n: int, time_us: int, **changes: object) -> Decisions:
        """One frame of `n` rows, all answered at `time_us`; `changes` replace fields."""
        times = np.full(n, time_us, np.int64)
        features = self.features(n, times)
        suspicious = self.rng.random(n) < 0.015 * self.fraud
        score = np.where(suspicious, self.rng.beta(2.5, 2.0, n), self.rng.beta(0.4, 40.0, n)).astype(np.float32)
        verdict = np.zeros((n, wire.VERDICT_WIDTH), np.int32)
        verdict[:, 0] = (score >= REVIEW_AT).astype(np.int32) + (score >= DECLINE_AT)
        verdict[:, 4] = self.release
        verdict[:, 5] = self.rng.choice([0, 1, 2], n, p=[0.97, 0.02, 0.01])
        rows = np.zeros((n, self.schema.width), np.int64)
        rows[:, self.schema.id_index] = np.arange(self.next_id, self.next_id + n) * 7919
        rows[:, self.schema.time_index] = times
        for column, _ in self.schema.entities:
            rows[:, column] = self.rng.integers(1, 5_000, n)
        rows[:, self.schema.amount_index] = np.maximum(1, np.nan_to_num(features[:, 0]) * 100).astype(np.int64)
        self.next_id += n
        made = Decisions(
            transaction=rows,
            features=features,
            score=score,
            verdict=verdict,
            repeat=self.rng.random(n) < self.repeats,
            deadline_left_us=80_000 - self.rng.lognormal(9.0, 0.8, n).astype(np.int64),
            stage_us=self.rng.lognormal([4.0, 6.0, 7.5, 7.0], 0.5).astype(np.int64),
            refused=int(self.rng.random() < 0.01),
            failed=self.failed,
        )
        return replace(made, **changes)  # type: ignore[arg-type]


class DecisionLog:
    """A decision log in a folder, several writers side by side, at times that the test sets."""

    def __init__(self, folder: Path, traffic: Traffic, *, segment_bytes: int = 1 << 20) -> None:
        self.folder = folder
        self.traffic = traffic
        self.clock = Clock(MONDAY_US)
        self._segment_bytes = segment_bytes
        self._signer = Signer(Ed25519PrivateKey.generate())
        self._writers: dict[str, LogWriter] = {}

    @property
    def public_key(self) -> str:
        """Of the key that signs."""
        return self._signer.public_key

    def writer(self, name: str = FRONT_DOOR, context: Context | None = None) -> LogWriter:
        """The open writer of that name."""
        if name not in self._writers:
            self._writers[name] = LogWriter(
                self.folder / name,
                context or Context(self.traffic.release, self.traffic.schema.document),
                self._signer,
                durable=False,
                segment_bytes=self._segment_bytes,
                now_us=self.clock,
            )
        return self._writers[name]

    def write(self, n: int, frame_rows: int = 16, *, writer: str = FRONT_DOOR, rows_per_s: float = 100.0) -> None:
        """`n` decisions in frames, as traffic of `rows_per_s` brings them; the clock goes on with them."""
        for size in _frames(n, frame_rows):
            self.writer(writer).append(self.traffic.decisions(size, self.clock.now_us))
            self.clock.now_us += round(1e6 * size / rows_per_s)

    def label(self, identifiers: Int64, is_fraud: npt.NDArray[np.bool_], *, writer: str = FEEDBACK) -> None:
        """One frame of labels."""
        rows = np.column_stack([identifiers, is_fraud, np.full(len(identifiers), self.clock.now_us)])
        self.writer(writer).append(Labels(rows.astype(np.int64)))

    def gap(self, answers: int, *, writer: str = FRONT_DOOR) -> None:
        self.writer(writer).append(Gap(self.clock.now_us, answers, "No space left on device"))

    def close(self) -> None:
        """End every segment."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


@contextmanager
def decision_log(folder: Path, seed: int = 1, **traffic: object) -> Iterator[DecisionLog]:
    """A log that is closed at the end."""
    log = DecisionLog(folder, Traffic(np.random.default_rng(seed), **traffic))  # type: ignore[arg-type]
    try:
        yield log
    finally:
        log.close()


def recount(log: Path) -> Counter[tuple[int, int, int, int]]:
    """New decisions by (release, minute, decision, source): frame by frame, row by row, by the log's own reader."""
    from fraud_scoring.decision_log import read, writers

    found: Counter[tuple[int, int, int, int]] = Counter()
    for writer in writers(log):
        for frame, _ in read(log / writer):
            content = frame.content()
            if isinstance(content, Decisions):
                for verdict, repeat in zip(content.verdict.tolist(), content.repeat.tolist(), strict=True):
                    if not repeat:
                        found[verdict[4], frame.written_at_us // MINUTE_US, verdict[0], verdict[5]] += 1
    return found


def write_reference(repository: Path, traffic: Traffic, rows: int = 20_000) -> None:
    """Put a reference of `rows` rows of unshifted traffic where a release's ensemble lies."""
    still = replace(traffic, rng=np.random.default_rng(99), shift={}, missing={}, fraud=1.0, repeats=0.0)
    times = MONDAY_US + np.sort(still.rng.integers(0, 14 * 86_400_000_000, rows))
    drawn = still.decisions(rows, MONDAY_US, features=still.features(rows, times))
    part = ValidationPart(
        features=drawn.features,
        score=drawn.score,
        decision=drawn.verdict[:, 0],
        amount_minor=drawn.transaction[:, still.schema.amount_index],
        time_us=times,
        is_fraud=(still.rng.random(rows) < drawn.score).astype(np.int8),
    )
    costs = {
        "chargeback_fee_minor": 2_000.0,
        "false_decline_minor": 5_000.0,
        "review_minor": 300.0,
        "review_miss_share": 0.2,
    }
    folder = repository / ensemble_name(traffic.release)
    folder.mkdir(parents=True, exist_ok=True)
    reference = make_reference(traffic.release, traffic.schema, part, costs)
    (folder / REFERENCE_FILE).write_text(reference.to_json(), encoding="utf-8")


def _frames(n: int, frame_rows: int) -> Iterator[int]:
    """Sizes of the frames of `n` rows."""
    whole, rest = divmod(n, frame_rows)
    yield from [frame_rows] * whole
    if rest:
        yield rest


assert len(STAGES) == 4


def logged_ids(folder: Path) -> list[int]:
    """The transactions of a writer's folder, in the order in which they were logged."""
    found: list[int] = []
    for frame, _ in read(folder):
        content = frame.content()
        if isinstance(content, Decisions):
            found += content.transaction[:, 0].tolist()
    return found


def is_sound(folder: Path, signer: Signer) -> bool:
    """Whether `log verify` finds nothing in the log of a writer's folder."""
    return verify_log(folder.parent, signer.public_key).findings == []
