"""The rules that deploy/terraform keeps, and that each of them notices what breaks it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from fraud_deploy.terraform_files import findings

TERRAFORM = Path(__file__).parents[3] / "deploy" / "terraform"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TERRAFORM, tmp_path / "terraform"))


@pytest.fixture
def change(copy: Path) -> Callable[[str, str, str], list[str]]:
    """Replace what a file says, once, and give the findings."""

    def changed(name: str, old: str, new: str) -> list[str]:
        text = (copy / name).read_text(encoding="utf-8")
        assert old in text
        (copy / name).write_text(text.replace(old, new, 1), encoding="utf-8")
        return findings(copy)

    return changed


def test_the_files_as_they_are_keep_every_rule() -> None:
    assert findings(TERRAFORM) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("versions.tf", '"5.100.0"', '"~> 5.100"', "is a range"),
        (
            "variables.tf",
            '  description = "AWS region that everything is made in, as eu-central-1."\n',
            "",
            "says nothing",
        ),
        ("modules/edge/variables.tf", "  type        = number\n", "", "takes anything"),
        ("modules/edge/main.tf", "limit              = var.requests_per_five_minutes", "limit = 100", "used by nobody"),
        ("modules/network/main.tf", "data.aws_region.here.name", '"eu-central-1"', "data aws_region.here is used by"),
        (
            "modules/bucket/main.tf",
            ":nobody acts on single objects; releases are fetched by name",
            "",
            "without a reason",
        ),
        (
            "modules/window_store/main.tf",
            "auth_token                 = data.aws_secretsmanager_random_password.token.random_password",
            'auth_token                 = "hunter2hunter2hunter2"',
            "a secret is written out",
        ),
        ("modules/edge/outputs.tf", '  description = "The firewall."\n', "", "output web_acl_arn says nothing"),
    ],
)
def test_what_breaks_a_rule_is_named(
    change: Callable[[str, str, str], list[str]], name: str, old: str, new: str, said: str
) -> None:
    module = name.rpartition("/")[0]
    (found,) = change(name, old, new)
    assert found.startswith(module)
    assert said in found


def test_a_variable_of_the_root_is_checked_before_anything_is_made(copy: Path) -> None:
    with (copy / "variables.tf").open("a", encoding="utf-8") as variables:
        variables.write('\nvariable "more" {\n  description = "x"\n  type        = string\n}\n')
    assert findings(copy) == [
        "variables.tf: variable more is not checked; give it a validation with a message",
        "variables.tf: variable more is used by nobody; take it away",
    ]


def test_the_charts_pools_are_those_that_terraform_makes() -> None:
    chart = TERRAFORM.parent / "helm" / "fraudserve"
    values = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(chart.glob("values*.yaml"))]
    selectors = [selector for one in values if (selector := one.get("server", {}).get("nodeSelector"))]
    assert selectors != []
    nodes = (TERRAFORM / "modules" / "cluster" / "nodes.tf").read_text(encoding="utf-8")
    for selector in selectors:
        ((label, pool),) = selector.items()
        assert f'"{label}" = each.key' in nodes
        assert f"\n    {pool} = {{" in nodes
