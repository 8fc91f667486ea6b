"""Writes dashboards/*.json for Grafana from the description below.

    python deploy/monitoring/dashboards.py

Grafana reads the folder with a file provider, or takes each file by "Import". A test runs every query against a real
Prometheus, and fails where a query names what nobody exports.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "dashboards"
COLUMNS: Final = 24
HEIGHT: Final = 8
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_RELEASE: Final = 'release=~"$release"'


@dataclass(frozen=True)
class Panel:
    """`queries` are PromQL by legend; `unit` is Grafana's name of one; `red` is where a value is bad."""

    title: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"
    width: int = 8
    height: int = HEIGHT
    about: str = ""
    red: float | None = None
    stacked: bool = False


@dataclass(frozen=True)
class Dashboard:
    """Rows of panels under headings; each row fills the width from the left."""

    name: str
    title: str
    rows: dict[str, list[Panel]]
    variables: list[dict[str, Any]] = field(default_factory=list)


def _burn(slo: str, budget: str) -> Panel:
    windows = {window: f"fraud:{slo}_error:ratio{window} / {budget}" for window in ("1h", "6h", "1d", "3d")}
    return Panel(
        f"Burn rate: {slo}",
        "none",
        windows,
        about="1 spends the budget of 30 days in 30 days; 14.4 over 1h and 6 over 6h page.",
        red=6,
    )


def _quantiles(histogram: str, labels: str = "", by: str = "le") -> dict[str, str]:
    return {
        name: f"histogram_quantile({share}, sum by ({by}) (rate({histogram}_bucket{labels}[$__rate_interval])))"
        for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
    }


def _query_variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }


def _choice_variable(name: str, label: str, values: tuple[str, ...], chosen: str) -> dict[str, Any]:
    return {
        "type": "custom",
        "name": name,
        "label": label,
        "query": ",".join(values),
        "current": {"text": chosen, "value": chosen},
        "options": [{"text": value, "value": value, "selected": value == chosen} for value in values],
    }


_RELEASE_VARIABLE: Final = _query_variable("release", "Release", "label_values(fraud_release_info, release)")
_FEATURE_VARIABLE: Final = _query_variable("feature", "Feature", "label_values(fraud_drift_evidence, feature)")
_WINDOW_VARIABLE: Final = _choice_variable("window", "Window", ("5m", "1h", "1d"), "1h")

SERVICE: Final = Dashboard(
    "service",
    "fraudserve: service",
    {
        "Promises": [
            _burn("availability", "0.0001"),
            _burn("latency", "0.01"),
            _burn("degraded", "0.001"),
        ],
        "Traffic and time": [
            Panel(
                "Transactions",
                "reqps",
                {
                    "{{release}} {{source}}": "sum by (release, source) "
                    f"(rate(fraud_transactions_total{{{_RELEASE}}}[$__rate_interval]))",
                    "answered again": "sum(rate(fraud_repeats_total[$__rate_interval]))",
                },
                about="First answers by who gave them, and repeats of what was answered before.",
                stacked=True,
            ),
            Panel(
                "Time in the front door",
                "s",
                _quantiles("fraud_front_door_seconds"),
                about="Per transaction: the stages of its dynamic batch. Triton's queue comes on top.",
                red=0.05,
            ),
            Panel("Mean wait in Triton's queue", "s", {"wait": "fraud:queue_wait_seconds:mean5m"}, red=0.05),
            Panel(
                "Stages of a batch, p99",
                "s",
                {
                    "{{stage}}": "histogram_quantile(0.99, sum by (stage, le) "
                    "(rate(fraud_stage_seconds_bucket[$__rate_interval])))"
                },
            ),
            Panel(
                "Deadline left, and late answers",
                "s",
                {
                    "left, p1": "histogram_quantile(0.01, sum by (le) "
                    "(rate(fraud_deadline_left_seconds_bucket[$__rate_interval])))",
                    "left, median": "histogram_quantile(0.5, sum by (le) "
                    "(rate(fraud_deadline_left_seconds_bucket[$__rate_interval])))",
                },
            ),
            Panel("Late answers", "percentunit", {"late": "fraud:late_answers:ratio15m"}, red=0.01),
        ],
        "What goes wrong": [
            Panel(
                "Requests that got no answer",
                "reqps",
                {
                    "{{reason}}": "sum by (reason) "
                    '(rate(nv_inference_request_failure{model="fraud_score"}[$__rate_interval]))',
                    "answered with our error": "sum(rate(fraud_failed_requests_total[$__rate_interval]))",
                },
            ),
            Panel("Refused requests", "percentunit", {"refused": "fraud:refused_requests:ratio15m"}, red=0.05),
            Panel(
                "Waiting requests",
                "none",
                {"{{model}}": "sum by (model) (nv_inference_pending_request_count)"},
                about="A number that stays up while nothing is answered is a stuck server.",
            ),
        ],
        "Decisions": [
            Panel(
                "Decisions, over $window",
                "percentunit",
                {
                    "{{release}} {{decision}}": f'fraud_decision_ratio{{{_RELEASE}, decision!="approve", '
                    'window="$window"}',
                    "{{release}} {{decision}}, reference": f"fraud_reference_decision_ratio{{{_RELEASE}, "
                    'decision!="approve"}',
                },
            ),
            Panel(
                "Scores",
                "none",
                {"{{le}}": f"sum by (le) (increase(fraud_score_bucket{{{_RELEASE}}}[$__rate_interval]))"},
                kind="heatmap",
            ),
            Panel(
                "Releases",
                "none",
                {
                    "answering": "fraud:releases_answering:count1h",
                    "followed by the sidecar": "sum(fraud_release_info)",
                },
            ),
        ],
        "Triton": [
            Panel(
                "Models: mean time",
                "µs",
                {
                    "{{model}}": "sum by (model) (rate(nv_inference_request_duration_us[$__rate_interval])) / "
                    "sum by (model) (rate(nv_inference_request_success[$__rate_interval]))"
                },
            ),
            Panel(
                "Rows in a batch",
                "none",
                {
                    "{{model}}": "sum by (model) (rate(nv_inference_count[$__rate_interval])) / "
                    "sum by (model) (rate(nv_inference_exec_count[$__rate_interval]))"
                },
            ),
            Panel(
                "Machine",
                "percentunit",
                {"CPU": "nv_cpu_utilization", "memory": "nv_cpu_memory_used_bytes / nv_cpu_memory_total_bytes"},
            ),
        ],
    },
    [_RELEASE_VARIABLE, _WINDOW_VARIABLE],
)

_SERIES: Final = f'{_RELEASE}, feature=~"$feature"'


def _effect(statistic: str, name: str) -> Panel:
    query = f'fraud_drift_effect{{{_SERIES}, statistic="{statistic}", window="$window"}}'
    return Panel(f"{name}, over $window", "none", {"{{release}} {{feature}}": query}, width=12)


DRIFT: Final = Dashboard(
    "drift",
    "fraudserve: drift and quality",
    {
        "What moved": [
            Panel(
                "Alerts",
                "none",
                {"{{release}} {{feature}}": f"fraud_drift_alert{{{_SERIES}}}"},
                kind="state-timeline",
                about="Evidence and effect size, corrected for many features; at most one false page a month.",
            ),
            Panel(
                "Evidence against no drift, log10 of the e-value",
                "none",
                {"{{release}} {{feature}}": f"fraud_drift_evidence{{{_SERIES}}}"},
            ),
            Panel(
                "Missing values",
                "percentunit",
                {"{{release}} {{feature}}": f'fraud_feature_missing_ratio{{{_RELEASE}, feature=~"$feature"}}'},
                red=0.01,
            ),
        ],
        "How far": [
            _effect("psi", "Population stability index"),
            _effect("ks", "Kolmogorov-Smirnov distance"),
            _effect("js", "Jensen-Shannon divergence"),
            _effect("wasserstein", "Wasserstein distance"),
        ],
        "Decisions against the reference": [
            Panel(
                "Factor",
                "none",
                {"{{release}} {{decision}} {{window}}": f"fraud:decision_shift:factor{{{_RELEASE}}}"},
                width=12,
                about="A decline storm is a factor above 3 in 5 min with more than 6 standard deviations.",
            ),
            Panel(
                "Standard deviations",
                "none",
                {"{{release}} {{decision}} {{window}}": f"fraud:decision_shift:sigmas{{{_RELEASE}}}"},
                width=12,
            ),
        ],
        "Quality": [
            Panel(
                "Precision",
                "percentunit",
                {
                    "{{release}} estimated": f"fraud_estimated_precision{{{_RELEASE}}}",
                    "{{release}} realised": f"fraud_realised_precision{{{_RELEASE}}}",
                },
                about="Estimated from calibrated scores, before labels; realised by matured labels.",
                width=6,
            ),
            Panel(
                "Recall",
                "percentunit",
                {
                    "{{release}} estimated": f"fraud_estimated_recall{{{_RELEASE}}}",
                    "{{release}} realised": f"fraud_realised_recall{{{_RELEASE}}}",
                },
                width=6,
            ),
            Panel(
                "Calibration error",
                "none",
                {"{{release}}": f"fraud_calibration_error{{{_RELEASE}}}"},
                width=6,
                red=0.01,
            ),
            Panel(
                "Labels",
                "none",
                {"is_fraud {{is_fraud}}": "sum by (is_fraud) (increase(fraud_labels_total[1h]))"},
                width=6,
                about="In the last hour.",
            ),
            Panel(
                "Evidence that labels are not what the scores say, log10",
                "none",
                {"{{release}}": f"fraud_label_evidence{{{_RELEASE}}}"},
                width=12,
                about="Matured labels; in alert for a day after it crossed its threshold.",
            ),
            Panel(
                "Alert of labels",
                "none",
                {"{{release}}": f"fraud_label_alert{{{_RELEASE}}}"},
                kind="state-timeline",
                width=12,
            ),
        ],
    },
    [_RELEASE_VARIABLE, _FEATURE_VARIABLE, _WINDOW_VARIABLE],
)

LOG: Final = Dashboard(
    "log",
    "fraudserve: decision log and sidecar",
    {
        "Is every answer in the log": [
            Panel(
                "Answers that are not in the log",
                "none",
                {"in the last hour": "sum(increase(fraud_gap_answers_total[1h]))"},
                kind="stat",
                height=4,
                red=1,
            ),
            Panel("Damaged logs", "none", {"damaged": "sum(fraud_log_damaged)"}, kind="stat", height=4, red=1),
            Panel(
                "Releases without a reference",
                "none",
                {"without": "sum(fraud_reference_mismatch)"},
                kind="stat",
                height=4,
                red=1,
            ),
        ],
        "Is there room for more": [
            Panel(
                "Free on the log's disk",
                "bytes",
                {"free": "min(fraud_log_free_bytes)"},
                width=24,
                about="When it is full, everyone is answered by the scorecard.",
            ),
        ],
        "Does somebody read it": [
            Panel("Behind, by writer", "s", {"{{writer}}": "max by (writer) (fraud_log_lag_seconds)"}, red=60),
            Panel("Unread, by writer", "bytes", {"{{writer}}": "max by (writer) (fraud_log_lag_bytes)"}),
            Panel("Age of the checkpoint", "s", {"age": "max(fraud_checkpoint_age_seconds)"}, red=300),
            Panel("Rows read", "rowsps", {"rows": "sum(rate(fraud_sidecar_rows_total[$__rate_interval]))"}),
            Panel("There", "none", {"{{job}}": 'max by (job) (up{job=~"triton|sidecar"})'}, kind="state-timeline"),
            Panel(
                "Alerts",
                "none",
                {"{{alertname}} {{severity}}": 'count by (alertname, severity) (ALERTS{alertstate="firing"})'},
                kind="state-timeline",
            ),
        ],
    },
)

_GATEWAY: Final = 'job="gateway"'
_GATEWAY_CALLS: Final = f'{_GATEWAY}, envoy_http_conn_manager_prefix="gateway"'
_CALLERS: Final = f'{_GATEWAY}, envoy_cluster_name!~"admin|jwks"'

GATEWAY: Final = Dashboard(
    "gateway",
    "fraudserve: gateway",
    {
        "Calls": [
            Panel(
                "Calls, by caller",
                "reqps",
                {
                    "{{envoy_cluster_name}}": "sum by (envoy_cluster_name) "
                    f"(rate(envoy_cluster_upstream_rq_completed{{{_CALLERS}}}[$__rate_interval]))"
                },
                about="Those that were let through, the ones over the caller's share with them.",
                stacked=True,
            ),
            Panel(
                "Time at the gateway",
                "ms",
                _quantiles("envoy_http_downstream_rq_time", f"{{{_GATEWAY_CALLS}}}"),
                about="From the call's first byte to the answer's last, servers and repeats included.",
                red=100,
            ),
            Panel(
                "Repeats, and calls whose time was over",
                "reqps",
                {
                    "sent again": f"sum(rate(envoy_cluster_upstream_rq_retry{{{_CALLERS}}}[$__rate_interval]))",
                    "time was over": "sum(rate(envoy_http_downstream_rq_max_duration_reached"
                    f"{{{_GATEWAY_CALLS}}}[$__rate_interval]))",
                },
            ),
        ],
        "What goes wrong": [
            Panel(
                "Refused",
                "percentunit",
                {"{{reason}}": "fraud:gateway_refused:ratio15m"},
                about="caller: not known or not listed; call: not offered; limit: over its rate or share; "
                "certificate: of the connections.",
                red=0.05,
            ),
            Panel(
                "Failed at the gateway",
                "percentunit",
                {"5 min": "fraud:gateway_failed:ratio5m", "1 h": "fraud:gateway_failed:ratio1h"},
                about="UNAVAILABLE for want of a server; what a server answers is in the dashboard service.",
                red=0.01,
            ),
            Panel(
                "Servers left out",
                "none",
                {
                    "{{envoy_cluster_name}}": "max by (envoy_cluster_name) "
                    f"(envoy_cluster_outlier_detection_ejections_active{{{_CALLERS}}})"
                },
                about="For one caller alone, after five failures running.",
            ),
        ],
        "Before it and behind it": [
            Panel("Healthy servers, by gateway", "none", {"{{instance}}": "fraud:gateway_servers:healthy"}),
            Panel(
                "Connections, by gateway",
                "none",
                {"{{instance}}": f"sum by (instance) (envoy_http_downstream_cx_active{{{_GATEWAY_CALLS}}})"},
            ),
            Panel(
                "Until the next certificate ends",
                "s",
                {"{{envoy_tls_certificate}}": "fraud:gateway_certificate:seconds_left"},
                about="certificate: its own; clients: the authorities that vouch for callers.",
            ),
        ],
    },
)

DASHBOARDS: Final = (SERVICE, DRIFT, LOG, GATEWAY)


def render(dashboard: Dashboard) -> str:
    """The dashboard as Grafana's JSON."""
    panels: list[dict[str, Any]] = []
    y = 0
    for heading, row in dashboard.rows.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": heading,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            }
        )
        y += 1
        x = 0
        for panel in row:
            if x + panel.width > COLUMNS:
                x, y = 0, y + panel.height
            panels.append(_panel(panel, len(panels) + 1, x, y))
            x += panel.width
        y += row[-1].height
    document = {
        "uid": f"fraudserve-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["fraudserve"],
        "schemaVersion": 39,
        "editable": False,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_DATASOURCE_VARIABLE, *dashboard.variables]},
        "panels": panels,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


_DATASOURCE_VARIABLE: Final = {
    "type": "datasource",
    "name": "datasource",
    "label": "Prometheus",
    "query": "prometheus",
    "current": {},
}


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red is not None:
        steps.append({"color": "red", "value": panel.red})
    custom: dict[str, Any] = {}
    if panel.kind == "timeseries":
        custom = {"fillOpacity": 10, "showPoints": "never"}
        if panel.stacked:
            custom["stacking"] = {"mode": "normal"}
        if panel.red is not None:
            custom["thresholdsStyle"] = {"mode": "dashed"}
    form = "heatmap" if panel.kind == "heatmap" else "time_series"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "custom": custom,
                "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}} if panel.kind == "timeseries" else {},
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": _SOURCE, "expr": query, "legendFormat": legend, "format": form}
            for i, (legend, query) in enumerate(panel.queries.items())
        ],
    }


if __name__ == "__main__":
    for each in DASHBOARDS:
        (FOLDER / f"{each.name}.json").write_text(render(each), encoding="utf-8")
        sys.stderr.write(f"wrote dashboards/{each.name}.json\n")
