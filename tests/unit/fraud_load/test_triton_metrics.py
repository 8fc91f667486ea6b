"""Triton's metrics page becomes figures an interval."""

from __future__ import annotations

import math

import pytest

from fraud_load.triton_metrics import between, read_page

PAGE = """\
# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{{model="fraud_score",version="1"}} {requests}
nv_inference_request_success{{model="fraud_score",version="2"}} 1
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{{model="fraud_score",reason="REJECTED",version="1"}} 2
nv_inference_request_failure{{model="fraud_score",reason="OTHER",version="1"}} {failures}
nv_inference_count{{model="fraud_score",version="1"}} {rows}
nv_inference_exec_count{{model="fraud_score",version="1"}} {executions}
nv_inference_queue_duration_us{{model="fraud_score",version="1"}} {queue}
nv_inference_compute_input_duration_us{{model="fraud_score",version="1"}} {queue}
nv_inference_compute_infer_duration_us{{model="fraud_score",version="1"}} {queue}
nv_inference_compute_output_duration_us{{model="fraud_score",version="1"}} {queue}
nv_cpu_utilization 0.9850746268656716
"""


def page(**numbers: float) -> dict[str, float]:
    zero = dict.fromkeys(("requests", "failures", "rows", "executions", "queue"), 0.0)
    return dict(read_page(PAGE.format(**{**zero, **numbers}))["fraud_score"])


def test_versions_and_reasons_are_summed_and_other_metrics_left_out() -> None:
    found = read_page(PAGE.format(requests=5, failures=3, rows=0, executions=0, queue=0))
    assert list(found) == ["fraud_score"]
    assert found["fraud_score"]["request_success"] == 6
    assert found["fraud_score"]["request_failure"] == 5


def test_an_interval_has_rates_and_averages() -> None:
    figures = between(page(), page(requests=200, failures=4, rows=800, executions=100, queue=600_000), 2.0)
    assert figures.requests_per_s == 100
    assert figures.executions_per_s == 50
    assert figures.batch_rows == 8
    assert figures.queue_ms == 3
    assert figures.compute_ms == 9
    assert figures.failures_per_s == 2


def test_where_nothing_ran_there_is_no_average() -> None:
    figures = between(page(requests=7), page(requests=7), 1.0)
    assert figures.requests_per_s == 0
    assert all(math.isnan(value) for value in (figures.batch_rows, figures.queue_ms, figures.compute_ms))


def test_a_server_that_began_anew_counts_from_zero() -> None:
    figures = between(page(requests=1_000), page(requests=10), 1.0)
    assert figures.requests_per_s == pytest.approx(11)
