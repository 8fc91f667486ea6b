"""Who may import whom, read from the sources of all packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ("python_backend", "clients", "loadtest", "deploy")

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "fraud_scoring": (),
    "fraud_client": ("fraud_scoring.wire",),
    "fraud_data": ("fraud_scoring",),
    "fraud_release": ("fraud_scoring", "fraud_data"),
    "fraud_server": ("fraud_scoring", "fraud_client", "fraud_data", "fraud_release"),
    "fraud_load": ("fraud_scoring", "fraud_client", "fraud_data"),
    "fraud_bench": ("fraud_scoring", "fraud_client", "fraud_data", "fraud_server", "fraud_load"),
    "fraud_capacity": ("fraud_scoring", "fraud_data", "fraud_bench"),
    # the log's reader, the schema, a release's reference, names, how a program stops: nothing that scores or answers
    "drift_sidecar": tuple(
        f"fraud_scoring.{part}"
        for part in ("bins", "decision_log", "errors", "reference", "releases", "schema", "stopping", "wire")
    ),
    "fraud_judge": ("fraud_scoring",),
    # the checks of deploy/ run what is there as a program, from outside
    "fraud_deploy": ("fraud_gateway", "fraud_server.ports"),
    "fraud_gateway": ("fraud_scoring.wire",),
    "fraud_recovery": ("fraud_scoring", "fraud_release", "fraud_server"),
    "fraudctl": (
        "fraud_scoring",
        "fraud_client",
        "fraud_data",
        "fraud_release",
        "fraud_server",
        "fraud_load",
        "fraud_bench",
        "fraud_capacity",
        "fraud_judge",
        "fraud_recovery",
        "drift_sidecar",
    ),
}
"""Each package of ours, and the packages and modules of ours that it may import beside itself."""

PACKAGES = {
    init.parent.name: init.parent for root in SOURCE_ROOTS for init in sorted((ROOT / root).glob("*/__init__.py"))
}
MODEL_FILES = sorted([*(ROOT / "model_repository").rglob("model.py"), *(ROOT / "python_backend").rglob("model.py")])
SOURCES = sorted({*MODEL_FILES, *(path for root in SOURCE_ROOTS for path in (ROOT / root).rglob("*.py"))})
TRITON = "triton_python_backend_utils"


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(what is imported, in which line); `from a import b` is a.b, and a relative import begins with a dot."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from ((str(name.value), node.lineno) for name in node.args[:1] if isinstance(name, ast.Constant))


def ours(path: Path) -> Iterator[tuple[str, str]]:
    """(import of one of our packages, where it stands)."""
    for name, line in imports(path):
        if name.split(".")[0] in MAY_IMPORT:
            yield name, f"{path.relative_to(ROOT)}:{line}"


def within(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in allowed)


def test_every_package_has_its_rule() -> None:
    assert set(PACKAGES) <= set(MAY_IMPORT)
    assert len(PACKAGES) >= 7


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_imports_only_what_it_may(package: str) -> None:
    found = [(name, place) for path in PACKAGES[package].rglob("*.py") for name, place in ours(path)]
    assert [f"{place}: {name}" for name, place in found if not within(name, (package, *MAY_IMPORT[package]))] == []


def test_nobody_imports_the_command_line() -> None:
    users = [
        place
        for path in SOURCES
        if not path.is_relative_to(PACKAGES["fraudctl"])
        for name, place in ours(path)
        if within(name, ("fraudctl",))
    ]
    assert users == []


def test_imports_are_written_in_full() -> None:
    assert [
        f"{path.relative_to(ROOT)}:{line}" for path in SOURCES for name, line in imports(path) if name[0] == "."
    ] == []


def test_the_wire_contract_costs_a_client_no_more_than_its_words() -> None:
    """`fraud_client` gets what `fraud_scoring.wire` imports: neither numba nor a store may come with it."""
    reached, pending = set[str](), ["fraud_scoring.wire"]
    while pending:
        module = pending.pop()
        reached.add(module)
        path = PACKAGES["fraud_scoring"].parent / (module.replace(".", "/") + ".py")
        pending += [
            part
            for name, _ in ours(path)
            for part in (name, name.rpartition(".")[0])
            if (PACKAGES["fraud_scoring"].parent / (part.replace(".", "/") + ".py")).exists() and part not in reached
        ]
    assert reached == {"fraud_scoring.wire", "fraud_scoring.reasons"}
    assert list(imports(PACKAGES["fraud_scoring"] / "__init__.py")) == []


def test_what_keeps_a_server_running_learns_nothing() -> None:
    """What trains takes two seconds of processor time to import, at each start of a server."""
    script = "import sys, fraud_server.supervisor; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "fraud_release" in loaded
    assert set(loaded) & {"lightgbm", "sklearn", "pandas", "polars", "onnx", "mlflow"} == set()


@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_model_file_only_converts_calls_and_converts(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    assert [place for name, place in ours(path) if not within(name, ("fraud_scoring",))] == []
    assert "sys.path" not in text


def test_only_the_one_converter_and_the_onnx_backend_know_triton() -> None:
    users = {str(path.relative_to(ROOT)) for path in SOURCES for name, _ in imports(path) if within(name, (TRITON,))}
    assert users == {"python_backend/fraud_scoring/triton_io.py", "python_backend/onnxruntime/model.py"}


def test_only_the_registry_knows_mlflow() -> None:
    """It takes seconds to import and a hundred megabytes: nothing that serves may meet it."""
    users = {str(path.relative_to(ROOT)) for path in SOURCES for name, _ in imports(path) if within(name, ("mlflow",))}
    registry = "deploy/fraud_release/registry"
    assert users == {f"{registry}/catalogue.py", f"{registry}/audit_stores.py"}


def test_the_model_files_of_the_repository_are_there() -> None:
    """Else the tests above would look at nothing."""
    names = {str(path.relative_to(ROOT)) for path in MODEL_FILES}
    assert {
        "model_repository/fraud_front_door/1/model.py",
        "model_repository/fraud_feedback/1/model.py",
        "model_repository/release_template/features/1/model.py",
        "model_repository/release_template/decision/1/model.py",
        "python_backend/onnxruntime/model.py",
    } <= names
