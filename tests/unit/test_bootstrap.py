"""The environment is made on machines that can run it, and made anew unless it is whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bootstrap
from bootstrap import Refused, check_machine, fingerprint, is_ready

SCRIPT = Path(bootstrap.__file__)
GOOD = {"python": (3, 11, 7), "system": "Linux", "processor": "x86_64", "libc": ("glibc", "2.36")}


@pytest.mark.parametrize(
    "fine", [{"python": (3, 10, 0)}, {"python": (3, 12, 9)}, {"libc": ("glibc", "2.35")}, {"libc": ("glibc", "3.0")}]
)
def test_a_machine_that_can_run_it_is_let_through(fine: dict[str, object]) -> None:
    check_machine(**{**GOOD, **fine})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"python": (3, 9, 18)}, r"Python is 3\.9\.18; fraudserve needs 3\.10 to 3\.12\. Run: make PYTHON=python3\.11"),
        ({"python": (3, 13, 0)}, r"Python is 3\.13\.0; fraudserve needs 3\.10 to 3\.12"),
        ({"python": (2, 7, 18)}, r"Python is 2\.7\.18"),
        ({"system": "Darwin", "processor": "arm64"}, "this is Darwin arm64; the embedded Triton needs Linux x86_64"),
        ({"processor": "aarch64"}, "this is Linux aarch64; the embedded Triton needs Linux x86_64"),
        (
            {"libc": ("glibc", "2.31")},
            r"the C library is glibc 2\.31; Triton needs glibc 2\.35 or newer: use Debian 12",
        ),
        ({"libc": ("", "")}, "the C library is not glibc; Triton needs glibc"),
        ({"libc": ("musl", "1.2")}, r"the C library is musl 1\.2; Triton needs glibc"),
    ],
)
def test_a_machine_that_cannot_run_it_is_told_what_to_use_instead(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(Refused, match=said) as refusal:
        check_machine(**{**GOOD, **wrong})
    assert "\n" not in str(refusal.value)


def refused_pythons() -> list[Path]:
    """Interpreters on this machine that are too old or too new, each under its version."""
    found = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python"))
    return [path for path in found if not 10 <= int(path.parts[-3].split(".")[1]) <= 12]


def test_a_python_that_is_refused_is_told_so_in_one_line_and_makes_nothing(tmp_path: Path) -> None:
    pythons = refused_pythons()
    if not pythons:
        pytest.skip("no Python before 3.10 or after 3.12 on this machine")
    for python in pythons:
        ran = subprocess.run([python, SCRIPT, tmp_path / "venv"], capture_output=True, text=True, check=False)
        assert ran.returncode == 2, python
        assert ran.stdout == ""
        assert ran.stderr.startswith(f"setup: Python is {python.parts[-3]}; fraudserve needs 3.10 to 3.12")
        assert ran.stderr.count("\n") == 1
        assert not (tmp_path / "venv").exists()


def test_the_script_is_one_that_an_old_python_can_read_up_to_its_refusal() -> None:
    assert "from __future__ import annotations" not in SCRIPT.read_text().split('"""', 2)[2]


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """What looks like a whole environment, with this interpreter in it."""
    folder = tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    program(folder / "bin" / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    program(folder / "bin" / "fraudctl", "#!/bin/sh\n")
    program(folder / "bin" / "uv", "#!/bin/sh\n")
    (folder / "fraudserve.stamp").write_text(fingerprint())
    return folder


def test_a_whole_environment_is_ready(venv: Path) -> None:
    assert is_ready(venv)


def test_an_environment_that_is_not_there_is_not_ready(tmp_path: Path) -> None:
    assert not is_ready(tmp_path / "venv")
    (tmp_path / "venv").mkdir()
    assert not is_ready(tmp_path / "venv")


@pytest.mark.parametrize("stamp", [b"", b"0" * 64, b"\xff\xfe", None], ids=["empty", "another", "no text", "missing"])
def test_an_environment_without_the_stamp_of_this_lock_file_is_not_ready(venv: Path, stamp: bytes | None) -> None:
    path = venv / "fraudserve.stamp"
    if stamp is None:
        path.unlink()
    else:
        path.write_bytes(stamp)
    assert not is_ready(venv)


def test_a_stamp_that_is_a_folder_is_none(venv: Path) -> None:
    (venv / "fraudserve.stamp").unlink()
    (venv / "fraudserve.stamp").mkdir()
    assert not is_ready(venv)


@pytest.mark.parametrize("tool", ["python", "fraudctl", "uv"])
def test_an_environment_that_lacks_a_tool_is_not_ready(venv: Path, tool: str) -> None:
    (venv / "bin" / tool).unlink()
    assert not is_ready(venv)


def test_an_environment_whose_interpreter_does_not_start_is_not_ready(venv: Path) -> None:
    python = venv / "bin" / "python"
    for text in ("#!/bin/sh\nexit 1\n", "#!/nowhere/sh\n", "", "\0\0"):
        program(python, text)
        assert not is_ready(venv), text
    python.chmod(0o644)
    assert not is_ready(venv)
    python.unlink()
    python.symlink_to(venv / "nowhere")
    assert not is_ready(venv)


def test_an_interpreter_without_the_packages_is_not_ready(venv: Path) -> None:
    program(venv / "bin" / "python", f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    assert not is_ready(venv)


def test_what_the_environment_is_made_from_is_in_its_fingerprint() -> None:
    assert len(fingerprint()) == 64
    assert fingerprint() == fingerprint()
    for name in ("requirements.lock", "pyproject.toml", "deploy/bootstrap.py"):
        assert (bootstrap.ROOT / name).is_file()


def test_a_whole_environment_is_left_alone(venv: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in venv.rglob("*")}
    ran = subprocess.run([sys.executable, SCRIPT, venv], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert {path: path.stat().st_mtime_ns for path in venv.rglob("*")} == before


def test_parts_of_the_tests_that_cannot_be_installed_are_named_each_with_its_package(tmp_path: Path) -> None:
    for name in ("redis-server", "prometheus", "promtool", "amtool"):
        program(tmp_path / name, "#!/bin/sh\n")
    command = [sys.executable, SCRIPT, "--test-parts"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)})
    assert (ran.returncode, ran.stdout) == (0, "")
    assert ran.stderr.splitlines() == [
        "setup: installing chromium for the tests",
        "setup: chromium is not here; its tests are skipped. Run: apt-get install chromium",
    ]
    program(tmp_path / "chromium", "#!/bin/sh\n")
    again = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)})
    assert (again.returncode, again.stderr) == (0, "")
