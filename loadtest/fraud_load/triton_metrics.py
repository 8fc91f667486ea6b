"""Triton's metrics page as figures an interval: requests, rows an execution, time in the queue and in the model."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from typing import Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

_PREFIX: Final = "nv_inference_"
_COMPUTE: Final = ("compute_input_duration_us", "compute_infer_duration_us", "compute_output_duration_us")


class ModelFigures(NamedTuple):
    """One model over one interval; NaN where nothing ran in it."""

    requests_per_s: float
    executions_per_s: float
    batch_rows: float
    queue_ms: float
    compute_ms: float
    failures_per_s: float


NOTHING: Final = ModelFigures(*[float("nan")] * len(ModelFigures._fields))
Counters = Mapping[str, Mapping[str, float]]
"""By model, then by counter without its prefix: `request_success`, `exec_count`; versions and reasons summed."""


def scrape(url: str, timeout_s: float) -> Counters:
    """The counters of a metrics page; OSError where there is none in time."""
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310 - the caller chose http
        return read_page(answer.read().decode("utf-8", "replace"))


def read_page(text: str) -> Counters:
    """The per-model counters in the page's text."""
    wanted = "\n".join(line for line in text.splitlines() if line.startswith(_PREFIX))
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(f"{wanted}\n"):
        for name, labels, value, *_ in family.samples:
            if "model" in labels:
                model = found.setdefault(labels["model"], {})
                counter = name.removeprefix(_PREFIX)
                model[counter] = model.get(counter, 0.0) + value
    return found


def between(before: Mapping[str, float], after: Mapping[str, float], seconds: float) -> ModelFigures:
    """What one model did from `before` to `after`, `seconds` later; a server that restarted begins at 0."""

    def rise(counter: str) -> float:
        new, old = after.get(counter, 0.0), before.get(counter, 0.0)
        return new - old if new >= old else new

    requests, executions = rise("request_success"), rise("exec_count")
    return ModelFigures(
        requests_per_s=requests / seconds,
        executions_per_s=executions / seconds,
        batch_rows=_ratio(rise("count"), executions),
        queue_ms=_ratio(rise("queue_duration_us"), requests) / 1e3,
        compute_ms=_ratio(sum(rise(part) for part in _COMPUTE), requests) / 1e3,
        failures_per_s=rise("request_failure") / seconds,
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")
