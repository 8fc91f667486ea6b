"""What a model process reads at its start."""

from __future__ import annotations

import numpy as np
import pytest

from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.settings import NUMPY_VERSION, Settings


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
