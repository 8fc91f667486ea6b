"""deploy/monitoring and the runbooks: by the programs that read them; dashboards by what writes them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Final

import yaml

from fraud_deploy.check import Check, CheckFailed
from fraud_deploy.toolbox import Toolbox

_LINK: Final = re.compile(r"\]\((?!https?:)([^)#\s]+)")
_PANEL_FIELDS: Final = {"id", "type", "title", "gridPos"}


def checks() -> list[Check]:
    return [
        Check("monitoring.prometheus", ("monitoring/prometheus.yml",), "schema", ("promtool",), _prometheus_takes_it),
        Check(
            "monitoring.rules",
            ("monitoring/rules/*.yaml", "monitoring/tests/*.yaml"),
            "run",
            ("promtool",),
            _rules_answer_as_their_tests_say,
        ),
        Check("monitoring.samples", ("monitoring/tests/*.prom",), "schema", ("promtool",), _samples_can_be_scraped),
        Check(
            "monitoring.alertmanager", ("monitoring/alertmanager.yml",), "schema", ("amtool",), _alertmanager_takes_it
        ),
        Check("monitoring.dashboards", ("monitoring/dashboards/*.json",), "lint", (), _dashboards_are_as_written),
        Check(
            "monitoring.runbooks", ("runbooks/*.md", "runbooks/procedures/*.md"), "lint", (), _runbooks_can_be_followed
        ),
    ]


def _prometheus_takes_it(toolbox: Toolbox) -> None:
    toolbox.run("promtool", "check", "config", toolbox.deploy / "monitoring" / "prometheus.yml")


def _rules_answer_as_their_tests_say(toolbox: Toolbox) -> None:
    folder = toolbox.deploy / "monitoring" / "tests"
    toolbox.run("promtool", "test", "rules", *sorted(folder.glob("*_test.yaml")), cwd=folder)


def _samples_can_be_scraped(toolbox: Toolbox) -> None:
    for path in sorted((toolbox.deploy / "monitoring" / "tests").glob("*.prom")):
        # 3: it can be read, and the names are not what promtool would call them (Triton's are not ours to change)
        toolbox.run("promtool", "check", "metrics", given=path.read_text(encoding="utf-8"), good=(0, 3))


def _alertmanager_takes_it(toolbox: Toolbox) -> None:
    toolbox.run("amtool", "check-config", toolbox.deploy / "monitoring" / "alertmanager.yml")


def _dashboards_are_as_written(toolbox: Toolbox) -> None:
    """Grafana is not to be had here: the files are those that dashboards.py writes, and whole by Grafana's model."""
    before = {path: path.read_bytes() for path in (toolbox.deploy / "monitoring" / "dashboards").glob("*.json")}
    script = toolbox.scratch / "dashboards.py"
    script.write_bytes((toolbox.deploy / "monitoring" / "dashboards.py").read_bytes())
    (toolbox.scratch / "dashboards").mkdir()
    toolbox.run(Path(sys.executable), script)
    for path, content in before.items():
        written = toolbox.scratch / "dashboards" / path.name
        if not written.exists() or written.read_bytes() != content:
            raise CheckFailed(f"dashboards/{path.name} is not what dashboards.py writes: run it, edit no JSON by hand")
        for panel in json.loads(content)["panels"]:
            if missing := _PANEL_FIELDS - set(panel):
                raise CheckFailed(f"dashboards/{path.name}: a panel has no {', '.join(sorted(missing))}")


def _runbooks_can_be_followed(toolbox: Toolbox) -> None:
    """Every alert has its page, and every page that another one names is there."""
    folder = toolbox.deploy / "runbooks"
    for path in sorted((toolbox.deploy / "monitoring" / "rules").glob("*.yaml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for alert in filter(None, (rule.get("alert") for rule in group["rules"])):
                if not (folder / f"{alert}.md").is_file():
                    raise CheckFailed(f"alert {alert} ({path.name}) has no runbook: write runbooks/{alert}.md")
    for page in sorted(folder.rglob("*.md")):
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            if not (page.parent / target).exists():
                raise CheckFailed(
                    f"runbooks/{page.relative_to(folder)} links to {target}, which is not there: mend the link"
                )
