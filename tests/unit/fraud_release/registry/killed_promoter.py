"""Acts on a registry and is killed (SIGKILL) at its 1st, 2nd, 3rd … step.

`python killed_promoter.py BASE WORK HOME`: WORK/1, WORK/2, … are copies of the repository BASE, in each of which the
same act was begun and killed one step later than before; in the last one it came to its end. Prints their number.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from fraud_release.registry.registry import Registry
from support.registries import BOB, registry_of


def act(registry: Registry) -> None:
    registry.approve(3, BOB)


def main(base: Path, work: Path, home: Path) -> int:
    registry_of(base, home).book()  # MLflow is imported once, here
    for step in range(1, 100):
        repository = Path(shutil.copytree(base, work / str(step)))
        if (child := os.fork()) == 0:
            left = iter(range(step - 1, -1, -1))

            def reached(name: str, left=left) -> None:
                if next(left) == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            act(registry_of(repository, home, reached=reached))
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
            print(step)  # noqa: T201 - what the test reads
            return 0
    return 1


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])))
