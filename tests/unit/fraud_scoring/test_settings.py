"""What a model process reads at its start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.settings import NUMPY_VERSION, LogSettings, Settings


def test_the_stores_url_is_read() -> None:
    assert Settings.read({"FRAUD_STORE": "lmdb:///var/store"}) == Settings(store_url="lmdb:///var/store")


@pytest.mark.parametrize("environment", [{}, {"FRAUD_STORE": ""}])
def test_a_missing_variable_is_named_with_an_example(environment: dict[str, str]) -> None:
    with pytest.raises(InvalidDefinition, match="FRAUD_STORE is not set; write the window store's URL, as lmdb:///"):
        Settings.read(environment)


def test_a_numpy_that_cannot_serve_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "__version__", "2.1.0")
    with pytest.raises(InvalidDefinition, match=f"NumPy is 2.1.0; Triton's python backend needs {NUMPY_VERSION}"):
        Settings.read({"FRAUD_STORE": "memory:"})


LOGGED = {"FRAUD_STORE": "memory:", "FRAUD_LOG": "/var/log", "FRAUD_LOG_KEY": "/etc/key"}


def test_a_log_is_durable_unless_it_is_asked_not_to_be() -> None:
    assert Settings.read(LOGGED).log == LogSettings(Path("/var/log"), Path("/etc/key"), durable=True)
    asynchronous = Settings.read({**LOGGED, "FRAUD_LOG_MODE": "async"}).log
    assert asynchronous is not None
    assert not asynchronous.durable


def test_without_its_folder_there_is_no_log() -> None:
    assert Settings.read({**LOGGED, "FRAUD_LOG": ""}).log is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"FRAUD_LOG_MODE": "lazy"}, "FRAUD_LOG_MODE is 'lazy'; write one of durable, async"),
        ({"FRAUD_LOG_KEY": ""}, "FRAUD_LOG_KEY is not set; name the file of the key that signs the log"),
    ],
)
def test_a_log_that_cannot_be_kept_is_refused_at_the_start(changes: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidDefinition, match=message):
        Settings.read({**LOGGED, **changes})


def test_graphs_run_in_the_front_door_unless_they_are_to_have_processes_of_their_own() -> None:
    assert Settings.read({"FRAUD_STORE": "lmdb:///x"}).models == "inline"
    assert Settings.read({"FRAUD_STORE": "lmdb:///x", "FRAUD_MODELS": "served"}).models == "served"
    with pytest.raises(InvalidDefinition, match="FRAUD_MODELS is 'here'; write inline or served"):
        Settings.read({"FRAUD_STORE": "lmdb:///x", "FRAUD_MODELS": "here"})
