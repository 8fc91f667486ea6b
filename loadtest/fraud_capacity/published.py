"""The benchmark's tables in Markdown (`fraudctl bench --write`) as the result that they were made of."""

from __future__ import annotations

import re
from typing import Any, Final

from fraud_bench.rows import ROWS
from fraud_scoring.errors import InvalidInput

_CELLS: Final = 7
"""Title, transactions/s, p50, p99 and p99.9 in milliseconds, the server's and the client's microseconds."""
_MACHINE: Final = re.compile(r"^(\d+) cores of ", re.MULTILINE)


def read_tables(text: str) -> dict[str, Any]:
    """A result with the rows of the tables, their medians as they are shown; InvalidInput where there is none."""
    keys = {row.title: row.key for row in ROWS}
    rows = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == _CELLS and cells[0] in keys and cells[1] != "–":
            per_second, p50, p99, p999, server, client = (float(cell.replace(",", "")) for cell in cells[1:])
            median = {
                "per_second": per_second,
                "latency_ms": {"p50": p50, "p99": p99, "p99.9": p999},
                "cpu_us": {"server": server, "client": client},
            }
            rows.append({"key": keys[cells[0]], "title": cells[0], "median": median})
    machine = _MACHINE.search(text)
    if not rows or machine is None:
        raise InvalidInput("these are no tables of the benchmark; write them with: fraudctl bench --write FILE.md")
    return {"rows": rows, "machine": {"cores": int(machine.group(1))}, "logs": {}}
