"""The report of a run: its figures against a computation of their own, its pages against what a browser needs."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fraud_load.report import document, figures, markdown, page, write
from fraud_load.report.charts import linear, logarithmic
from fraud_load.report.figures import OUTCOMES
from fraud_load.report.markdown import sparkline, table
from fraud_load.report.page import sentence
from fraud_load.result import GeneratorFacts, Kind, Outcome, Requests, Result, ServerSeries, Status, plain
from support.load_results import synthetic_result

PLOTS = [
    "latency-over-time",
    "latency-histogram",
    "latency-tail",
    "rates",
    "outcomes",
    "generator-lag",
    "generator-cpu",
    "server-queue",
    "server-compute",
    "server-batch",
    "server-cpu",
    "server-memory",
]
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """What a page is made of; raises where an element is not closed by its own end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.figures: dict[str, int] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset", "data")]
        if tag == "figure":
            self.figures[named["id"] or ""] = 0
        if tag == "svg" and "figure" in self.open:
            self.figures[list(self.figures)[-1]] += 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def result() -> Result:
    return synthetic_result(bad_share=0.05, error_share=0.01, degraded_share=0.02, stall=(8.0, 9.5))


@pytest.fixture(scope="module")
def html(result: Result) -> str:
    return page.render(result, figures(result))


def test_percentiles_by_second_are_those_of_the_arrivals_meant_in_it(result: Result) -> None:
    found = document(result, figures(result))["over_time"]
    requests = result.requests
    assert found["edges_s"][:3] == [0, 1, 2]
    for second in (0, 4, 8, 19):
        latency = [
            1e3 * (requests.done_s[i] - requests.intended_s[i])
            for i in range(len(requests))
            if second <= requests.intended_s[i] < second + 1 and requests.kind[i] != Kind.BAD
        ]
        assert len(latency) > 200
        assert found["latency_ms"]["p50"][second] == pytest.approx(np.quantile(latency, 0.5))
        assert found["latency_ms"]["p99"][second] == pytest.approx(np.quantile(latency, 0.99))
        assert found["latency_ms"]["p99.9"][second] == pytest.approx(np.quantile(latency, 0.999))
        assert found["latency_ms"]["max"][second] == max(latency)
    assert found["latency_ms"]["p99"][8] > 1_000  # the stall


def test_rates_count_transactions_and_lose_none(result: Result) -> None:
    rows = np.random.default_rng(1).integers(1, 9, len(result.requests)).astype(np.int16)
    requests = replace(result.requests, rows=rows)
    time = figures(replace(result, requests=requests)).over_time
    widths = np.diff(time.edges_s)
    widths[-1] = result.run.seconds - time.edges_s[-2]
    assert (time.intended_per_s * widths).sum() == pytest.approx(rows.sum())
    assert (time.sent_per_s * widths).sum() == pytest.approx(rows.sum())
    due = (requests.status == Status.OK) | ((requests.kind == Kind.BAD) & (requests.status == Status.REFUSED))
    assert (time.answered_per_s * widths).sum() == pytest.approx(rows[due].sum())
    in_third = (requests.done_s >= 2) & (requests.done_s < 3) & due
    assert time.answered_per_s[2] == rows[in_third].sum()


def test_every_arrival_that_was_sent_ended_in_exactly_one_way(result: Result) -> None:
    found = document(result, figures(result))["over_time"]["outcomes"]
    assert tuple(found) == OUTCOMES
    total = {name: sum(counts) for name, counts in found.items()}
    assert sum(total.values()) == len(result.requests)
    assert total["scorecard"] == result.run.totals["degraded"] > 0
    assert total["timeout"] == result.run.totals["timeout"] > 0
    assert total["refused rightly"] == result.run.totals["refused"] > 0
    assert total["bad, yet answered"] == total["refused wrongly"] == 0


def test_the_distribution_is_of_the_judged_window_and_holds_every_arrival(result: Result) -> None:
    spread = figures(result).distribution
    requests = result.requests
    judged = (requests.intended_s >= 3.0) & (requests.intended_s < 20.0) & (requests.kind != Kind.BAD)
    latency = (requests.done_s - requests.intended_s)[judged] * 1e3
    assert spread.arrivals.sum() == judged.sum()
    assert np.allclose(np.diff(np.log10(spread.edges_ms))[1:-1], 0.05)
    some = len(spread.arrivals) // 2
    inside = (latency >= spread.edges_ms[some]) & (latency < spread.edges_ms[some + 1])
    assert spread.arrivals[some] == inside.sum()
    for share, ms in zip(spread.tail_share, spread.tail_ms, strict=True):
        slower = (latency >= ms).mean()
        assert slower >= share - 1e-12
        assert slower - 1.5 / judged.sum() <= share
    assert spread.tail_ms[-1] == latency.max()


def test_the_json_is_the_run_with_its_figures_and_only_numbers_that_json_knows(result: Result) -> None:
    found = document(result, figures(result))
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text) == found
    run = plain(result.run.as_dict())
    assert {name: found[name] for name in run} == run
    assert found["server"]["models"]["fraud_score"]["batch_rows"] == result.server.models["fraud_score"].batch_rows


def test_what_was_never_sent_has_no_latency_and_is_not_counted(result: Result) -> None:
    requests = result.requests
    stopped = requests.intended_s > 12.0
    status = np.where(stopped, Status.UNSENT, requests.status).astype(np.int8)
    done = np.where(stopped, np.nan, requests.done_s)
    sent = np.where(stopped, np.nan, requests.sent_s)
    cut = replace(result, requests=replace(requests, status=status, done_s=done, sent_s=sent))
    time = figures(cut).over_time
    assert np.isnan(time.latency_ms["p50"][13:19]).all()
    assert sum(counts.sum() for counts in time.outcomes.values()) == (~stopped).sum()
    assert time.intended_per_s[15] > 250
    assert time.sent_per_s[15] == 0
    Page(page.render(cut, figures(cut)))


def test_a_long_run_is_drawn_in_stretches_and_its_server_is_averaged_alike() -> None:
    result = synthetic_result(rate=5.0, seconds=1_500.0, warmup_s=10.0)
    found = figures(result)
    assert found.bin_s == 5
    assert len(found.over_time.edges_s) - 1 == 300
    assert len(found.server.at_s) == 300
    cpu = np.array(result.server.processes["tritonserver"].cpu).reshape(300, 5)
    assert np.allclose(found.server.processes["tritonserver"].cpu, cpu.mean(axis=1))
    model = result.server.models["fraud_score"]
    queue, among = (np.array(one).reshape(300, 5) for one in (model.queue_ms, model.requests_per_s))
    expected = (queue * among).sum(axis=1) / among.sum(axis=1)
    assert np.allclose(found.server.models["fraud_score"].queue_ms, expected)


def test_gaps_of_the_server_stay_gaps_when_averaged() -> None:
    result = synthetic_result(rate=5.0, seconds=601.0)
    queue = result.server.models["fraud_score"].queue_ms
    queue[:4] = [float("nan"), float("nan"), float("nan"), 3.0]
    found = figures(result).server.models["fraud_score"].queue_ms
    assert len(found) == 121
    assert found[0] == pytest.approx((3.0 * result.server.models["fraud_score"].requests_per_s[3]
        + queue[4] * result.server.models["fraud_score"].requests_per_s[4])
        / sum(result.server.models["fraud_score"].requests_per_s[3:5]))  # fmt: skip


def test_the_page_has_every_plot_drawn_for_a_screen_and_for_a_phone(html: str) -> None:
    found = Page(html)
    assert list(found.figures) == PLOTS
    assert set(found.figures.values()) == {2}


def test_the_page_needs_nothing_from_anywhere(html: str) -> None:
    found = Page(html)
    assert found.addresses == []
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(found.tags)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|javascript:|\bon[a-z]+=", html)


def test_every_drawing_is_well_formed_and_draws_inside_itself(html: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(drawings) == 2 * len(PLOTS) + 1  # and the gauge of one target
    for one in drawings:
        root = ET.fromstring(one)
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        assert root.attrib["aria-label"]
        for text in root.iter("text"):
            assert -1 <= float(text.attrib["x"]) <= width + 1
            assert 0 <= float(text.attrib["y"]) <= height
        for path in root.iter("path"):
            numbers = [float(one) for one in re.findall(r"-?\d+(?:\.\d+)?", path.attrib["d"])]
            assert all(-1 <= number <= max(width, height) for number in numbers)
            assert "nan" not in path.attrib["d"]


def test_texts_for_a_pointer_are_left_out_of_the_drawings_for_a_phone(html: str) -> None:
    assert 'class="hover"' not in "".join(re.findall(r'<div class="phone">.*?</div>', html, re.DOTALL))
    assert 'class="hover"' in html


def test_the_verdicts_stand_at_the_top_and_names_are_escaped(result: Result) -> None:
    named = replace(result.run, scenario={**result.run.scenario, "name": "<b>&", "about": '"><script>'})
    html = page.render(replace(result, run=named), figures(result))
    found = Page(html)
    assert "script" not in found.tags
    assert html.index('class="slos"') < html.index("<figure")
    assert result.run.slos[0].text in html


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome.PASS, "Pass: 1 of 1 targets met"),
        (Outcome.MISS, "Miss: 1 of 1 targets, p99_ms."),
        (Outcome.NOT_ENOUGH_DATA, "Not enough data to judge p99_ms. That is no pass."),
        (Outcome.NO_VERDICT, "No verdict: the generator was the bottleneck."),
    ],
)
def test_the_outcome_is_said_in_words(result: Result, outcome: Outcome, said: str) -> None:
    run = replace(result.run, outcome=outcome, slos=[replace(result.run.slos[0], outcome=outcome)])
    assert sentence(run).startswith(said)


def test_a_server_out_of_sight_is_said_and_not_drawn(result: Result) -> None:
    away = replace(result, server=ServerSeries(note="no metrics from http://elsewhere:8002/metrics: URLError"))
    html = page.render(away, figures(away))
    found = Page(html)
    assert found.figures["server-queue"] == found.figures["server-cpu"] == 0
    assert found.figures["latency-over-time"] == 2
    assert "no metrics from" in html
    assert "no metrics from" in markdown.render(away, figures(away)).lower()


def test_a_run_that_sent_nothing_still_has_a_report(result: Result) -> None:
    nothing = result.requests.select(slice(0))
    empty = replace(
        result,
        requests=nothing,
        run=replace(
            result.run,
            seconds=0.0,
            generator=GeneratorFacts(1, dict.fromkeys(("p50", "p99"), float("nan")), [], 0.0, 0.0),
            latency_ms=dict.fromkeys(("p50", "p99", "p99.9", "max"), float("nan")),
        ),
    )
    found = figures(empty)
    assert "No arrival was sent" in page.render(empty, found)
    json.dumps(document(empty, found), allow_nan=False)
    assert markdown.render(empty, found).startswith("# Load test: synthetic")


def test_a_knee_is_drawn_by_rate() -> None:
    step = {"p50_ms": 4.0, "generator_lag_p99_ms": 1.0, "failed": 0}
    steps = [
        {**step, "rate": 1_000.0, "p99_ms": 9.0, "held": True},
        {**step, "rate": 2_000.0, "p99_ms": 300.0, "held": False},
    ]
    knee = {"rate": 1_000.0, "until_s": 8.0, "broke_at": 2_000.0, "leaves_ms": 100.0, "steps": steps}
    result = synthetic_result(findings={"knee": knee})
    html = page.render(result, figures(result))
    assert Page(html).figures["knee"] == 2
    assert "the knee is at 1,000/s" in html
    assert "| 2,000/s | 4 ms | 300 ms | 1 ms | left |" in markdown.render(result, figures(result))


def test_the_markdown_has_the_verdicts_and_the_figures_of_the_run(result: Result) -> None:
    text = markdown.render(result, figures(result))
    slo = result.run.slos[0]
    assert f"| p99_ms | {slo.outcome.value} | {slo.text} |" in text
    rows = [line for line in text.splitlines() if line.startswith("| timeout")]
    count = result.run.totals["timeout"]
    assert rows == [f"| timeout | {count:,} | {count / len(result.requests):.3%} |"]
    cpu = np.mean(result.server.processes["tritonserver"].cpu)
    assert f"| tritonserver | {cpu:.2f} |" in text
    model = result.server.models["fraud_score"]
    batch = np.average(model.batch_rows, weights=model.executions_per_s)
    (line,) = [line for line in text.splitlines() if line.startswith("| fraud_score |") and " ms |" in line]
    assert float(line.split("|")[3]) == pytest.approx(batch, abs=0.006)
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()}) == 1


def test_the_whole_machine_is_a_line_over_the_stack_and_no_process_of_the_server(result: Result) -> None:
    html = page.render(result, figures(result))
    (cpu,) = re.findall(r'<figure id="server-cpu".*?</figure>', html, re.DOTALL)
    assert cpu.count('class="line ink"') == 2
    assert cpu.count('class="area ') == 2 * 3  # tritonserver, fraud_score, the generator; for a screen and a phone
    (memory,) = re.findall(r'<figure id="server-memory".*?</figure>', html, re.DOTALL)
    assert "whole machine" not in memory
    assert re.search(r"^\| whole machine \| 0\.\d\d \|  \|$", markdown.render(result, figures(result)), re.MULTILINE)


def test_a_table_escapes_what_would_end_a_cell() -> None:
    assert table(["a", "b"], [["x|y", "1"]], numbers=[1]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |"
    assert table(["a"], []) == ""


def test_a_sparkline_shows_the_highest_of_each_stretch_and_blanks_for_nothing() -> None:
    assert sparkline(np.array([0.0, 7.0, np.nan, 3.5])) == "▁█ ▅"
    assert sparkline(np.array([1.0, 10.0, 100.0]), log=True) == "▁▅█"
    assert len(sparkline(np.arange(600.0))) == 60
    assert sparkline(np.array([np.nan])) == ""


@pytest.mark.parametrize("high", [0.003, 0.9, 1.0, 7.0, 42.0, 99.0, 1_234.0, 123_456.0])
def test_a_linear_axis_has_few_round_ticks_and_holds_its_highest(high: float) -> None:
    axis = linear(high)
    values = [value for value, _ in axis.ticks]
    assert 3 <= len(values) <= 6
    assert axis.low == values[0] == 0
    assert axis.high > high
    assert len({label for _, label in axis.ticks}) == len(values)


@pytest.mark.parametrize(("low", "high"), [(0.01, 5_000.0), (3.0, 4.0), (1.0, 100.0), (20.0, 1e6)])
def test_a_log_axis_has_few_ticks_within_itself(low: float, high: float) -> None:
    axis = logarithmic(low, high, 7)
    assert len(axis.ticks) <= 7
    assert all(low * 0.99 <= value <= axis.high * 1.01 for value, _ in axis.ticks)
    assert axis.share(low) == 0
    assert axis.share(axis.high) == 1


def test_both_files_are_written_and_folders_made(result: Result, tmp_path: Path) -> None:
    html, text = tmp_path / "a" / "r.html", tmp_path / "b" / "r.md"
    write(result, figures(result), html, text)
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert text.read_text(encoding="utf-8").endswith("\n")


def test_a_runner_that_knows_no_intended_time_is_said_to_hide_its_delays(result: Result) -> None:
    blind = replace(result, requests=replace(result.requests, taken_s=result.requests.intended_s))
    html = page.render(blind, figures(blind))
    assert Page(html).figures["generator-lag"] == 0
    assert "This runner does not tell how late it was" in html
    assert "From the send itself" in html


def test_samples_of_the_server_after_the_end_are_not_drawn(result: Result) -> None:
    late = replace(result.server, at_s=[at + 3.0 for at in result.server.at_s])
    found = figures(replace(result, server=late)).server
    assert found.at_s == late.at_s[:17]
    assert all(len(one.cpu) == 17 for one in found.processes.values())
    assert all(len(one.queue_ms) == 17 for one in found.models.values())


def test_requests_of_a_runner_that_tells_no_source_are_counted_as_answered(result: Result) -> None:
    plain_requests: Requests = result.requests.select(result.requests.status == Status.OK)
    untold = replace(plain_requests, source=np.full(len(plain_requests), -1, np.int8))
    found = figures(replace(result, requests=untold)).over_time.outcomes
    assert found["by whom not told"].sum() == len(untold)
