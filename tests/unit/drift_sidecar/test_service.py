"""The sidecar as a whole, stepped by hand: what it serves, how well it says it is, what a restart finds."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drift_sidecar import service
from drift_sidecar.checkpoint import Checkpoint
from drift_sidecar.errors import CannotFollow
from drift_sidecar.judging import PageRecord
from drift_sidecar.settings import SidecarSettings
from fraud_scoring.decision_log.segments import segment_path
from support.decision_logs import FEEDBACK, FRONT_DOOR, DecisionLog, decision_log, write_reference
from support.sidecars import SteppedSidecar, fetch, stepped

MINUTE_US = 60_000_000


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DecisionLog]:
    with decision_log(tmp_path / "log", seed=11, repeats=0.02) as made:
        yield made


def counts(sidecar: SteppedSidecar) -> dict[str, bytes]:
    """Everything that is counted, to the byte."""
    counters = sidecar.sidecar.books.counters
    return {
        f"{series} {minute}": vector.tobytes()
        for series in counters.series
        for minute in counters.minutes(series)
        if (vector := counters.minute(series, minute)) is not None
    }


def test_all_four_addresses_answer(log: DecisionLog, tmp_path: Path) -> None:
    log.write(20)
    with stepped(log, tmp_path) as sidecar:
        sidecar.step()
        assert fetch(f"{sidecar.url}/healthz") == (200, '{"healthy": true, "troubles": []}')
        assert "fraud_sidecar_rows_total 20.0" in fetch(f"{sidecar.url}/metrics")[1]
        assert json.loads(fetch(f"{sidecar.url}/api/status")[1])["healthy"] is True
        assert "<title>fraudserve" in fetch(f"{sidecar.url}/")[1]
        assert fetch(f"{sidecar.url}/passwd") == (
            404,
            "nothing is here; there is: /, /api/status, /figures.js, /healthz, /metrics, /page.css, /page.js\n",
        )


def test_a_restart_goes_on_where_the_checkpoint_was_and_ends_with_the_same_counts(
    log: DecisionLog, tmp_path: Path
) -> None:
    write_reference(tmp_path / "repository", log.traffic, rows=3000)
    with stepped(log, tmp_path, checkpoint_every_s=8) as sidecar:
        log.write(500, 3, rows_per_s=5)
        sidecar.step()  # a checkpoint was due
        log.write(100, 3, rows_per_s=5)
        while sidecar.sidecar.step():  # none was due: these are counted twice unless the positions go back, too
            pass
        assert sidecar.sidecar.books.rows == 600
    with stepped(log, tmp_path) as again:
        assert again.sidecar.books.rows == 500
        log.write(200, 3, rows_per_s=5)
        again.step()
        restarted = counts(again)
    with stepped(log, tmp_path, home=tmp_path / "fresh") as fresh:
        fresh.step()
        assert restarted == counts(fresh)
        assert fresh.sidecar.books.rows == 800


def test_stopping_keeps_what_was_counted_last(log: DecisionLog, tmp_path: Path) -> None:
    log.write(50)
    stop = threading.Event()
    made = SteppedSidecar(log, tmp_path)
    while made.sidecar.step():
        pass
    stop.set()
    made.sidecar.run(stop)
    with stepped(log, tmp_path) as again:
        assert again.sidecar.books.rows == 50


class StopAtFirstWait(threading.Event):
    """Set as soon as somebody waits for it; `waits` counts them."""

    waits = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.waits += 1
        self.set()
        return super().wait(timeout)


def test_it_waits_between_looks_once_it_has_all_there_was_and_not_before(
    log: DecisionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LOOK_ROWS", 20)
    log.write(50, 5)
    made, stop = SteppedSidecar(log, tmp_path), StopAtFirstWait()
    made.sidecar.run(stop)
    assert (made.sidecar.books.rows, stop.waits) == (50, 1)


def test_a_checkpoint_of_other_code_is_put_aside_and_the_log_counted_anew(log: DecisionLog, tmp_path: Path) -> None:
    log.write(50)
    with stepped(log, tmp_path) as sidecar:
        sidecar.step()
    checkpoint = Checkpoint(tmp_path / "home", print)
    kept = checkpoint.load()["progress"]
    changed = {**json.loads(kept["whole"]), "meaning": 1}

    class Other:
        def changes(self) -> tuple[dict[str, bytes], list[str]]:
            return {"whole": json.dumps(changed).encode()}, []

        def saved(self) -> None:
            pass

    checkpoint.write({"progress": Other()})  # type: ignore[dict-item]
    checkpoint.close()
    with stepped(log, tmp_path) as again:
        assert again.said[0].startswith("the checkpoint cannot be used (its counts are those of another version)")
        assert again.sidecar.books.rows == 0
        again.step()
        assert again.sidecar.books.rows == 50


def test_a_port_that_is_taken_is_said_in_one_line_and_leaves_the_home_free(log: DecisionLog, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotFollow, match=f"port {port} on 127.0.0.1 cannot be used: .*; give another --port"):
            SteppedSidecar(log, tmp_path, port=port)
    with stepped(log, tmp_path):
        pass


# /healthz


def health(sidecar: SteppedSidecar) -> tuple[int, list[str]]:
    status, body = fetch(f"{sidecar.url}/healthz")
    return status, json.loads(body)["troubles"]


def test_it_is_not_well_while_the_count_is_far_behind(log: DecisionLog, tmp_path: Path) -> None:
    log.write(40_000, 500, rows_per_s=100)
    with stepped(log, tmp_path) as sidecar:
        sidecar.seconds += 100
        sidecar.sidecar.step()
        status, troubles = health(sidecar)
        assert status == 503
        assert troubles[0].startswith(f"writer {FRONT_DOOR}: the count is 2")
        sidecar.step()
        assert health(sidecar) == (200, [])


def test_it_is_not_well_when_nothing_has_been_looked_at_for_long(log: DecisionLog, tmp_path: Path) -> None:
    with stepped(log, tmp_path) as sidecar:
        sidecar.step()
        sidecar.seconds += 61
        assert health(sidecar) == (
            503,
            ["nothing has been looked at for 61 s", "the last checkpoint is 66 s old"],
        )
        sidecar.step()
        assert health(sidecar) == (200, [])


def test_it_is_not_well_while_a_log_is_damaged_and_the_others_are_counted(log: DecisionLog, tmp_path: Path) -> None:
    log.write(30, 1)
    log.write(30, 1, writer="front-door-1")
    path = segment_path(log.folder / FRONT_DOOR, 1)
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    with stepped(log, tmp_path) as sidecar:
        sidecar.step()
        status, troubles = health(sidecar)
        assert (status, len(troubles)) == (503, 1)
        assert troubles[0] == f"writer {FRONT_DOOR}: frame 30 does not match its checksum"
        assert sidecar.sidecar.books.rows == 59
        damaged = {writer["writer"]: bool(writer["damage"]) for writer in sidecar.status()["writers"]}
        assert damaged == {FRONT_DOOR: True, "front-door-1": False}


def test_a_writer_that_died_within_a_frame_is_no_trouble(log: DecisionLog, tmp_path: Path) -> None:
    log.write(30, 1)
    path = segment_path(log.folder / FRONT_DOOR, 1)
    path.write_bytes(path.read_bytes()[:-10])
    with stepped(log, tmp_path) as sidecar:
        sidecar.step()
        assert health(sidecar) == (200, [])
        assert sidecar.sidecar.books.rows == 29


# what follows from the counts


def test_a_shifted_feature_raises_an_alert_once_and_a_restart_remembers_it(log: DecisionLog, tmp_path: Path) -> None:
    write_reference(tmp_path / "repository", log.traffic)
    log.write(3_000, 30, rows_per_s=100)
    with stepped(log, tmp_path) as sidecar:
        sidecar.step()
        assert not sidecar.status()["alerts"]
        log.traffic.shift = {"customer_mean_amount_7d": 1.0}
        changed_at = log.clock.now_us // MINUTE_US
        log.write(30_000, 30, rows_per_s=100)
        sidecar.step()
        (alert,) = sidecar.status()["alerts"]
        assert (alert["series"], alert["release"]) == ("customer_mean_amount_7d", "r0007")
        (page,) = sidecar.sidecar.books.judge.pages
        assert 0 <= page.minute - changed_at < 10
        assert abs(page.since_minute - changed_at) <= 2
        assert sum(line.startswith("ALERT release r0007: customer_mean_amount_7d moved") for line in sidecar.said) == 1
        sidecar.step(20)
    with stepped(log, tmp_path) as again:
        log.write(12_000, 30, rows_per_s=100)
        again.step()
        assert [alert["series"] for alert in again.status()["alerts"]] == ["customer_mean_amount_7d"]
        assert list(again.sidecar.books.judge.pages) == [
            PageRecord(7, "customer_mean_amount_7d", page.minute, page.since_minute, page.reason)
        ]
        assert not [line for line in again.said if "ALERT" in line]


def test_an_alert_does_not_wait_for_the_minute_to_end(log: DecisionLog, tmp_path: Path) -> None:
    write_reference(tmp_path / "repository", log.traffic)
    log.write(2_000, 30, rows_per_s=100)
    log.traffic.shift = {"customer_mean_amount_7d": 1.0}
    log.write(2_500, 30, rows_per_s=100)
    with stepped(log, tmp_path) as sidecar:
        sidecar.step(5)
        (page,) = sidecar.sidecar.books.judge.pages
        assert page.minute == log.clock.now_us // MINUTE_US


def evidence(sidecar: SteppedSidecar) -> dict[str, float]:
    """log10 of the evidence of each series of the one release."""
    (release,) = sidecar.status()["releases"]
    return {series["series"]: series["log10_evidence"] for series in release["series"]}


def test_evidence_is_the_same_however_often_the_sidecar_was_restarted(log: DecisionLog, tmp_path: Path) -> None:
    write_reference(tmp_path / "repository", log.traffic)
    for _ in range(4):
        log.write(1_000, 30, rows_per_s=20)
        with stepped(log, tmp_path) as sidecar:
            sidecar.step()
            sidecar.step(20)
            found = evidence(sidecar)
    with stepped(log, tmp_path, home=tmp_path / "once") as once:
        once.step()
        assert found == pytest.approx(evidence(once))
    assert len(found) == 19


def test_labels_that_had_their_time_give_outcomes(log: DecisionLog, tmp_path: Path) -> None:
    log.write(100, 10)
    log.label(np.arange(1, 101, dtype=np.int64) * 7919, np.arange(100) < 5)
    with stepped(log, tmp_path, label_delay_days=1 / 24) as sidecar:
        sidecar.step()
        assert "outcome/7" not in sidecar.sidecar.books.counters.series
        log.clock.now_us += 90 * MINUTE_US
        log.write(10, 10)
        log.label(np.array([1]), np.array([False]))
        sidecar.step()
        outcome = sidecar.sidecar.books.counters.total("outcome/7")
        assert outcome is not None
        labelled = outcome.reshape(-1, 3).sum(axis=0)
        assert labelled[1] == 5
        assert labelled[2] == 0
        assert {lag["writer"] for lag in sidecar.status()["writers"]} == {FRONT_DOOR, FEEDBACK}


# settings


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("port", 70_000, "--port is 70000; write a port from 1 to 65535, or 0 for any free one"),
        ("label_delay_days", 0.0, "--label-delay-days is 0; write a number of days from a minute's to 365"),
        ("keep_releases", 0, "--keep-releases is 0; write a number from 1 to 50"),
        ("checkpoint_every_s", 0.0, "--checkpoint-every is 0; write seconds from 0.05 to 60"),
        ("most_lag_s", 1.5, "--most-lag is 1.5; write more seconds than --settle and --checkpoint-every together"),
        ("outcome_rows", 3, "--outcome-rows is 3; write a number from 1000 to 100000000"),
        ("false_pages_per_month", 0.0, "--false-pages-per-month is 0; write a number above 0, to 1000"),
        ("look_every_s", 0.0, "--look-every is 0; write seconds from 0.05 to 60"),
    ],
)
def test_a_setting_that_breaks_its_rule_is_named(tmp_path: Path, option: str, value: float, message: str) -> None:
    settings = {"log": tmp_path / "log", "repository": tmp_path, "home": tmp_path, option: value}
    with pytest.raises(CannotFollow) as refusal:
        SidecarSettings(**settings).check()  # type: ignore[arg-type]
    assert str(refusal.value) == message


def test_a_repository_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotFollow, match=r"--repository .* is no folder; name the model repository"):
        SidecarSettings(tmp_path / "log", tmp_path / "none", tmp_path).check()


def test_the_command_line_gives_the_settings(tmp_path: Path) -> None:
    line = ["--log", str(tmp_path), "--repository", str(tmp_path), "--home", str(tmp_path / "home")]
    assert SidecarSettings.read(line) == SidecarSettings(tmp_path, tmp_path, tmp_path / "home")
    settings = SidecarSettings.read([*line, "--port", "0", "--settle", "0", "--skip-damaged"])
    assert (settings.port, settings.settle_s, settings.skip_damaged) == (0, 0.0, True)
