"""The status page in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.decision_logs import DecisionLog, decision_log, write_reference
from support.sidecars import await_that, sidecar_process

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no browser to look at the page with; get one with: apt-get install chromium"
)


def page_in_browser(url: str, folder: Path) -> str:
    """The page's text and marks after its script has drawn the figures."""
    assert BROWSER is not None
    shown = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
            *("--disable-background-networking", f"--user-data-dir={folder / 'browser'}"),
            *("--virtual-time-budget=4000", "--dump-dom", url),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=120,
        check=True,
        text=True,
    )
    return shown.stdout


def words(page: str) -> str:
    """The page's text alone."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DecisionLog]:
    with decision_log(tmp_path / "log", seed=41) as made:
        made.clock.now_us = time.time_ns() // 1000 - 10 * 60_000_000
        yield made


def shown(log: DecisionLog, folder: Path) -> str:
    """The page over a log, once all of it is counted."""
    rows = log.traffic.next_id - 1
    with sidecar_process(log.folder, folder, forked=True) as sidecar:
        sidecar.wait_until_ready()
        await_that(lambda: sidecar.rows() == rows, "all rows are counted")
        return page_in_browser(sidecar.url, folder)


def test_the_figures_of_the_log_are_on_the_page(log: DecisionLog, tmp_path: Path) -> None:
    write_reference(tmp_path / "repository", log.traffic)
    log.write(4_321, 9, rows_per_s=10)
    page = shown(log, tmp_path)
    text = words(page)
    assert 'data-ready="yes"' in page
    assert "4,321 in the last hour" in text
    assert "r0007" in text
    assert "19 series of r0007 are watched; at most 1 false alert a month is accepted" in text
    for name in log.traffic.schema.feature_names:
        assert name in text
    assert page.count('class="spark') == 19
    assert len(re.findall(r'<rect class="fill c-approve"', page)) >= 7, "a bar for each minute"
    assert len(re.findall(r'<path class="line stroke c-', page)) == 4, "p50, p99, reviews, declines"
    assert "front-door-0" in text
    assert re.search(r"rows counted\s+4,321", text)


def test_an_alert_stands_at_the_top_with_its_reason(log: DecisionLog, tmp_path: Path) -> None:
    write_reference(tmp_path / "repository", log.traffic)
    log.traffic.shift = {"customer_mean_amount_7d": 1.5}
    log.write(12_000, 30, rows_per_s=100)
    page = shown(log, tmp_path)
    alert = re.search(r'<div class="alert">(.*?)</div>', page)
    assert alert is not None
    assert "customer_mean_amount_7d" in words(alert[1])
    assert "PSI" in words(alert[1])
    assert page.count('class="alerting"') == 1


def test_before_anything_was_logged_the_page_says_so(log: DecisionLog, tmp_path: Path) -> None:
    text = words(shown(log, tmp_path))
    assert "None: there is nothing to compare yet." in text
    assert "No writer has written into the log yet." in text
    assert "Nothing in this time." in text


def test_a_release_without_a_reference_says_why_there_is_no_drift(log: DecisionLog, tmp_path: Path) -> None:
    log.write(500, 10)
    text = words(shown(log, tmp_path))
    assert "Drift is not told: release r0007 carries no reference.json" in text


def test_names_from_the_log_are_text_and_never_markup(log: DecisionLog, tmp_path: Path) -> None:
    log.write(50, 10, writer=HOSTILE.replace("/", ""))
    page = shown(log, tmp_path)
    assert "<img" not in page
    assert "&lt;img src=x onerror" in page
    assert "<title>fraudserve: traffic and drift</title>" in page
