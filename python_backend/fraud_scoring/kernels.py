"""Everything that is compiled on this machine, compiled: some ten seconds after a change of the code, else a moment.

`python -m fraud_scoring.kernels` does it ahead, so that the processes of a server that start at once find it done, and
do not all do the same work.
"""

from __future__ import annotations

import numpy as np

from fraud_scoring import branchless, summary
from fraud_scoring.features import replay
from fraud_scoring.schema import default_schema
from fraud_scoring.stores import arena


def load() -> None:
    """Compile the kernels, or load them from their cache, so that no caller waits for it."""
    schema = default_schema()
    replay(schema, np.ones((2, schema.width), np.int64))
    summary.load()
    arena.load()
    branchless.load()


if __name__ == "__main__":
    load()
