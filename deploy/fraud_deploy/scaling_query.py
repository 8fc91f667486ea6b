"""The query that servers scale on, asked of Prometheus' own engine: when requests wait, and when none come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import yaml

from fraud_deploy.manifests import Document, of_kind
from fraud_deploy.toolbox import Toolbox

_LABELS: Final = 'model="fraud_score",namespace="fraud"'
_ELSEWHERE: Final = 'model="fraud_score",namespace="staging"'
_OF_ANOTHER_MODEL: Final = 'model="fraud_r0001",namespace="fraud"'
_WAITED: Final = "nv_inference_queue_duration_us"
_ANSWERED: Final = "nv_inference_request_success"


def check_scaling_query(toolbox: Toolbox, documents: Sequence[Document]) -> None:
    """Two servers, 100 and 300 requests a second that wait 2 and 10 ms: 8 ms in the mean; others do not count."""
    (scaler,) = of_kind(documents, "ScaledObject")
    (query,) = [one["metadata"]["query"] for one in scaler["spec"]["triggers"] if one["type"] == "prometheus"]
    busy = {
        f'{_ANSWERED}{{{_LABELS},pod="a"}}': "0+1000x12",
        f'{_WAITED}{{{_LABELS},pod="a"}}': "0+2000000x12",
        f'{_ANSWERED}{{{_LABELS},pod="b"}}': "0+3000x12",
        f'{_WAITED}{{{_LABELS},pod="b"}}': "0+30000000x12",
        f'{_ANSWERED}{{{_ELSEWHERE},pod="c"}}': "0+1000x12",
        f'{_WAITED}{{{_ELSEWHERE},pod="c"}}': "0+900000000x12",
        f'{_WAITED}{{{_OF_ANOTHER_MODEL},pod="a"}}': "0+900000000x12",
    }
    idle = dict.fromkeys(busy, "5x12")
    tests = [_test(query, series, value) for series, value in ((busy, 8000), (idle, 0), ({}, 0))]
    file = toolbox.scratch / "query_test.yaml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "10s", "tests": tests}), encoding="utf-8")
    toolbox.run("promtool", "test", "rules", file)
    file.write_text(yaml.safe_dump({"evaluation_interval": "10s", "tests": [_test(query, busy, 1)]}), encoding="utf-8")
    toolbox.run("promtool", "test", "rules", file, good=(1,))  # a wrong value is noticed


def _test(query: str, series: dict[str, str], value: int) -> dict[str, object]:
    return {
        "interval": "10s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": query, "eval_time": "120s", "exp_samples": [{"labels": "{}", "value": value}]}],
    }
