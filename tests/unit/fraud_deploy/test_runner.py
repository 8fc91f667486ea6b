"""How the checks of deploy/ end, and which of its files got how far."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import bootstrap
from fraud_deploy import __main__ as command
from fraud_deploy import runner
from fraud_deploy.check import Check, CheckFailed, CheckSkipped, Level
from fraud_deploy.coverage import coverage
from fraud_deploy.report import as_json, as_text
from fraud_deploy.runner import all_checks, chosen, run_all, run_one
from fraud_deploy.toolbox import DEBIAN, ProgramFailed, Toolbox, how_to_get


@pytest.fixture
def toolbox(tmp_path: Path) -> Toolbox:
    """A tree with three files under deploy/, known to git, and one program of its tools."""
    root = tmp_path / "tree"
    for name in ("helm/values.yaml", "helm/chart.yaml", "docker/Dockerfile", "code.py"):
        path = root / "deploy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    tool = root / "tools" / "bin" / "speaks"
    tool.parent.mkdir(parents=True)
    tool.write_text('#!/bin/sh\necho "said $1"\necho complaint >&2\ncat\nexit ${2:-0}\n')
    tool.chmod(0o755)
    subprocess.run(["git", "init", "-q", root], check=True)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Toolbox(scratch, root, root / "tools")


def nothing(_: Toolbox) -> None:
    """A check that passes."""


def fails(_: Toolbox) -> None:
    raise CheckFailed("values.yaml: replicas is 1, must be 2 or more: raise it")


def check(
    name: str = "helm.values",
    files: tuple[str, ...] = ("helm/*.yaml",),
    level: Level = "lint",
    needs: tuple[str, ...] = (),
    run: Callable[[Toolbox], None] = nothing,
) -> Check:
    return Check(name, files, level, needs, run)


def test_a_check_that_returns_has_passed(toolbox: Toolbox) -> None:
    assert run_one(check(), toolbox).outcome == "passed"


def test_a_check_that_fails_says_why(toolbox: Toolbox) -> None:
    result = run_one(check(run=fails), toolbox)
    assert (result.outcome, result.said) == ("failed", "values.yaml: replicas is 1, must be 2 or more: raise it")


def test_a_check_whose_program_is_missing_is_skipped_and_says_how_to_get_it(toolbox: Toolbox) -> None:
    result = run_one(check(needs=("no-such-program",), run=fails), toolbox)
    assert (result.outcome, result.said) == ("skipped", "no-such-program is not here: make deploy-tools")


def test_a_check_may_skip_itself(toolbox: Toolbox) -> None:
    def skips(_: Toolbox) -> None:
        raise CheckSkipped("user namespaces are off: sysctl kernel.unprivileged_userns_clone=1")

    assert run_one(check(run=skips), toolbox).outcome == "skipped"


def test_a_check_that_matches_no_file_has_failed(toolbox: Toolbox) -> None:
    result = run_one(check(files=("helm/*.yaml", "compose/*.yaml")), toolbox)
    assert result.outcome == "failed"
    assert "deploy/compose/*.yaml matches no file" in result.said


def test_an_error_that_is_a_bug_is_not_taken_for_a_finding(toolbox: Toolbox) -> None:
    def broken(_: Toolbox) -> None:
        raise KeyError("metadata")

    with pytest.raises(KeyError):
        run_one(check(run=broken), toolbox)


def test_each_check_has_an_empty_folder_of_its_own_that_is_gone_afterwards(toolbox: Toolbox) -> None:
    seen: list[Path] = []
    said: list[str] = []

    def writes(box: Toolbox) -> None:
        assert list(box.scratch.iterdir()) == []
        (box.scratch / "rendered.yaml").write_text("x")
        seen.append(box.scratch)

    results = run_all([check("helm.one", run=writes), check("helm.two", run=writes)], toolbox, said.append)
    assert [result.outcome for result in results] == ["passed", "passed"]
    assert len(set(seen)) == 2
    assert [line.split(" in ")[0] for line in said] == ["1/2 helm.one passed", "2/2 helm.two passed"]
    assert list(toolbox.scratch.iterdir()) == []


def test_the_tools_of_the_project_come_before_those_of_the_machine(toolbox: Toolbox) -> None:
    shadow = toolbox.tools / "bin" / "cat"
    shadow.write_text("#!/bin/sh\n")
    assert toolbox.program("cat") == shadow
    assert toolbox.program("sh") != toolbox.tools / "bin" / "sh"


def test_a_missing_program_comes_with_the_package_that_brings_it() -> None:
    assert how_to_get("promtool") == "apt-get install prometheus"
    assert how_to_get("helm") == "make deploy-tools"


def test_a_program_gives_back_what_it_wrote_and_is_given_its_input(toolbox: Toolbox) -> None:
    assert toolbox.run("speaks", "this", given="and that") == "said this\nand that"


def test_a_program_that_fails_is_named_with_its_code_and_its_words(toolbox: Toolbox) -> None:
    with pytest.raises(ProgramFailed, match=r"speaks this 3 ended with code 3\nsaid this\ncomplaint"):
        toolbox.run("speaks", "this", "3")
    assert toolbox.run("speaks", "this", "3", good=(0, 3)) == "said this\n"


def test_a_program_that_hangs_is_ended_and_named(toolbox: Toolbox) -> None:
    with pytest.raises(ProgramFailed, match=r"sleep 60 did not end within 0\.1 s"):
        toolbox.run("sleep", "60", timeout=0.1)


def test_a_file_has_the_best_level_that_a_passed_check_gave_it(toolbox: Toolbox) -> None:
    checks = [
        check("helm.lint"),
        check("helm.schema", ("helm/values.yaml",), "schema"),
        check("helm.run", ("helm/*.yaml",), "run", run=fails),
    ]
    covered = {one.path: one for one in coverage([run_one(one, toolbox) for one in checks], toolbox)}
    assert {path: one.level for path, one in covered.items()} == {
        "docker/Dockerfile": "none",
        "helm/chart.yaml": "lint",
        "helm/values.yaml": "schema",
    }
    assert covered["helm/values.yaml"].passed == ("helm.lint", "helm.schema")
    assert covered["helm/values.yaml"].other == ("helm.run (failed)",)


def test_what_git_ignores_is_not_a_file_of_deploy(toolbox: Toolbox) -> None:
    (toolbox.root / ".gitignore").write_text("*.log\n")
    (toolbox.deploy / "docker" / "build.log").write_text("x")
    assert "docker/build.log" not in {one.path for one in coverage([], toolbox)}


def test_the_report_names_each_file_each_check_and_why_one_was_left_out(toolbox: Toolbox) -> None:
    results = [run_one(one, toolbox) for one in (check(), check("helm.x", needs=("nowhere",)), check("a.b", run=fails))]
    covered = coverage(results, toolbox)
    text = as_text(results, covered, 1.0)
    assert "none    docker/Dockerfile   (no check)" in text
    assert "helm.x: nowhere is not here: make deploy-tools" in text
    assert "a.b: values.yaml: replicas is 1" in text
    assert "3 checks in 1 s: 1 passed, 1 failed, 1 skipped" in text
    assert "3 files: 0 run, 0 schema, 2 lint, 1 none" in text
    found = json.loads(json.dumps(as_json(results, covered, 1.0)))
    assert found["passed"] is False
    assert found["levels"] == {"none": 1, "lint": 2}
    assert [one["outcome"] for one in found["checks"]] == ["passed", "skipped", "failed"]


def test_every_area_gives_checks_that_are_named_for_it_and_look_at_files() -> None:
    every = all_checks()
    assert {"monitoring", "tools"} <= {one.area for one in every}
    box = Toolbox(Path())
    assert [one.name for one in every for pattern in one.files if not any(box.deploy.glob(pattern))] == []


def test_a_choice_is_an_area_or_a_check() -> None:
    every = [check("helm.a"), check("helm.b"), check("docker.c")]
    assert [one.name for one in chosen(every, ["helm"])] == ["helm.a", "helm.b"]
    assert [one.name for one in chosen(every, ["docker.c", "helm.b"])] == ["helm.b", "docker.c"]
    assert chosen(every, []) == every
    with pytest.raises(ValueError, match="no check and no area is named compose; areas: docker, helm"):
        chosen(every, ["compose"])


def test_the_command_ends_with_1_where_a_check_failed_and_2_for_a_name_that_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def of(*checks: Check) -> None:
        monkeypatch.setattr(command, "all_checks", lambda: list(checks))

    of(check("tools.good", ("deploy-tools.in",)))
    assert command.main(["check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outcomes"] == {"passed": 1}
    of(check("tools.bad", ("deploy-tools.in",), run=fails))
    assert command.main(["check"]) == 1
    assert command.main(["check", "--only", "nothing"]) == 2


def test_two_checks_of_one_name_and_a_name_of_another_area_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    area = tmp_path / "area.py"
    monkeypatch.setattr(runner.areas, "__path__", [str(tmp_path)])
    head = "from fraud_deploy.check import Check\ndef checks():\n    return "
    try:
        area.write_text(f"{head}[Check('other.a', (), 'lint', (), print)]\n")
        with pytest.raises(ValueError, match=r"checks of area must be named area\.something, not other\.a"):
            all_checks()
        sys.modules.pop("fraud_deploy.checks.area")
        area.write_text(f"{head}[Check('area.twice', (), 'lint', (), print)] * 2\n")
        with pytest.raises(ValueError, match=r"more than one check is named area\.twice"):
            all_checks()
    finally:
        sys.modules.pop("fraud_deploy.checks.area", None)


def test_what_the_checks_ask_for_from_debian_is_what_the_environment_installs() -> None:
    assert bootstrap.DEPLOY_PARTS == DEBIAN
