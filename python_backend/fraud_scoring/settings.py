"""What a model process needs to know of its surroundings: read once, at start, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from fraud_scoring.errors import InvalidDefinition

STORE_VARIABLE: Final = "FRAUD_STORE"
STORE_IDS_VARIABLE: Final = "FRAUD_STORE_IDS"
LOG_VARIABLE: Final = "FRAUD_LOG"
LOG_MODE_VARIABLE: Final = "FRAUD_LOG_MODE"
LOG_KEY_VARIABLE: Final = "FRAUD_LOG_KEY"
LOG_MODES: Final = ("durable", "async")
MODELS_VARIABLE: Final = "FRAUD_MODELS"
INLINE: Final = "inline"
SERVED: Final = "served"
NUMPY_VERSION: Final = "1.26.4"


@dataclass(frozen=True)
class LogSettings:
    """`folder` holds a folder for each writer; `key` is the file of the key that signs."""

    folder: Path
    key: Path
    durable: bool

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> LogSettings | None:
        """The log's settings; None where no log is asked for."""
        folder = environment.get(LOG_VARIABLE, "")
        if not folder:
            return None
        mode = environment.get(LOG_MODE_VARIABLE, "durable")
        if mode not in LOG_MODES:
            raise InvalidDefinition(f"{LOG_MODE_VARIABLE} is {mode!r}; write one of {', '.join(LOG_MODES)}")
        key = environment.get(LOG_KEY_VARIABLE, "")
        if not key:
            raise InvalidDefinition(f"{LOG_KEY_VARIABLE} is not set; name the file of the key that signs the log")
        return cls(Path(folder), Path(key), mode == "durable")


@dataclass(frozen=True)
class Settings:
    """`store_url` says where the windows are, as `stores.open_store` reads it; `log` where decisions are logged.

    `store_ids` is the folder that remembers which store was there; None: nothing does when processes end. `models`:
    INLINE, where a release's graph runs in the front door's process unless this host has an engine for it, or SERVED,
    where each is asked through Triton in a process of its own.
    """

    store_url: str
    log: LogSettings | None = None
    store_ids: Path | None = None
    models: str = INLINE

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """The settings; InvalidDefinition names the variable that is missing, or a NumPy that cannot serve."""
        if np.__version__ != NUMPY_VERSION:
            # With NumPy 2 Triton's python backend 24.10 returns empty tensors and logs nothing.
            raise InvalidDefinition(f"NumPy is {np.__version__}; Triton's python backend needs {NUMPY_VERSION}")
        url = environment.get(STORE_VARIABLE, "")
        if not url:
            raise InvalidDefinition(
                f"{STORE_VARIABLE} is not set; write the window store's URL, as lmdb:///folder or redis://host"
            )
        ids = environment.get(STORE_IDS_VARIABLE, "")
        models = environment.get(MODELS_VARIABLE, INLINE)
        if models not in (INLINE, SERVED):
            raise InvalidDefinition(f"{MODELS_VARIABLE} is {models!r}; write {INLINE} or {SERVED}")
        return cls(url, LogSettings.read(environment), Path(ids) if ids else None, models)
