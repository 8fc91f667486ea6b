"""The plots of the client's side: latency, rates, how arrivals ended, the generator itself, the knee."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from fraud_load.report.charts import Axis, Chart, Floats, amount, linear, logarithmic, strips
from fraud_load.report.figures import DEGRADED, GENERATOR, GOOD, OUTCOMES, Figures
from fraud_load.report.panels import Panel, milliseconds, ms, number, time_axis
from fraud_load.result import Run
from fraud_load.scenario import lag_limit_ms

_PERCENTILE_STYLES: Final = {"p50": "c0", "p99": "c1", "p99.9": "c2"}


def client_panels(run: Run, found: Figures) -> list[Panel]:
    """In the order in which they are read."""
    if not len(found.distribution.arrivals) and not any(counts.any() for counts in found.over_time.outcomes.values()):
        return [Panel("latency-over-time", "Latency", "No arrival was sent: there is nothing to show.", whole=True)]
    return [
        *_purpose(run),
        _latency(run, found),
        _histogram(run, found),
        _tail(run, found),
        _rates(run, found),
        _outcomes(run, found),
        _lag(run, found),
        _generator_cpu(run, found),
    ]


def spans(chart: Chart, run: Run) -> None:
    """What is not judged, shaded."""
    start, stop = run.window_s
    chart.span(0.0, start, "warm-up")
    chart.span(stop, run.seconds, "not judged")
    arrivals = run.scenario.get("arrivals", {})
    if arrivals.get("kind") == "spike":
        numbers = arrivals["numbers"]
        chart.span(numbers["at_s"], numbers["at_s"] + numbers["for_s"], f"spike ×{numbers['times']:g}")


def middles(edges: Floats) -> Floats:
    """[T] of [T + 1] edges."""
    return (edges[:-1] + edges[1:]) / 2


def _tells_lag(found: Figures) -> bool:
    """Whether the runner knows when it should have sent; one that does not says that it was never late."""
    return any((values > 0).any() for values in found.over_time.lag_ms.values())


def tail_axis(lowest: float) -> Axis:
    """A log axis of shares from `lowest` to all."""
    powers = [power for power in range(0, -10, -1) if 10.0**power >= lowest * 0.999]
    return Axis(min(lowest, 0.5), 1.0, tuple((10.0**power, _one_in(power)) for power in powers), log=True)


def _per(bin_s: float) -> str:
    return ", by second" if bin_s == 1 else f", by {bin_s:g} s"


def _a_bin(bin_s: float) -> str:
    return "a second" if bin_s == 1 else f"a stretch of {bin_s:g} s"


def _one_in(power: int) -> str:
    """10 to the power, as a share: 100%, 1%, 0.01%."""
    return f"{100 * 10.0**power:g}%"


def _limits(run: Run) -> list[tuple[float, str]]:
    """(milliseconds, name) of the scenario's latency targets."""
    limits: dict[str, float] = run.scenario.get("slo", {})
    return [(limits[f"{name}_ms"], f"{name} target {ms(limits[f'{name}_ms'])}") for name in ("p50", "p99", "p99.9")
            if f"{name}_ms" in limits]  # fmt: skip


def _latency(run: Run, found: Figures) -> Panel:
    time = found.over_time
    shown = {name: time.latency_ms[name] for name in _PERCENTILE_STYLES}
    titles = [
        f"{time.edges_s[i]:g} s: " + ", ".join(f"{name} {ms(time.latency_ms[name][i])}" for name in time.latency_ms)
        for i in range(len(time.edges_s) - 1)
    ]

    def draw(width: int) -> str:
        limits = _limits(run)
        y = milliseconds([*shown.values(), [limit for limit, _ in limits]])
        chart = Chart(width, 300, time_axis(float(time.edges_s[-1]), width), y)
        spans(chart, run)
        for name, values in reversed(shown.items()):
            chart.line(middles(time.edges_s), values, _PERCENTILE_STYLES[name])
        for limit, label in limits:
            chart.level(limit, label)
        chart.hover(time.edges_s, titles)
        return chart.svg("latency percentiles over time, milliseconds, log axis")

    since = "From the intended send time, so that a stall shows in everything that it delayed."
    if not _tells_lag(found):
        since = "From the send itself: what this runner was late, and a stall of the server made it, is hidden."
    return Panel(
        "latency-over-time",
        f"Latency over time, ms{_per(found.bin_s)}",
        f"{since} Log axis. Where {_a_bin(found.bin_s)} has fewer than 1,000 arrivals, its p99.9 is its slowest one.",
        draw,
        tuple((style, name) for name, style in _PERCENTILE_STYLES.items()),
        whole=True,
    )


def _histogram(run: Run, found: Figures) -> Panel:
    spread = found.distribution
    total = max(int(spread.arrivals.sum()), 1)
    marks = [(run.latency_ms[name], name, style) for name, style in _PERCENTILE_STYLES.items()]
    titles = [
        f"{ms(spread.edges_ms[i])} to {ms(spread.edges_ms[i + 1])}: {count:,} arrivals, {count / total:.2%}"
        for i, count in enumerate(spread.arrivals.tolist())
    ]

    def draw(width: int) -> str:
        x = logarithmic(float(spread.edges_ms[0]), float(spread.edges_ms[-1]), max(width // 55, 4))
        y = linear(100 * float(spread.arrivals.max()) / total, 4, unit="%")
        chart = Chart(width, 250, x, y, "ms, log axis", header=2)
        chart.bars(spread.edges_ms, 100 * spread.arrivals / total, "c0")
        chart.marks(marks)
        chart.hover(spread.edges_ms, titles)
        return chart.svg("histogram of latency on a log axis")

    if not len(spread.arrivals):
        return Panel("latency-histogram", "Latency histogram", "Nothing was sent in the judged window.")
    return Panel(
        "latency-histogram",
        "Latency histogram",
        f"Share of {total:,} arrivals of the judged window, by latency; neighbouring bars are 12% apart.",
        draw,
    )


def _tail(run: Run, found: Figures) -> Panel:
    spread = found.distribution

    def draw(width: int) -> str:
        y = tail_axis(float(spread.tail_share[-1]))
        limits = _limits(run)
        highest = max([float(spread.tail_ms[-1]), *(limit for limit, _ in limits)])
        x = logarithmic(float(spread.tail_ms[0]), highest * 1.1, max(width // 55, 4))
        chart = Chart(width, 250, x, y, "ms, log axis", header=2 if limits else 0)
        chart.line(spread.tail_ms, spread.tail_share, "c0")
        allowed = {"p50": 0.5, "p99": 0.01, "p99.9": 0.001}
        for limit, label in limits:
            name = label.split()[0]
            chart.dot(limit, allowed[name], "limitdot", f"at most {allowed[name]:.1%} may be slower than {ms(limit)}")
        chart.marks([(limit, label.replace(" target", ""), "limit") for limit, label in limits])
        return chart.svg("share of arrivals that were slower, both axes logarithmic")

    if not len(spread.tail_ms):
        return Panel("latency-tail", "How many were slower", "Nothing was sent in the judged window.")
    return Panel(
        "latency-tail",
        "How many were slower",
        "The share of arrivals that took longer than so many milliseconds."
        f"{' A target is kept while the line passes below and left of its ring.' if _limits(run) else ''}",
        draw,
        (("c0", "slower than"), ("ring", "targets")) if _limits(run) else (),
    )


def _rates(run: Run, found: Figures) -> Panel:
    time = found.over_time
    series = (
        ("quiet thick", "intended", time.intended_per_s),
        ("c1", "sent", time.sent_per_s),
        ("c0", "answered", time.answered_per_s),
    )
    titles = [
        f"{time.edges_s[i]:g} s: " + ", ".join(f"{name} {number(values[i])}/s" for _, name, values in series)
        for i in range(len(time.edges_s) - 1)
    ]

    def draw(width: int) -> str:
        y = linear(max(float(values.max(initial=0.0)) for _, _, values in series))
        chart = Chart(width, 230, time_axis(float(time.edges_s[-1]), width), y)
        spans(chart, run)
        for style, _, values in series:
            chart.line(middles(time.edges_s), values, style)
        chart.hover(time.edges_s, titles)
        return chart.svg("intended, sent and answered transactions a second")

    made = run.generator
    return Panel(
        "rates",
        "Intended and achieved rate, transactions/s",
        f"Judged: {number(made.intended_per_s)} arrivals/s intended, {number(made.achieved_per_s)} sent. Sent below "
        "intended: the generator is short. Answered (or rightly refused) below sent: the server is.",
        draw,
        tuple((style, name) for style, name, _ in series),
        whole=True,
    )


def _outcomes(run: Run, found: Figures) -> Panel:
    time = found.over_time
    styles = {**dict.fromkeys(GOOD, "good"), **dict.fromkeys(DEGRADED, "degraded")}
    rows = [
        (name, styles.get(name, "error"), time.outcomes[name].tolist())
        for name in OUTCOMES
        if name != "by whom not told" or time.outcomes[name].any()
    ]
    unsent = run.totals.get("unsent", 0)

    def draw(width: int) -> str:
        axis = time_axis(float(time.edges_s[-1]), width - 180)
        return strips(width, rows, axis, time.edges_s, "a bin")

    return Panel(
        "outcomes",
        "How arrivals ended",
        "Answers by who decided, refusals, and errors; darker is more, a row's own highest is darkest, its total "
        f"stands at the right.{f' {unsent:,} were never sent: the run was stopped before.' if unsent else ''}",
        draw,
        (("box good", "as it should be"), ("box degraded", "degraded"), ("box error", "error")),
        whole=True,
    )


def _lag(run: Run, found: Figures) -> Panel:
    time = found.over_time
    styles = {"p50": "c0", "p99": "c1", "max": "c2"}
    limit = lag_limit_ms(run.scenario.get("slo", {}))
    title = "The generator’s own lag, ms"
    if not _tells_lag(found):
        return Panel("generator-lag", title, "This runner does not tell how late it was: its own delays are hidden.")

    def draw(width: int) -> str:
        y = milliseconds([*time.lag_ms.values(), [limit]], most=6)
        chart = Chart(width, 220, time_axis(float(time.edges_s[-1]), width), y)
        spans(chart, run)
        for name in reversed(time.lag_ms):
            chart.line(middles(time.edges_s), time.lag_ms[name], styles[name])
        chart.level(limit, f"limit of p99 {ms(limit)}")
        return chart.svg("how late the generator itself was, milliseconds, log axis")

    lag = run.generator.lag_ms
    return Panel(
        "generator-lag",
        title,
        f"How late it took an arrival up: p99 {ms(lag.get('p99', float('nan')))} in the judged window. Above the limit "
        "no verdict is given.",
        draw,
        tuple((style, name) for name, style in styles.items()),
    )


def _generator_cpu(run: Run, found: Figures) -> Panel:
    ours = {name: one.cpu for name, one in found.server.processes.items() if name.startswith(GENERATOR)}
    used = ", ".join(f"{cpu:.0%}" for cpu in run.generator.cpu) or "not known"
    caption = f"Share of a core used by each process, over the whole run: {used}. Near 100% it has no room."
    if not ours:
        return Panel("generator-cpu", "The generator’s CPU", f"{caption} Not sampled over time.")
    shown = list(ours.items())[:8]

    def draw(width: int) -> str:
        y = linear(max(1.0, *(float(np.nanmax(cpu, initial=0.0)) for _, cpu in shown)), 4)
        chart = Chart(width, 220, time_axis(float(found.over_time.edges_s[-1]), width), y)
        spans(chart, run)
        for i, (_, cpu) in enumerate(shown):
            chart.line(found.server.at_s, cpu, f"c{i % 8}")
        chart.level(1.0, "one core")
        return chart.svg("cores used by each process of the generator")

    key = tuple((f"c{i % 8}", name) for i, (name, _) in enumerate(shown))
    return Panel("generator-cpu", "The generator’s CPU, cores", caption, draw, key)


def _purpose(run: Run) -> list[Panel]:
    """The plot of what the scenario was run for."""
    knee = run.findings.get("knee")
    if not knee or not knee["steps"]:
        return []
    steps: list[dict[str, Any]] = knee["steps"]

    def draw(width: int) -> str:
        rates = [step["rate"] for step in steps]
        p99, p50 = [step["p99_ms"] for step in steps], [step["p50_ms"] for step in steps]
        lag = [step["generator_lag_p99_ms"] for step in steps]
        x = logarithmic(rates[0] * 0.9, rates[-1] * 1.1, max(width // 70, 4))
        chart = Chart(
            width, 280, x, milliseconds([p99, p50, lag, [knee["leaves_ms"]]]), "arrivals/s, log axis", header=1
        )
        chart.line(rates, lag, "quiet")
        chart.line(rates, p50, "c0")
        chart.line(rates, p99, "c1")
        for step in steps:
            title = f"{step['rate']:,.0f}/s: p99 {ms(step['p99_ms'])}, {step['failed']:,} failed"
            chart.dot(step["rate"], step["p99_ms"], "held" if step["held"] else "left", title)
        chart.level(knee["leaves_ms"], f"p99 may reach {ms(knee['leaves_ms'])}")
        if knee["rate"] is not None:
            chart.marks([(knee["rate"], f"knee {amount(round(knee['rate']))}/s", "limit")])
        return chart.svg("latency by rate, both axes logarithmic")

    rate = "not even the first step held" if knee["rate"] is None else f"the knee is at {knee['rate']:,.0f}/s"
    return [
        Panel(
            "knee",
            "Where it breaks: latency by rate, ms",
            f"One dot a step: {rate}. Where the generator’s lag rises too, the server’s knee may lie higher.",
            draw,
            (
                ("c0", "p50"),
                ("c1", "p99"),
                ("quiet", "generator lag p99"),
                ("held", "held"),
                ("left", "left the limit"),
            ),
            whole=True,
        )
    ]
