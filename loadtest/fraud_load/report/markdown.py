"""The report of a run as Markdown, for a pull request or a ticket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from fraud_load.report.figures import OUTCOMES, Figures, Floats, server_only
from fraud_load.report.page import sentence, subtitle
from fraud_load.report.panels import ms, number
from fraud_load.result import WHOLE_MACHINE, Result, Run

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_MOST: Final = 60


def render(result: Result, found: Figures) -> str:
    """The Markdown of a run."""
    run = result.run
    parts = [
        f"# Load test: {run.scenario['name']}",
        f"**{sentence(run)}**",
        *([run.generator.bottleneck] if run.generator.bottleneck else []),
        subtitle(run),
        table(["target", "verdict", "what was found"], [[one.slo, one.outcome.value, one.text] for one in run.slos]),
        "## Latency and rate",
        _latency(run),
        _over_time(found),
        *_knee(run),
        "## How arrivals ended",
        _outcomes(found),
        "## The server",
        *_server(found),
        "## The generator",
        _generator(run),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A Markdown table; columns named in `numbers` stand to the right. Empty without rows."""
    if not rows:
        return ""
    rule = ["---:" if i in numbers else "---" for i in range(len(head))]
    lines = [head, rule, *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sparkline(values: Floats, log: bool = False) -> str:
    """A line of blocks, at most 60, each the highest of its stretch; a blank where there is nothing."""
    groups = np.array_split(values, min(_MOST, len(values)))
    highest = np.array([np.max(one, initial=-np.inf, where=np.isfinite(one)) for one in groups])
    known = highest[np.isfinite(highest)]
    if not len(known):
        return ""
    scaled = np.log(np.maximum(highest, 1e-6)) if log else highest
    low = float(np.log(max(known.min(), 1e-6))) if log else 0.0
    top = float(np.log(max(known.max(), 1e-6))) if log else float(known.max())
    width = max(top - low, 1e-12)
    return "".join(
        _BLOCKS[round((len(_BLOCKS) - 1) * min(max((one - low) / width, 0.0), 1.0))] if np.isfinite(one) else " "
        for one in scaled
    )


def _latency(run: Run) -> str:
    names = [name for name in ("p50", "p90", "p99", "p99.9", "max") if name in run.latency_ms]
    return table(
        [*names, "intended", "sent"],
        [
            [
                *(ms(run.latency_ms[name]) for name in names),
                f"{number(run.generator.intended_per_s)}/s",
                f"{number(run.generator.achieved_per_s)}/s",
            ]
        ],
        range(len(names) + 2),
    )


def _over_time(found: Figures) -> str:
    time = found.over_time
    each = f"{found.bin_s:g} s" if found.bin_s != 1 else "second"
    p99 = time.latency_ms["p99"]
    known = p99[np.isfinite(p99)]
    if not len(known):
        return ""
    lines = (
        (f"p99 by {each}, log", sparkline(p99, log=True), f"{ms(float(known.min()))} to {ms(float(known.max()))}"),
        (f"answered by {each}", sparkline(time.answered_per_s), f"up to {number(float(time.answered_per_s.max()))}/s"),
    )
    width = max(len(name) for name, _, _ in lines)
    return "\n".join(["```", *(f"{name:<{width}}  {line}  {span}" for name, line, span in lines), "```"])


def _knee(run: Run) -> list[str]:
    knee = run.findings.get("knee")
    if not knee:
        return []
    rows = [
        [f"{step['rate']:,.0f}/s", ms(step["p50_ms"]), ms(step["p99_ms"]), ms(step["generator_lag_p99_ms"]),
         "held" if step["held"] else "left"]
        for step in knee["steps"]
    ]  # fmt: skip
    return ["## Steps", table(["arrivals", "p50", "p99", "generator lag p99", "limit"], rows, range(4))]


def _outcomes(found: Figures) -> str:
    counts = {name: int(found.over_time.outcomes[name].sum()) for name in OUTCOMES}
    total = max(sum(counts.values()), 1)
    rows = [[name, f"{count:,}", f"{count / total:.3%}"] for name, count in counts.items() if count]
    return table(["ended as", "arrivals", "share"], rows, (1, 2))


def _server(found: Figures) -> list[str]:
    models = [
        [
            name,
            number(_mean(one.requests_per_s)),
            number(_mean(one.batch_rows, one.executions_per_s)),
            ms(_mean(one.queue_ms, one.requests_per_s)),
            ms(_mean(one.compute_ms, one.requests_per_s)),
        ]
        for name, one in sorted(found.server.models.items())
        if np.nansum(one.requests_per_s) > 0
    ]
    processes = [
        [name, f"{_mean(one.cpu):.2f}", f"{_last(one.private_bytes) / (1 << 20):,.0f} MiB"]
        for name, one in server_only(found.server.processes).items()
    ]
    if WHOLE_MACHINE in found.server.processes:
        processes.append([WHOLE_MACHINE, f"{_mean(found.server.processes[WHOLE_MACHINE].cpu):.2f}", ""])
    note = found.server.note
    return [
        table(["model", "requests/s", "rows an execution", "in the queue", "in the model"], models, range(1, 5)),
        table(["process", "cores", "private memory"], processes, (1, 2)),
        note[:1].upper() + note[1:],
        *(
            ["Its processes were not seen: they are not on the generator's machine."]
            if not server_only(found.server.processes)
            else []
        ),
    ]


def _generator(run: Run) -> str:
    made = run.generator
    cpu = ", ".join(f"{used:.0%}" for used in made.cpu) or "not known"
    lag = ", ".join(f"{name} {ms(value)}" for name, value in made.lag_ms.items())
    return f"Processes: {made.processes}. Lag: {lag}. CPU, share of a core each: {cpu}."


def _mean(values: Sequence[float], weights: Sequence[float] | None = None) -> float:
    value = np.array(values, np.float64)
    weight = np.ones_like(value) if weights is None else np.array(weights, np.float64)
    known = np.isfinite(value) & np.isfinite(weight) & (weight > 0)
    return float(np.average(value[known], weights=weight[known])) if known.any() else float("nan")


def _last(values: Sequence[float]) -> float:
    known = [one for one in values if np.isfinite(one)]
    return known[-1] if known else float("nan")
