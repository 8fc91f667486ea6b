"""The status page: what it is given, and that it can neither be fed markup nor read by strangers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest

from drift_sidecar.errors import CannotFollow
from drift_sidecar.web import PageServer, as_json
from support.decision_logs import DecisionLog, decision_log, recount, write_reference
from support.sidecars import fetch, stepped

MINUTE_US = 60_000_000
FILES = ("index.html", "page.css", "figures.js", "page.js")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DecisionLog]:
    with decision_log(tmp_path / "log", seed=31) as made:
        write_reference(tmp_path / "repository", made.traffic)
        yield made


def page_file(name: str) -> str:
    return resources.files("drift_sidecar").joinpath("page").joinpath(name).read_text(encoding="utf-8")


# /api/status


def test_the_last_hour_is_told_minute_by_minute(log: DecisionLog, tmp_path: Path) -> None:
    for _ in range(5):
        log.write(60, 6, rows_per_s=1)
    with stepped(log, tmp_path) as sidecar:
        sidecar.step()
        hour = sidecar.status()["hour"]
    by_minute: dict[int, int] = {}
    for (_, minute, _, _), count in recount(log.folder).items():
        by_minute[minute] = by_minute.get(minute, 0) + count
    start = hour["start_s"] // 60
    told = {start + at: count for at, count in enumerate(hour["transactions"]) if count}
    assert told == by_minute
    assert len(hour["transactions"]) == len(hour["p99_ms"]) == len(hour["decisions"]["review"]) == 60
    assert [sum(parts) for parts in zip(*hour["decisions"].values(), strict=True)] == hour["transactions"]
    assert all((p50 is None) == (count == 0) for p50, count in zip(hour["p50_ms"], hour["transactions"], strict=True))


def test_a_day_is_told_in_quarters_of_an_hour_that_add_up(log: DecisionLog, tmp_path: Path) -> None:
    for _ in range(10):
        log.write(100, 10)
        log.clock.now_us += 2 * 60 * MINUTE_US
    with stepped(log, tmp_path) as sidecar:
        sidecar.step()
        day = sidecar.status()["day"]
    assert day["step_s"] == 900
    assert sum(day["transactions"]) == 1_000
    assert sum(count > 0 for count in day["transactions"]) == 10


def test_the_summary_holds_rates_and_quantiles(log: DecisionLog, tmp_path: Path) -> None:
    log.write(3_000, 10, rows_per_s=10)
    log.label(np.array([7919, 2 * 7919]), np.array([True, False]))
    with stepped(log, tmp_path) as sidecar:
        sidecar.step()
        summary = sidecar.status()["summary"]
    assert summary["per_second"] == pytest.approx(10, rel=0.2)
    assert 0 < summary["p50_ms"] < summary["p99_ms"] < 100
    assert sum(summary["decisions"].values()) == pytest.approx(1)
    assert summary["hour"]["transactions"] == 3_000
    assert (summary["hour"]["labels_fraud"], summary["hour"]["labels_legitimate"]) == (1, 1)


def test_the_drift_table_has_every_series_with_effects_evidence_and_trend(log: DecisionLog, tmp_path: Path) -> None:
    log.write(33_000, 50)
    with stepped(log, tmp_path) as sidecar:
        sidecar.step()
        (release,) = sidecar.status()["releases"]
    assert [series["series"] for series in release["series"]] == [
        *log.traffic.schema.feature_names,
        "score",
        "decision",
    ]
    amount = release["series"][0]
    assert set(amount["effects"]) == {"5m", "1h", "1d"}
    assert amount["effects"]["1h"]["rows"] == 33_000
    assert amount["state"] == "ok"
    assert len(amount["trend"]) == 24
    assert release["trend_minutes"] == 5
    assert [point is not None for point in amount["trend"][-2:]] == [True, True]
    assert 0 < release["performance"]["estimated_precision"] <= 1


def test_without_any_log_everything_is_empty_and_well(tmp_path: Path) -> None:
    with decision_log(tmp_path / "log") as log, stepped(log, tmp_path) as sidecar:
        sidecar.step()
        status = sidecar.status()
    assert status["healthy"]
    assert (status["releases"], status["writers"], status["alerts"]) == ([], [], [])
    assert status["summary"]["p99_ms"] is None


# HTTP


def test_only_requests_that_name_this_machine_are_answered() -> None:
    server = PageServer("127.0.0.1", 0, {"/api/status": lambda: as_json({"secret": 1})})
    try:
        url = f"http://127.0.0.1:{server.port}/api/status"
        for host in ("127.0.0.1", f"localhost:{server.port}", "[::1]:80"):
            assert fetch(url, Host=host)[0] == 200
        for host in ("rebound.example", "127.0.0.1.example:8003", "[", ""):
            assert fetch(url, Host=host) == (421, "ask for 127.0.0.1 or localhost\n")
    finally:
        server.close()


def test_the_page_may_load_nothing_from_elsewhere() -> None:
    server = PageServer("127.0.0.1", 0, {})
    try:
        with urlopen(Request(f"http://127.0.0.1:{server.port}/")) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    finally:
        server.close()
    assert "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'" in policy
    for name in FILES:
        text = page_file(name).replace("http://www.w3.org/2000/svg", "")  # a name, not an address
        assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", text), name


def test_the_page_sets_text_and_never_markup() -> None:
    for script in map(page_file, ("figures.js", "page.js")):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script)
    assert not re.search(r"\son[a-z]+=|style=|<script>", page_file("index.html")), (
        "nothing that the policy would refuse"
    )


def test_head_has_no_body_and_other_methods_are_refused() -> None:
    server = PageServer("127.0.0.1", 0, {})
    try:
        with urlopen(Request(f"http://127.0.0.1:{server.port}/", method="HEAD")) as answer:
            assert answer.read() == b""
            assert int(answer.headers["Content-Length"]) > 1_000
        assert fetch(f"http://127.0.0.1:{server.port}/%2e%2e/%2e%2e/etc/passwd")[0] == 404
    finally:
        server.close()


def test_an_address_that_cannot_be_had_is_said() -> None:
    with pytest.raises(CannotFollow, match=r"port 80 on 203\.0\.113\.1 cannot be used: .*; give another --port"):
        PageServer("203.0.113.1", 80, {})
