"""Names of the files that a release carries for those who look at it later; no server opens one.

They stand apart from what reads them: a server that verifies a release must not import what trained it.
"""

from __future__ import annotations

from typing import Final

CHECK_ROWS_FILE: Final = "check_rows.npz"
TREES_FILE: Final = "trained.txt"
NETWORK_FILE: Final = "network.json"
TRAINED_FILES: Final = (TREES_FILE, NETWORK_FILE)
