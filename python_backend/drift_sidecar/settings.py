"""What the sidecar is told: read once, checked once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drift_sidecar.errors import CannotFollow
from drift_sidecar.monitor import MonitorSettings

DEFAULT_PORT: Final = 8003
MINUTES_PER_DAY: Final = 1440


@dataclass(frozen=True)
class SidecarSettings:
    """Folders, the address of the pages, and how much is kept. Make it with `read`, or `check` it."""

    log: Path
    """The decision log: a folder for each writer."""
    repository: Path
    """The model repository, for the references that releases carry."""
    home: Path
    """Where the checkpoint is kept."""
    port: int = DEFAULT_PORT
    host: str = "127.0.0.1"
    label_delay_days: float = 7.0
    """A decision is judged by the labels that came within this time."""
    outcome_rows: int = 2_000_000
    """Decisions and labels that may wait for each other, 18 bytes each; beyond it ids are sampled."""
    keep_releases: int = 6
    checkpoint_every_s: float = 1.0
    checkpoint_rows: int = 100_000
    """A checkpoint is due after this time or this many rows, whichever comes first."""
    settle_s: float = 1.0
    """A frame is counted once it is this old: a younger one may still be taken back."""
    look_every_s: float = 5.0
    """How often the statistics are computed."""
    most_lag_s: float = 60.0
    """The sidecar is healthy while no writer, and no checkpoint, is further behind than this."""
    skip_damaged: bool = False
    false_pages_per_month: float = 1.0
    """How many false alerts are accepted, of all series of a release together."""

    @property
    def monitor(self) -> MonitorSettings:
        return MonitorSettings(false_pages_per_month=self.false_pages_per_month)

    @property
    def label_delay_minutes(self) -> int:
        return round(self.label_delay_days * MINUTES_PER_DAY)

    def check(self) -> SidecarSettings:
        """These settings; CannotFollow names the one that breaks its rule."""
        rules = (
            (0 <= self.port <= 65_535, f"--port is {self.port}; write a port from 1 to 65535, or 0 for any free one"),
            (
                1 / MINUTES_PER_DAY <= self.label_delay_days <= 365,
                f"--label-delay-days is {self.label_delay_days:g}; write a number of days from a minute's to 365",
            ),
            (
                1_000 <= self.outcome_rows <= 100_000_000,
                f"--outcome-rows is {self.outcome_rows}; write a number from 1000 to 100000000",
            ),
            (
                0 < self.false_pages_per_month <= 1000,
                f"--false-pages-per-month is {self.false_pages_per_month:g}; write a number above 0, to 1000",
            ),
            (
                1 <= self.keep_releases <= 50,
                f"--keep-releases is {self.keep_releases}; write a number from 1 to 50",
            ),
            (
                0.05 <= self.checkpoint_every_s <= 60,
                f"--checkpoint-every is {self.checkpoint_every_s:g}; write seconds from 0.05 to 60",
            ),
            (0.05 <= self.look_every_s <= 60, f"--look-every is {self.look_every_s:g}; write seconds from 0.05 to 60"),
            (0 <= self.settle_s <= 60, f"--settle is {self.settle_s:g}; write seconds from 0 to 60"),
            (
                self.most_lag_s > self.settle_s + self.checkpoint_every_s,
                f"--most-lag is {self.most_lag_s:g}; write more seconds than --settle and --checkpoint-every together",
            ),
            (self.repository.is_dir(), f"--repository {self.repository} is no folder; name the model repository"),
            (not self.log.exists() or self.log.is_dir(), f"--log {self.log} is no folder; name the decision log's"),
        )
        for holds, message in rules:
            if not holds:
                raise CannotFollow(message)
        return self

    @classmethod
    def read(cls, arguments: Sequence[str] | None = None) -> SidecarSettings:
        """Settings from a command line; ends the process with code 2 where an option is unknown or no number."""
        parser = argparse.ArgumentParser(
            prog="python -m drift_sidecar",
            description="Follows the decision log; serves metrics, a status page, /healthz and /api/status.",
        )
        parser.add_argument("--log", type=Path, required=True, help="the decision log: a folder for each writer")
        parser.add_argument("--repository", type=Path, required=True, help="the model repository")
        parser.add_argument("--home", type=Path, required=True, help="where the checkpoint is kept")
        parser.add_argument("--port", type=int, default=cls.port, help="of the pages [%(default)s]; 0: any free one")
        parser.add_argument("--host", default=cls.host, help="address to listen on [%(default)s]")
        parser.add_argument(
            "--label-delay-days",
            type=float,
            default=cls.label_delay_days,
            help="judge a decision by the labels that came within this time [%(default)s]",
        )
        parser.add_argument(
            "--outcome-rows",
            type=int,
            default=cls.outcome_rows,
            help="decisions and labels in memory at most; beyond it ids are sampled [%(default)s]",
        )
        parser.add_argument(
            "--false-pages-per-month",
            type=float,
            default=cls.false_pages_per_month,
            help="false alerts that are accepted, of all series of a release together [%(default)s]",
        )
        parser.add_argument(
            "--keep-releases", type=int, default=cls.keep_releases, help="releases followed at a time [%(default)s]"
        )
        parser.add_argument(
            "--checkpoint-every",
            type=float,
            default=cls.checkpoint_every_s,
            dest="checkpoint_every_s",
            metavar="SECONDS",
            help="[%(default)s]",
        )
        parser.add_argument(
            "--settle",
            type=float,
            default=cls.settle_s,
            dest="settle_s",
            metavar="SECONDS",
            help="count a frame once it is this old: a younger one may still be taken back [%(default)s]",
        )
        parser.add_argument(
            "--look-every",
            type=float,
            default=cls.look_every_s,
            dest="look_every_s",
            metavar="SECONDS",
            help="how often the figures are computed anew [%(default)s]",
        )
        parser.add_argument(
            "--most-lag",
            type=float,
            default=cls.most_lag_s,
            dest="most_lag_s",
            metavar="SECONDS",
            help="/healthz answers 503 beyond it [%(default)s]",
        )
        parser.add_argument(
            "--skip-damaged", action="store_true", help="go on behind a damaged segment instead of waiting there"
        )
        return cls(**vars(parser.parse_args(arguments))).check()
