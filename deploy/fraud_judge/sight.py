"""What the judge saw at its last look: one small file beside its journal, replaced at every look.

It is for people and for whoever asks whether the judge lives. The judge itself never reads it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

SIGHT_FILE: Final = "last-look.json"


def keep_sight(home: Path, at_us: int, logs: Sequence[dict[str, Any]]) -> None:
    """Say when the judge looked, and how each log stood."""
    staged = home / f".{SIGHT_FILE}.new"
    staged.write_text(json.dumps({"at_us": at_us, "logs": list(logs)}) + "\n", encoding="utf-8")
    staged.replace(home / SIGHT_FILE)


def last_sight(home: Path) -> tuple[int, list[dict[str, Any]]]:
    """(when, logs) of the last look; (0, []) where there was none."""
    try:
        found = json.loads((home / SIGHT_FILE).read_text(encoding="utf-8"))
        return int(found["at_us"]), list(found["logs"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0, []
