"""Runs the command line in this process, as a shell would see it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fraudctl.cli import main
from support.release import empty_repository

NOBODY = "127.0.0.1:1"
"""An address at which no server is."""


class Ran(NamedTuple):
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object that is all of standard output."""
        assert self.out.count("\n") == 1, self.out
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def complaint(self) -> str:
        """The last line on standard error, with nothing on standard output and no trace anywhere."""
        assert self.out == ""
        assert "Traceback" not in self.err
        return self.err.splitlines()[-1]


Fraudctl = Callable[..., Ran]


@pytest.fixture
def fraudctl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Fraudctl:
    """`fraudctl("data", "describe", …)`: the exit code and what was written."""
    for name in ("FRAUD_TOKEN_KEY", "FRAUD_REGISTRY", "FRAUD_REGISTRY_DISTINCT_ACCOUNTS"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return Ran(int(ended.value.code or 0), shown.out, shown.err)

    return run


@pytest.fixture(scope="session")
def nobody() -> str:
    return NOBODY


@pytest.fixture(scope="session")
def transactions(small_data_file: Path) -> Path:
    """A file of 75 simulated days."""
    return small_data_file


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A model repository without a release."""
    return empty_repository(tmp_path / "models")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where a command keeps what it needs."""
    return tmp_path / "home"


@pytest.fixture
def with_release(served_repository: Path, tmp_path: Path) -> Path:
    """A model repository of the test's own, whose release r0001 takes the traffic."""
    return Path(shutil.copytree(served_repository, tmp_path / "with_release"))
