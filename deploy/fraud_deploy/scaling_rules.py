"""How servers come and go: on waiting requests and CPU, fast up, slow down."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from fraud_deploy.manifests import Document, of_kind
from fraud_deploy.rules import Rule

_METRIC: Final = re.compile(r"\bnv_[a-z_]+\b")
EXPORTED: Final = frozenset({"nv_inference_queue_duration_us", "nv_inference_request_success"})
"""What the query may read; a test holds it against what a real Triton exports."""


def servers_scale_on_waiting_and_on_cpu(documents: Sequence[Document]) -> Iterator[str]:
    for scaler in of_kind(documents, "ScaledObject"):
        triggers = {trigger["type"]: trigger for trigger in scaler["spec"]["triggers"]}
        query = triggers.get("prometheus", {}).get("metadata", {}).get("query", "")
        read = set(_METRIC.findall(query))
        if "nv_inference_queue_duration_us" not in read or not read <= EXPORTED:
            yield f"the query reads {sorted(read)}: queue time per request is of {', '.join(sorted(EXPORTED))}"
        if triggers.get("prometheus", {}).get("metricType") != "Value":
            yield "a mean of all servers is no sum to be shared by them: metricType must be Value"
        if "cpu" not in triggers:
            yield "CPU must be a trigger too: it rises before requests wait"
    for scaler in of_kind(documents, "HorizontalPodAutoscaler"):
        if not any(metric["type"] == "ContainerResource" for metric in scaler["spec"]["metrics"]):
            yield "CPU of the server's container must be a metric"


def servers_come_fast_and_go_slowly(documents: Sequence[Document]) -> Iterator[str]:
    for scaler in of_kind(documents, "ScaledObject", "HorizontalPodAutoscaler"):
        spec = scaler["spec"]
        behavior = spec.get("behavior") or spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get(
            "behavior", {}
        )
        up, down = behavior.get("scaleUp", {}), behavior.get("scaleDown", {})
        if up.get("stabilizationWindowSeconds", 0) > 60 or up.get("selectPolicy") != "Max":
            yield "scaleUp must not wait above 60 s, and take the largest step"
        slow = all(
            one["type"] == "Pods" and one["value"] == 1 for one in down.get("policies", [{"type": "", "value": 0}])
        )
        if down.get("stabilizationWindowSeconds", 0) < 300 or not slow:
            yield "scaleDown must wait 300 s or more, and take one pod at a time"


SCALING_RULES: Final[tuple[Rule, ...]] = (servers_scale_on_waiting_and_on_cpu, servers_come_fast_and_go_slowly)
