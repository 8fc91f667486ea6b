"""The decision log: each answered transaction once, in order, provable.

LogWriter      one per process: appends a frame per dynamic batch, durable or async
read           frames from a position on, while they are written, too
verify_log     every flipped, removed, reordered, inserted or cut byte, by name
"""

from __future__ import annotations

from fraud_scoring.decision_log.contents import STAGES, Context, Decisions, Gap, Labels, Shadowed
from fraud_scoring.decision_log.errors import LogDamaged, LogUnavailable
from fraud_scoring.decision_log.frames import Frame
from fraud_scoring.decision_log.segments import Position, read, segments, writers
from fraud_scoring.decision_log.signing import Signer
from fraud_scoring.decision_log.verification import Finding, Verification, verify_log
from fraud_scoring.decision_log.writer import LogWriter, open_writer

__all__ = [
    "STAGES",
    "Context",
    "Decisions",
    "Finding",
    "Frame",
    "Gap",
    "Labels",
    "LogDamaged",
    "LogUnavailable",
    "LogWriter",
    "Position",
    "Shadowed",
    "Signer",
    "Verification",
    "open_writer",
    "read",
    "segments",
    "verify_log",
    "writers",
]
