"""Writes a release again and again, killed (SIGKILL) before its 1st, 2nd, 3rd … change to the repository.

`python killed_writer.py BASE WORK [sign | copy]`: it writes the next release, or signs release 1 anew with the key in
BASE.key, or copies it anew. WORK/1, WORK/2, … are copies of the repository BASE as each killing left them; the last one
is the copy in which the writer came to its end. Prints their number.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from fraud_release.assembly import next_release, write_release
from fraud_release.serving_copy import copy_release
from fraud_release.signing import sign_release
from fraud_release.trust import TrustSettings, open_signing_key, public_key_file, read_public_keys
from fraud_scoring.releases import DECISION_FILE, GOLDEN_FILE, MODEL_FILE, SCHEMA_FILE
from fraud_scoring.schema import default_schema

CHANGES = {"open", "os.mkdir", "os.chmod", "os.rename", "os.rmdir", "os.remove", "shutil.rmtree"}


def die_before_change(number: int, repository: Path) -> None:
    """From now on count what Python is about to do to files of the repository, and end at `number`."""
    count = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event in CHANGES and str(arguments[0]).startswith(str(repository)):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def write(repository: Path) -> None:
    schema = default_schema()
    contents = {
        MODEL_FILE: b"graph",
        DECISION_FILE: b"{}",
        GOLDEN_FILE: b"golden",
        SCHEMA_FILE: schema.document.encode(),
    }
    with next_release(repository) as number:
        write_release(repository, number, schema, contents, {})


def sign_again(repository: Path, key: Path) -> None:
    sign_release(repository, 1, open_signing_key(key))


def copy(repository: Path, base: Path, key: Path) -> None:
    copy_release(base, 1, TrustSettings(read_public_keys(public_key_file(key))), repository)


def main(base: Path, work: Path, what: str = "write") -> int:
    key = base.with_suffix(".key")
    for step in range(1, 1_000):
        repository = work / str(step)
        shutil.copytree(base, repository)
        if (child := os.fork()) == 0:
            die_before_change(step, repository)
            if what == "write":
                write(repository)
            elif what == "sign":
                sign_again(repository, key)
            else:
                copy(repository, base, key)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
            print(step)  # noqa: T201 - what the test reads
            return 0
    return 1


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
