"""What a model process needs to know of its surroundings: read once, at start, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from fraud_scoring.errors import InvalidDefinition

STORE_VARIABLE: Final = "FRAUD_STORE"
NUMPY_VERSION: Final = "1.26.4"


@dataclass(frozen=True)
class Settings:
    """`store_url` says where the windows are, as `stores.open_store` reads it."""

    store_url: str

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """The settings; InvalidDefinition names the variable that is missing, or a NumPy that cannot serve."""
        if np.__version__ != NUMPY_VERSION:
            # With NumPy 2 Triton's python backend 24.10 returns empty tensors and logs nothing.
            raise InvalidDefinition(f"NumPy is {np.__version__}; Triton's python backend needs {NUMPY_VERSION}")
        url = environment.get(STORE_VARIABLE, "")
        if not url:
            raise InvalidDefinition(f"{STORE_VARIABLE} is not set; write the window store's URL, as lmdb:///folder")
        return cls(url)
