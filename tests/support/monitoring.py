"""Prometheus for tests: the rules and dashboards as data, what a query reads, and answers that are waited for."""

from __future__ import annotations

import json
import re
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from fraud_server.monitoring import HOW_TO_GET, Monitoring

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "monitoring"
RULE_FILES: Final = sorted((FOLDER / "rules").glob("*.yaml"))
RULES: Final[list[dict[str, Any]]] = [
    rule for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
]
RECORDS: Final = {rule["record"] for rule in RULES if "record" in rule}
NEEDS_A_WEEK: Final = {"fraud:estimated_quality:factor", "fraud:realised_quality:factor"}
"""Records that compare with the week before: promtool tests their values, a fresh Prometheus has none."""
QUERIES: Final = {
    f"{document['uid']} - {panel['title']} - {target['legendFormat']}": target["expr"]
    for document in (json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json")))
    for panel in document["panels"]
    for target in panel.get("targets", ())
}
"""Every query of every dashboard, by dashboard, panel and legend."""
FAMILY: Final = re.compile(r"^# TYPE (\w+ \w+)$", flags=re.MULTILINE)
"""Name and kind of what an exposition has."""
OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Loopback needs no proxy."""
_PROGRAMS: Final = (("prometheus",), ("promtool",), ("alertmanager", "prometheus-alertmanager"), ("amtool",))
_MISSING: Final = [names[0] for names in _PROGRAMS if not any(map(shutil.which, names))]

needs_prometheus = pytest.mark.skipif(bool(_MISSING), reason=f"{', '.join(_MISSING)} not installed: {HOW_TO_GET}")


def get(url: str, **parameters: str) -> Any:
    """A JSON answer."""
    with OPENER.open(f"{url}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
        return json.load(answer)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 45) -> Any:
    """The first true value of `condition`; it is asked again until then."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        with suppress(OSError):
            if found := condition():
                return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:g} s: {what}")


def names(monitoring: Monitoring) -> set[str]:
    """Every metric that this Prometheus has."""
    return set(get(f"{monitoring.prometheus_url}/api/v1/label/__name__/values")["data"])


def ask(monitoring: Monitoring, query: str) -> list[Any]:
    """The result of a query as of now; a query that cannot be parsed raises."""
    answer = get(f"{monitoring.prometheus_url}/api/v1/query", query=query)
    assert answer["status"] == "success", answer
    result: list[Any] = answer["data"]["result"]
    return result


def metrics_of(query: str) -> set[str]:
    """Names of the metrics that a query reads: what is left of it without matchers, texts, functions and keywords."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"|\b(?:by|without|on|ignoring|group_left)\s*\([^)]*\)", " ", query)
    words = re.findall(r"(?<![\w.])[a-zA-Z_][\w:]*(?!\w)(?!\s*\()", bare)
    return set(words) - {"or", "and", "unless", "bool", "offset", "group_left"}


def as_grafana_asks(query: str) -> str:
    """A dashboard's query with its variables replaced."""
    for variable, value in (("$release", ".*"), ("$feature", ".*"), ("$window", "1h"), ("$__rate_interval", "1m")):
        query = query.replace(variable, value)
    assert "$" not in query
    return query
