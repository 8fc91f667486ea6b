"""The drift report: what a log says of a release, and a page that needs nothing else."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from drift_sidecar import charts, findings
from drift_sidecar.history import History, read_history, releases_in
from drift_sidecar.monitor import DriftMonitor
from drift_sidecar.quality import FRAUD, UNLABELLED
from drift_sidecar.report import render, summary
from fraud_scoring import wire
from fraud_scoring.binning import ValidationPart, make_reference
from fraud_scoring.decision_log import Context, Decisions, Labels, LogWriter, Signer
from fraud_scoring.errors import InvalidInput
from fraud_scoring.reference import REFERENCE_FILE, Reference
from fraud_scoring.releases import ensemble_name
from support.rows import DEFAULT_SCHEMA

DAY_US = 86_400_000_000
MONDAY = 20_003  # days since 1970
FEATURES = len(DEFAULT_SCHEMA.features)
AMOUNT, COUNT = 0, 3
RELEASE = 7
ALL_TIME = (0, 2**62)


def draw(rows: int, first_day: float, days: float, seed: int, drift_from: float = np.inf) -> ValidationPart:
    """Rows of some days; from `drift_from` on amounts are larger, and 5% of a count is missing."""
    rng = np.random.default_rng(seed)
    time_us = np.sort(((first_day + days * rng.random(rows)) * DAY_US).astype(np.int64))
    features = rng.gamma(2.0, 30.0, (rows, FEATURES)).astype(np.float32)
    late = time_us >= drift_from * DAY_US
    features[late, AMOUNT] *= 1.3
    features[late & (rng.random(rows) < 0.05), COUNT] = np.nan
    score = rng.beta(0.2, 8.0, rows).astype(np.float32)
    return ValidationPart(
        features=features,
        score=score,
        decision=np.digitize(score, [0.2, 0.5]).astype(np.int32),
        amount_minor=rng.integers(100, 10_000, rows),
        time_us=time_us,
        is_fraud=(rng.random(rows) < score).astype(np.int8),
    )


REFERENCE = make_reference(RELEASE, DEFAULT_SCHEMA, draw(60_000, MONDAY - 14, 14.0, 1), {})
DRIFTS_AT = MONDAY + 2.5


def write_log(folder: Path, part: ValidationPart, *, repeats: int = 0) -> Path:
    """A front door's and a feedback's log of `part`: frauds that were not declined are labelled."""
    rows = len(part.score)
    transaction = np.zeros((rows, 5), np.int64)
    transaction[:, 0], transaction[:, 1], transaction[:, 4] = np.arange(rows), part.time_us, part.amount_minor
    verdict = np.zeros((rows, wire.VERDICT_WIDTH), np.int32)
    verdict[:, 0], verdict[:, 4] = part.decision, RELEASE
    repeat = np.zeros(rows, bool)
    repeat[:repeats] = True
    signer = Signer.open(folder / "key")
    context = Context(RELEASE, DEFAULT_SCHEMA.document)
    log = folder / "log"
    door = LogWriter(log / "front-door-0", context, signer, durable=False)
    for at in range(0, rows, 500):
        now = slice(at, at + 500)
        columns = (transaction[now], part.features[now], part.score[now], verdict[now], repeat[now])
        door.append(Decisions(*columns, np.zeros(len(columns[0]), np.int64), np.zeros(4, np.int64)))
    door.close()
    known = np.flatnonzero((part.is_fraud == 1) & (part.decision < 2))
    labels = np.stack([known, np.ones(len(known), np.int64), part.time_us[known] + DAY_US], axis=1)
    feedback = LogWriter(log / "feedback-0", context, signer, durable=False)
    feedback.append(Labels(labels))
    feedback.close()
    return log


def history_of(log: Path, label_days: float = 1.0, span_us: tuple[int, int] = ALL_TIME) -> History:
    return read_history(log, REFERENCE, DriftMonitor(REFERENCE), span_us, label_days, lambda done, text: None)


@pytest.fixture(scope="module")
def drifted_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("drifted"), draw(40_000, MONDAY, 5.0, 2, DRIFTS_AT), repeats=100)


@pytest.fixture(scope="module")
def drifted(drifted_log: Path) -> History:
    return history_of(drifted_log)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> History:
    return history_of(write_log(tmp_path_factory.mktemp("calm"), draw(20_000, MONDAY, 3.0, 3)))


class _Page(HTMLParser):
    """What a page asks for, and whether its tags close."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.asks: list[tuple[str, str, str | None]] = []
        self.open: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.asks += [(tag, name, value) for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.asks += [(tag, name, value) for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_all_rows_are_counted_but_repeats(drifted: History) -> None:
    decisions = drifted.counts[:, REFERENCE.layout.of("decision")]
    assert decisions.sum() == 40_000 - 100
    assert drifted.skipped == 100
    assert (np.diff(drifted.minutes) > 0).all()


def test_what_moved_is_found_with_its_time_and_size(drifted: History) -> None:
    moved = {one.name: one for one in findings.moved(drifted)}
    names = REFERENCE.layout.names
    assert set(moved) == {names[AMOUNT], names[COUNT]}
    for one in moved.values():
        assert one.since_us / DAY_US == pytest.approx(DRIFTS_AT, abs=0.05)
        assert one.since_us < one.paged_us < (DRIFTS_AT + 0.25) * DAY_US
        assert one.until_us is None
    amount = moved[names[AMOUNT]]
    assert amount.mean_before is not None
    assert amount.mean_after is not None
    assert amount.mean_after > 1.15 * amount.mean_before
    assert moved[names[COUNT]].seen[-1] == pytest.approx(0.05, abs=0.01)


def test_a_calm_log_moved_nothing(calm: History) -> None:
    assert findings.moved(calm) == ()
    assert calm.events == ()
    assert summary(calm)["moved"] == []
    assert "moved by enough to matter" in render(calm)


def test_a_drift_that_ended_is_told_with_its_end(tmp_path: Path) -> None:
    part = draw(40_000, MONDAY, 5.0, 4)
    features = part.features.copy()
    middle = (part.time_us >= (MONDAY + 1) * DAY_US) & (part.time_us < (MONDAY + 3) * DAY_US)
    features[middle, AMOUNT] *= 1.5
    history = history_of(write_log(tmp_path, replace(part, features=features)))
    (one,) = findings.moved(history)
    assert one.until_us is not None
    assert one.until_us / DAY_US == pytest.approx(MONDAY + 3, abs=0.4)
    assert "Nothing is off now" in render(history)


def test_a_span_of_time_is_all_that_is_looked_at(drifted_log: Path) -> None:
    before = history_of(drifted_log, span_us=(0, round(DRIFTS_AT * DAY_US)))
    assert findings.moved(before) == ()
    assert before.minutes[-1] * 60_000_000 < DRIFTS_AT * DAY_US


def test_a_span_without_rows_is_refused(drifted_log: Path) -> None:
    with pytest.raises(InvalidInput, match="no decision of release r0007 in that time"):
        history_of(drifted_log, span_us=(0, 1))


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no decision log in that folder"):
        releases_in(tmp_path)


def test_the_releases_of_a_log_are_counted(drifted_log: Path) -> None:
    assert releases_in(drifted_log) == {RELEASE: 39_900}


def test_labels_are_joined_to_decisions_that_are_old_enough(drifted: History) -> None:
    part = draw(40_000, MONDAY, 5.0, 2, DRIFTS_AT)
    # the last label is known a day after the last fraud: by then all decisions before that fraud are old enough
    labelled = (part.is_fraud == 1) & (part.decision < 2)
    last = int(part.time_us[labelled].max())
    old = (part.time_us <= max(last, int(part.time_us.max()) - DAY_US)) & (np.arange(40_000) >= 100)
    assert drifted.outcomes.sum() == old.sum()
    assert drifted.outcomes[:, :2, FRAUD].sum() == (labelled & old).sum()
    assert drifted.outcomes[:, 2, UNLABELLED].sum() == ((part.decision == 2) & old).sum()


def test_decisions_that_are_too_young_for_labels_are_not_judged(drifted_log: Path) -> None:
    found = history_of(drifted_log, label_days=30.0)
    assert found.outcomes.sum() == 0
    assert "No decision is old enough" in render(found)


def test_the_page_asks_nothing_of_the_network_and_runs_no_script(drifted: History) -> None:
    page = _Page(render(drifted))
    assert page.asks == []
    assert "script" not in page.tags
    assert page.open == []
    assert not re.search(r"https?://|@import|url\(", render(drifted))


def test_the_page_has_its_figures_and_names_what_moved(drifted: History) -> None:
    text = render(drifted)
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings == [
        "What moved, and when",
        "Where and when",
        "The series that moved",
        "Evidence over time",
        "How much it matters",
        "Scores and labels",
        "Data quality",
        "All series, over the whole time",
        "How to read this",
    ]
    assert text.count("<svg") == 2 + 1 + 1 + 1 + 2  # two histograms, shades, evidence, decisions, scores, calibration
    assert "nan" not in text
    assert "2 of 19 series differ from the reference" in text


def test_names_are_written_as_text(drifted: History) -> None:
    feature = replace(REFERENCE.features[AMOUNT], name="<b>&amount</b>")
    named = replace(drifted, reference=replace(REFERENCE, features=(feature, *REFERENCE.features[1:])))
    text = render(replace(named, events=()))
    assert "<b>&amount" not in text
    assert "&lt;b&gt;&amp;amount&lt;/b&gt;" in text


def test_the_summary_is_data(drifted: History) -> None:
    found = summary(drifted)
    json.dumps(found, allow_nan=False)
    assert found["release"] == "r0007"
    assert found["transactions"] == 39_900
    assert [period["name"] for period in found["periods"]] == ["before the first change", "since the first change"]
    assert sum(period["transactions"] for period in found["periods"]) == 39_900
    assert found["moved"][0]["psi"] > 10 * found["moved"][0]["psi_expected_by_chance"]


def repository(folder: Path) -> Path:
    (folder / ensemble_name(RELEASE)).mkdir(parents=True)
    (folder / ensemble_name(RELEASE) / REFERENCE_FILE).write_text(REFERENCE.to_json(), encoding="utf-8")
    return folder


def test_the_command_writes_the_page(drifted_log: Path, tmp_path: Path) -> None:
    from fraudctl.drift import drift

    out = tmp_path / "drift.html"
    arguments = ["report", "--log", str(drifted_log), "--repository", str(repository(tmp_path / "models"))]
    found = CliRunner().invoke(drift, [*arguments, "--out", str(out), "--json"])
    assert found.exit_code == 0, found.output
    assert {one["series"] for one in json.loads(found.stdout)["moved"]} == {
        REFERENCE.layout.names[AMOUNT],
        REFERENCE.layout.names[COUNT],
    }
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    until = CliRunner().invoke(drift, [*arguments, "--out", str(out), "--to", "2024-10-09", "--release", "r0007"])
    assert "nothing by enough to matter" in until.stdout


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: [*a, "--release", "r0009"], "release r0009 carries no reference.json"),
        (lambda a: [*a, "--from", "2031-01-01"], "no decision of release r0007 in that time"),
        (lambda a: [*a[:-1], "/nowhere/at/all.html"], "there is no folder"),
    ],
)
def test_the_command_says_what_is_wrong(
    change: Callable[[list[str]], list[str]], says: str, drifted_log: Path, tmp_path: Path
) -> None:
    from fraudctl.drift import drift

    models = repository(tmp_path / "models")
    arguments = ["report", "--log", str(drifted_log), "--repository", str(models), "--out", str(tmp_path / "x.html")]
    found = CliRunner().invoke(drift, change(arguments))
    assert says in str(found.exception)
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize(
    ("hours", "first"),
    [(1, "00:10"), (12, "02:00"), (24 * 3, "08 Oct 12:00"), (24 * 60, "13 Oct")],
)
def test_moments_on_an_axis_are_round(hours: int, first: str) -> None:
    start = MONDAY * DAY_US + 60_000_000
    ticks = charts.time_ticks(start, start + hours * 3_600_000_000)
    assert 2 <= len(ticks) <= 9
    assert all(start <= at <= start + hours * 3_600_000_000 for at, _ in ticks)
    steps = {b - a for (a, _), (b, _) in itertools.pairwise(ticks)}
    assert len(steps) == 1


def test_a_gap_in_the_data_is_a_gap_in_the_line() -> None:
    values = np.array([1.0, np.nan, 2.0, 3.0])
    drawn = charts.lines([0, DAY_US, 2 * DAY_US, 3 * DAY_US], [charts.Line("x", values, "now")])
    path = re.search(r'class="line now" d="([^"]*)"', drawn)
    assert path is not None
    assert path.group(1).count("M") == 2
    assert path.group(1).count("L") == 1


def test_bars_name_their_shares() -> None:
    drawn = charts.bars(["a", "b<"], np.array([0.5, 0.5]), np.array([0.25, 0.75]))
    assert "a: 25.00%, reference 50.00%" in drawn
    assert "b&lt;" in drawn


def test_the_reference_travels_with_the_release(tmp_path: Path) -> None:
    found: Any = Reference.load(repository(tmp_path / "models"), RELEASE)
    assert found.to_json() == REFERENCE.to_json()
