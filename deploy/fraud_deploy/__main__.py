"""`python -m fraud_deploy check`: exit code 0 if no check failed, 1 if one did, 2 for a name that is none."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fraud_deploy.coverage import coverage
from fraud_deploy.report import as_json, as_text
from fraud_deploy.runner import all_checks, chosen, run_all
from fraud_deploy.toolbox import Toolbox


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; the report on standard output, progress on standard error."""
    asked = _arguments(arguments)
    began = time.monotonic()
    try:
        checks = chosen(all_checks(), asked.only)
    except ValueError as error:
        sys.stderr.write(f"deploy-check: {error}\n")
        return 2
    if asked.list:
        sys.stdout.write("".join(f"{check.level:<7} {check.name}\n" for check in checks))
        return 0
    with tempfile.TemporaryDirectory(prefix="fraud-deploy-") as folder:
        toolbox = Toolbox(Path(folder))
        results = run_all(checks, toolbox, lambda line: print(f"deploy-check: {line}", file=sys.stderr))  # noqa: T201
        covered = coverage(results, toolbox)
    seconds = time.monotonic() - began
    if asked.json:
        sys.stdout.write(json.dumps(as_json(results, covered, seconds)) + "\n")
    else:
        sys.stdout.write(as_text(results, covered, seconds) + "\n")
    return int(any(result.outcome == "failed" for result in results))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fraud_deploy", description=__doc__)
    check = parser.add_subparsers(required=True, metavar="check").add_parser("check", help="run the checks")
    check.add_argument("--json", action="store_true", help="one JSON object on standard output")
    check.add_argument("--only", action="append", default=[], metavar="NAME", help="an area or a check; repeatable")
    check.add_argument("--list", action="store_true", help="the checks, and run none")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
