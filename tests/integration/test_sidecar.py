"""The sidecar as a real process: killed at any moment it loses nothing and counts nothing twice."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from drift_sidecar import traffic
from drift_sidecar.checkpoint import FILE, Checkpoint, Kept
from fraud_scoring import wire
from fraud_scoring.decision_log import Decisions, Labels, read, writers
from fraud_scoring.releases import release_name
from support.decision_logs import DecisionLog, Traffic, decision_log, recount, write_reference
from support.sidecars import SidecarProcess, await_that, decisions_in, fetch, samples, sidecar_process, value

KILLS = int(os.environ.get("FRAUD_SIDECAR_KILLS", "30"))


@dataclass
class Told:
    """What a log holds, by its own reader."""

    rows: int
    by_minute: Counter[tuple[int, int, int, int]]

    @classmethod
    def of(cls, log: Path) -> Told:
        rows = 0
        for writer in writers(log):
            for frame, _ in read(log / writer):
                content = frame.content()
                rows += len(content) if isinstance(content, Decisions | Labels) else 0
        return cls(rows, recount(log))

    @property
    def by_decision(self) -> Counter[tuple[str, str, str]]:
        """As fraud_transactions_total has it."""
        found: Counter[tuple[str, str, str]] = Counter()
        for (release, _, decision, source), count in self.by_minute.items():
            found[release_name(release), wire.Decision(decision).name.lower(), wire.Source(source).name.lower()] += (
                count
            )
        return found


def kept_in(home: Path) -> Kept:
    """What the checkpoint holds."""
    checkpoint = Checkpoint(home, pytest.fail)
    kept = checkpoint.load()
    checkpoint.close()
    return kept


def kept_rows(home: Path) -> int:
    """How many rows the checkpoint stands for."""
    progress = kept_in(home).get("progress", {})
    return int(json.loads(progress["whole"])["rows"]) if progress else 0


def kept_by_minute(home: Path, release: int = 7) -> Counter[tuple[int, int, int, int]]:
    """New decisions by (release, minute, decision, source), as the checkpoint has them."""
    found: Counter[tuple[int, int, int, int]] = Counter()
    for name, stored in kept_in(home)["counts"].items():
        if name.startswith("minute ") and name.endswith(f" mix/{release}"):
            mix = traffic.MIX.of(np.frombuffer(stored, np.int64))
            for cell in np.flatnonzero(mix).tolist():
                found[release, int(name.split()[1]), cell // len(wire.Source), cell % len(wire.Source)] = int(mix[cell])
    return found


def await_checkpoints(home: Path, count: int) -> None:
    """Wait until so many checkpoints were written from now on."""

    def stamp() -> tuple[int, int]:
        ahead = (home / f"{FILE}-wal").stat()
        return ahead.st_size, ahead.st_mtime_ns

    for _ in range(count):
        before = stamp()
        await_that(lambda before=before: stamp() != before, "a checkpoint is written")  # type: ignore[misc]


@contextmanager
def writing(log: DecisionLog, seed: int) -> Iterator[threading.Event]:
    """Two front doors and a feedback model write on, by the real clock, until the end; the event is set to end it."""
    stop = threading.Event()

    def write() -> None:
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            for _ in range(10):
                log.clock.now_us = time.time_ns() // 1000
                n = int(rng.choice([1, 1, 3, 16, 64]))
                log.writer(f"front-door-{rng.integers(2)}").append(log.traffic.decisions(n, log.clock.now_us))
            log.label(np.array([log.traffic.next_id * 7919]), rng.random(1) < 0.1)
            stop.wait(0.004)

    thread = threading.Thread(target=write, name="front-doors")
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()


def test_it_counts_exactly_what_the_log_holds_however_often_it_is_killed(tmp_path: Path) -> None:
    rng = np.random.default_rng(20)
    log = DecisionLog(tmp_path / "log", Traffic(rng.spawn(1)[0], repeats=0.02), segment_bytes=1 << 20)
    write_reference(tmp_path / "repository", log.traffic, rows=3_000)
    log.clock.now_us = time.time_ns() // 1000 - 3600 * 1_000_000
    log.write(60_000, 7, rows_per_s=100)  # a backlog: the first lives die while they catch up
    options = ("--checkpoint-every", "0.05", "--settle", "0.05")
    counted: list[int] = []
    with writing(log, seed=21) as stop:
        for life in range(4 * KILLS):  # on a busy machine many die before they have counted anything
            if life >= KILLS and len(set(counted) - {0}) > 1 + KILLS // 2:
                break
            with sidecar_process(log.folder, tmp_path, *options, forked=True) as sidecar:
                if rng.random() < 0.8:
                    sidecar.wait_until_ready()
                    await_checkpoints(tmp_path / "home", int(rng.integers(4)))
                time.sleep(float(rng.exponential(0.02)))  # nothing is awaited: the moment of death is what is varied
                sidecar.kill()
            if (tmp_path / "home" / FILE).exists():
                counted.append(kept_rows(tmp_path / "home"))
        stop.set()
    log.close()
    told = Told.of(log.folder)
    assert counted == sorted(counted), "what was counted stays counted"
    assert len({rows for rows in counted if 0 < rows < told.rows}) > KILLS // 2, "killed in the midst of the work"

    with sidecar_process(log.folder, tmp_path, *options) as sidecar:
        sidecar.wait_until_ready()
        await_that(lambda: sidecar.rows() >= told.rows, "all rows are counted")
        assert decisions_in(sidecar.metrics()) == told.by_decision
        assert sidecar.rows() == told.rows
        assert sidecar.stop() == 0
    assert "cannot be used" not in sidecar.errors.read_text(encoding="utf-8")
    assert kept_by_minute(tmp_path / "home") == told.by_minute
    assert_same_counts_as_in_one_life(log.folder, tmp_path)


def assert_same_counts_as_in_one_life(log: Path, folder: Path) -> None:
    """Every vector of every minute, hour and total is what one life without a death counts, to the byte."""
    shutil.rmtree(folder / "once", ignore_errors=True)
    (folder / "once").mkdir()
    shutil.copytree(folder / "repository", folder / "once" / "repository")
    rows = Told.of(log).rows
    with sidecar_process(log, folder / "once", forked=True) as sidecar:
        sidecar.wait_until_ready()
        await_that(lambda: sidecar.rows() >= rows, "all rows are counted")
        assert sidecar.stop() == 0
    assert kept_in(folder / "home")["counts"] == kept_in(folder / "once" / "home")["counts"]


def test_the_comparison_sees_positions_that_are_kept_apart_from_the_counts(tmp_path: Path) -> None:
    """A control: with positions of an older checkpoint, rows are counted twice, and the comparison says so."""
    with decision_log(tmp_path / "log", seed=4) as log:
        log.clock.now_us = time.time_ns() // 1000 - 600 * 1_000_000
        for total in (300, 600):
            log.write(300, 3)
            with sidecar_process(log.folder, tmp_path, forked=True) as sidecar:
                sidecar.wait_until_ready()
                await_that(lambda rows=total: sidecar.rows() >= rows, "all rows are counted")  # type: ignore[misc]
                assert sidecar.stop() == 0
            if total == 300:
                old = kept_in(tmp_path / "home")["progress"]
        assert kept_by_minute(tmp_path / "home") == recount(log.folder)
        put_back(tmp_path / "home", old)
        with sidecar_process(log.folder, tmp_path, forked=True) as sidecar:
            sidecar.wait_until_ready()
            await_that(lambda: sidecar.rows() >= 600, "all rows are counted")
            assert sidecar.stop() == 0
        assert kept_by_minute(tmp_path / "home") != recount(log.folder)


def put_back(home: Path, progress: dict[str, bytes]) -> None:
    """Replace the positions of a checkpoint, and nothing else."""

    class Old:
        def changes(self) -> tuple[dict[str, bytes], list[str]]:
            return progress, []

        def saved(self) -> None:
            pass

    checkpoint = Checkpoint(home, pytest.fail)
    checkpoint.write({"progress": Old()})  # type: ignore[dict-item]
    checkpoint.close()


def test_new_rows_appear_while_the_front_door_writes(tmp_path: Path) -> None:
    with (
        decision_log(tmp_path / "log", seed=5) as log,
        sidecar_process(log.folder, tmp_path, "--settle", "0.05") as sidecar,
    ):
        sidecar.wait_until_ready()
        assert sidecar.rows() == 0
        for total in (40, 80, 120):
            log.clock.now_us = time.time_ns() // 1000
            log.write(40, 8, rows_per_s=10_000)
            await_that(lambda rows=total: sidecar.rows() == rows, "the new rows show")  # type: ignore[misc]
        lag = value(samples(sidecar.metrics()), "fraud_log_lag_bytes", writer="front-door-0")
        assert lag == 0
        assert fetch(f"{sidecar.url}/healthz")[0] == 200
        assert sidecar.stop() == 0
        assert sidecar.said.splitlines()[-1].endswith("stopped: 120 rows counted, and kept")


def test_a_disk_that_is_full_is_said_once_shows_in_healthz_and_costs_no_row(tmp_path: Path) -> None:
    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    options = ("--checkpoint-every", "0.05", "--settle", "0", "--most-lag", "0.5")
    with decision_log(tmp_path / "log", seed=7) as log:
        log.clock.now_us = time.time_ns() // 1000 - 7200 * 1_000_000
        log.write(30_000, 30, rows_per_s=5)
        with sidecar_process(log.folder, tmp_path, *options, before=limit_files) as sidecar:
            sidecar.wait_until_ready()
            await_that(lambda: sidecar.rows() == 30_000, "counting goes on")
            await_that(
                lambda: "the last checkpoint is" in fetch(f"{sidecar.url}/healthz")[1], "the old checkpoint shows"
            )
            assert fetch(f"{sidecar.url}/healthz")[0] == 503
            assert sidecar.said.count("the checkpoint cannot be written") == 1
            assert value(samples(sidecar.metrics()), "fraud_checkpoint_age_seconds") > 0.5
            sidecar.kill()
        with sidecar_process(log.folder, tmp_path) as sidecar:
            sidecar.wait_until_ready()
            await_that(lambda: sidecar.rows() == 30_000, "all rows are counted")
            assert decisions_in(sidecar.metrics()) == Told.of(log.folder).by_decision
            assert fetch(f"{sidecar.url}/healthz")[0] == 200


# what stops it, in one line


def refused(log: Path, folder: Path, *options: str) -> tuple[int, str]:
    """(exit code, standard error) of a sidecar that cannot start."""
    with sidecar_process(log, folder, *options) as sidecar:
        return sidecar.process.wait(60), sidecar.said


def test_a_port_that_is_taken_is_one_clear_line_and_exit_code_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = refused(tmp_path / "log", tmp_path, "--port", str(port))
    assert code == 1
    assert said.count("\n") == 1
    assert f"port {port} on 127.0.0.1 cannot be used: Address already in use; give another --port" in said


def test_a_second_sidecar_on_the_same_home_is_refused(tmp_path: Path) -> None:
    with sidecar_process(tmp_path / "log", tmp_path, forked=True) as first:
        first.wait_until_ready()
        code, said = refused(tmp_path / "log", tmp_path)
    assert code == 1
    assert said.count("\n") == 1
    assert "another sidecar uses the folder" in said


def test_a_setting_that_breaks_its_rule_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    code, said = refused(tmp_path / "log", tmp_path, "--keep-releases", "0")
    assert code == 2
    assert said.rstrip().endswith("--keep-releases is 0; write a number from 1 to 50")
    assert said.count("\n") == 1


def test_a_checkpoint_that_was_damaged_is_said_and_the_log_counted_anew(tmp_path: Path) -> None:
    with decision_log(tmp_path / "log", seed=8) as log:
        log.clock.now_us = time.time_ns() // 1000 - 600 * 1_000_000
        log.write(500, 5)
        with sidecar_process(log.folder, tmp_path, forked=True) as sidecar:
            sidecar.wait_until_ready()
            await_that(lambda: sidecar.rows() == 500, "all rows are counted")
            assert sidecar.stop() == 0
        file = tmp_path / "home" / FILE
        data = bytearray(file.read_bytes())
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
        file.write_bytes(data)
        with sidecar_process(log.folder, tmp_path, forked=True) as sidecar:
            sidecar.wait_until_ready()
            assert "the log is counted anew from its oldest segment on" in sidecar.said
            await_that(lambda: sidecar.rows() == 500, "all rows are counted")
            assert decisions_in(sidecar.metrics()) == Told.of(log.folder).by_decision


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with sidecar_process(tmp_path / "log", tmp_path) as sidecar:
        sidecar.wait_until_ready()
        assert isinstance(sidecar, SidecarProcess)
        assert sidecar.stop() == 0
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == [FILE, "sidecar.lock"]
