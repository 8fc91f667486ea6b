"""`fraudctl routes compare`: what shadows logged, told for people, for programs and on a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fraud_scoring.decision_log import Shadowed
from support.decision_logs import DecisionLog, decision_log

CHAMPION, OTHER = 3, 5


def shadow(log: DecisionLog, release: int, rows: int, *, champion: int = CHAMPION, late: int = 0) -> Shadowed:
    """A frame in which every tenth decision would be a decline."""
    made = log.traffic.decisions(rows, log.clock.now_us)
    answered = np.zeros((rows, 3), np.int32)
    answered[:, 0] = champion
    decision = np.where(np.arange(rows) % 10 == 0, 2, 0).astype(np.int32)
    score = np.where(decision == 2, 0.9, made.score).astype(np.float32)
    frame = Shadowed(release, made.transaction, answered, made.score, score, decision, np.array([0, late, 0]))
    log.writer("shadow-0").append(frame)
    return frame


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An hour each: 4 in the shadow of 3, then 6 in that of 3 and of 5; with decisions beside them."""
    with decision_log(tmp_path / "log", release=CHAMPION) as log:
        log.write(100)
        shadow(log, 4, 200, late=7)
        shadow(log, 4, 300)
        log.clock.now_us += 3_600_000_000
        shadow(log, 6, 100)
        shadow(log, 6, 30, champion=OTHER)
    return tmp_path


def test_the_newest_shadow_is_compared_with_who_answered_most(fraudctl, home: Path) -> None:
    found = fraudctl("routes", "compare", "--home", home, "--json").json
    assert (found["challenger"], found["champion"]) == ("r0006", "r0003")
    assert (found["transactions"], found["answered_by_others"]) == (100, {"r0005": 30})
    assert found["dropped"] == {"full": 0, "late": 0, "failed": 0}
    assert found["agreement"]["value"] == 0.9
    (flip,) = found["flips"]
    assert (flip["champion"], flip["challenger"], flip["transactions"]) == ("approve", "decline", 10)


def test_another_shadow_another_champion_and_another_time_can_be_named(fraudctl, home: Path) -> None:
    found = fraudctl("routes", "compare", "--home", home, "--release", "r0004", "--examples", 1, "--json").json
    assert (found["transactions"], found["dropped"]["late"], len(found["flips"][0]["examples"])) == (500, 7, 1)
    found = fraudctl("routes", "compare", "--home", home, "--champion", "r0005", "--json").json
    assert (found["transactions"], found["answered_by_others"]) == (30, {"r0003": 100})
    found = fraudctl("routes", "compare", "--home", home, "--to", "2026-03-02T00:30", "--json").json
    assert found["challenger"] == "r0004"


def test_people_get_the_same_and_a_page_with_plots(fraudctl, home: Path, tmp_path: Path) -> None:
    ran = fraudctl("routes", "compare", "--home", home, "--release", "r0004", "--html", tmp_path / "page.html")
    assert ran.code == 0
    for said in ("r0004 in the shadow of r0003", "500 of", "7 were dropped", "90.00% (", "approve → decline"):
        assert said in ran.out
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 4
    assert "http" not in page.replace("https://", "http://"), "it needs no other file"
    for said in ("r0004 in the shadow of r0003", "The shadow dropped 7 (7 late)", "approve → decline"):
        assert said in page


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--release", "r0009"), "release r0009 scored nothing in that time; there is: r0004, r0006"),
        (("--champion", "r0009"), "release r0009 answered nothing that r0006 scored; there is: r0003, r0005"),
        (("--from", "2027-01-01"), "no shadow scored anything in that time; let one: fraudctl routes shadow r0002"),
        (("--log", "/nowhere"), "no shadow scored anything in that time"),
    ],
)
def test_what_is_not_there_is_told(fraudctl, home: Path, options: tuple[str, ...], complaint: str) -> None:
    ran = fraudctl("routes", "compare", "--home", home, *options)
    assert ran.code == 2
    assert complaint in ran.complaint
