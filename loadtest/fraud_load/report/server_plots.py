"""The plots of the server's side, from Triton's metrics and from its processes where they were seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from fraud_load.report.charts import Axis, Chart, Floats, linear
from fraud_load.report.figures import GENERATOR, Figures, server_only
from fraud_load.report.panels import Panel, milliseconds, ms, number, time_axis
from fraud_load.report.plots import spans
from fraud_load.result import WHOLE_MACHINE, ModelSeries, Run

MOST: Final = 8
"""Series of one plot, each with a colour of its own; more share the last."""
_MIB: Final = 1 << 20


def server_panels(run: Run, found: Figures) -> list[Panel]:
    """In the order in which they are read; sentences where there was nothing to see."""
    models = {name: one for name, one in found.server.models.items() if np.nansum(one.requests_per_s) > 0}
    note = found.server.note or "the server's metrics page was not read"
    if models:
        panels = [_queue(run, found, models), _compute(run, found, models), _batch(run, found, models)]
    else:
        panels = [Panel("server-queue", "Inside the server", f"Nothing to show: {note}.", whole=True)]
    if not server_only(found.server.processes):
        words = "The server's processes are not on the generator's machine: their CPU and memory were not seen."
        return [*panels, Panel("server-cpu", "CPU and memory of the server", words)]
    return [*panels, _cpu(run, found), _memory(run, found)]


def _queue(run: Run, found: Figures, models: Mapping[str, ModelSeries]) -> Panel:
    return _by_model(
        run,
        found,
        "server-queue",
        "Time in Triton’s queue, ms",
        "A request’s average. Log axis; what is below 0.01 ms is drawn there.",
        {name: one.queue_ms for name, one in models.items()},
    )


def _compute(run: Run, found: Figures, models: Mapping[str, ModelSeries]) -> Panel:
    return _by_model(
        run,
        found,
        "server-compute",
        "Time in the model, ms",
        "A request’s average: input, inference, output. The front door’s holds that of the release that it calls. "
        "Log axis.",
        {name: one.compute_ms for name, one in models.items()},
    )


def _by_model(
    run: Run, found: Figures, name: str, title: str, caption: str, series: Mapping[str, list[float]]
) -> Panel:
    def axis() -> Axis:
        return milliseconds(series.values(), floor=0.01, most=6)

    return _lines(run, found, name, title, caption, series, axis, ms)


def _batch(run: Run, found: Figures, models: Mapping[str, ModelSeries]) -> Panel:
    series = {name: one.batch_rows for name, one in models.items()}
    return _lines(
        run,
        found,
        "server-batch",
        "Batch size, rows an execution",
        "The average of Triton’s executions: how much the dynamic batcher and the front door join. "
        "A release’s parts run the front door’s batches, so that their lines cover each other.",
        series,
        lambda: linear(max((float(np.nanmax(one, initial=1.0)) for one in series.values()), default=1.0), 4),
        number,
    )


def _styles(found: Figures) -> dict[str, str]:
    """A colour for each model and process: the same name has the same one in every plot."""
    names = sorted({*found.server.models, *server_only(found.server.processes)})
    return {name: f"c{min(i, MOST - 1)}" for i, name in enumerate(names)}


def _lines(
    run: Run,
    found: Figures,
    name: str,
    title: str,
    caption: str,
    series: Mapping[str, list[float]],
    axis: Callable[[], Axis],
    shown: Callable[[float], str],
    whole: bool = False,
) -> Panel:
    at = found.server.at_s
    styles = {one: style for one, style in _styles(found).items() if one in series}
    edges = np.array([0.0, *at])
    titles = [
        f"{at[i]:.0f} s: " + ", ".join(f"{one} {shown(series[one][i])}" for one in styles) for i in range(len(at))
    ]

    def draw(width: int) -> str:
        chart = Chart(width, 230, time_axis(float(found.over_time.edges_s[-1]), width), axis())
        spans(chart, run)
        for one, style in styles.items():
            chart.line(at, series[one], style)
        chart.hover(edges, titles)
        return chart.svg(title)

    return Panel(name, title, caption, draw, tuple((style, one) for one, style in styles.items()), whole)


def _cpu(run: Run, found: Figures) -> Panel:
    """Stacked: the server's processes by what they used, the generator on top; the whole machine as a line."""
    processes = found.server.processes
    groups = _largest({name: np.nan_to_num(one.cpu) for name, one in server_only(processes).items()})
    ours = [np.nan_to_num(one.cpu) for name, one in processes.items() if name.startswith(GENERATOR)]
    if ours:
        groups[GENERATOR] = np.sum(ours, axis=0)
    styles = {"others": f"c{MOST - 1}", **_styles(found), GENERATOR: "quiet"}
    styles = {name: styles[name] for name in groups}
    tops = np.cumsum(list(groups.values()), axis=0)
    cores = float(run.machine.get("cores") or 1)
    machine = processes[WHOLE_MACHINE].cpu if WHOLE_MACHINE in processes else []
    at = found.server.at_s
    titles = [
        f"{at[i]:.0f} s: " + ", ".join(f"{name} {used[i]:.2f}" for name, used in groups.items()) for i in range(len(at))
    ]

    def draw(width: int) -> str:
        y = linear(max(cores, float(tops[-1].max(initial=0.0))), 4)
        chart = Chart(width, 230, time_axis(float(found.over_time.edges_s[-1]), width), y)
        for i, style in enumerate(styles.values()):
            chart.area(at, tops[i - 1] if i else np.zeros(len(at)), tops[i], style)
        spans(chart, run)
        chart.line(at, machine, "ink")
        chart.level(cores, f"the machine’s {cores:g} cores")
        chart.hover(np.array([0.0, *at]), titles)
        return chart.svg("cores used by each process, stacked")

    others = "From the stack to the line is other programs’ work." if machine else "Other programs are not seen."
    if machine and not ours:
        others = "From the stack to the line is other programs’ work, the generator’s among it."
    used = run.findings.get("cores")
    mean = (
        f" On average: the server {used['server']:.2f}, the generator {used['generator']:.2f}, the whole machine "
        f"{used['machine']:.2f} cores."
        if used and ours
        else ""
    )
    return Panel(
        "server-cpu",
        "CPU by process, cores, stacked",
        f"{'Server and generator' if ours else 'The server'} on the generator’s machine. {others}{mean}",
        draw,
        (*((f"box {style}", name) for name, style in styles.items()), *((("ink", WHOLE_MACHINE),) if machine else ())),
    )


def _memory(run: Run, found: Figures) -> Panel:
    seen = {name: np.array(one.private_bytes) / _MIB for name, one in server_only(found.server.processes).items()}
    series = {name: values.tolist() for name, values in seen.items() if np.isfinite(values).any()}
    last = sum(float(values[np.isfinite(values)][-1]) for values in seen.values() if np.isfinite(values).any())
    return _lines(
        run,
        found,
        "server-memory",
        "Private memory by process, MiB",
        f"What a leak would grow: neither shared nor a mapped file. {number(last)} MiB together at the end.",
        series,
        lambda: linear(max((float(np.nanmax(one, initial=1.0)) for one in series.values()), default=1.0), 4),
        number,
        whole=True,
    )


def _largest(series: dict[str, Floats]) -> dict[str, Floats]:
    """The series with the highest sums, the rest as one."""
    order = sorted(series, key=lambda name: -float(series[name].sum()))
    if len(order) <= MOST:
        return {name: series[name] for name in order}
    rest = np.sum([series[name] for name in order[MOST - 1 :]], axis=0)
    return {**{name: series[name] for name in order[: MOST - 1]}, "others": rest}
