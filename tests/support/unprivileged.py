"""A server as nobody: another user, without a capability, over code that it can only read."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

USER: Final = 65534
_ROOT: Final = Path(__file__).parents[2]
_SCRIPT: Final = Path(__file__).with_name("as_nobody.sh")
_OTHERS_ENTER: Final = 0o001


def through(scratch: Path) -> tuple[str, ...]:
    """The program that becomes what stands behind it; `scratch` is an empty folder for its mounts."""
    prefix = Path(sys.base_prefix).resolve()
    closed = next((str(one) for one in reversed(prefix.parents) if not one.stat().st_mode & _OTHERS_ENTER), "")
    return "unshare", "--mount", "sh", str(_SCRIPT), str(USER), str(scratch), str(_ROOT), str(prefix), closed


def why_not(scratch: Path) -> str:
    """Why no server can be started as nobody here; empty where it can."""
    if os.getuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        return "only root can become nobody, by unshare, mount and setpriv (util-linux)"
    tried = subprocess.run(
        [*through(scratch), sys.executable, "-c", "import fraud_scoring"], capture_output=True, text=True, check=False
    )
    return "" if tried.returncode == 0 else f"nobody cannot run this python here: {tried.stderr.strip()[-200:]}"


def given_away(folder: Path) -> Path:
    """A folder that nobody may write to."""
    folder.mkdir(parents=True)
    os.chown(folder, USER, USER)
    return folder


def compiled_kernels(folder: Path) -> Path:
    """What numba compiled for this tree, for NUMBA_CACHE_DIR=`folder`: who cannot write to the tree would compile
    anew. (numba.core.caching._CacheLocator names the folder of a module so.)"""
    for cache in (_ROOT / "python_backend").rglob("__pycache__"):
        name = f"{cache.parent.name}_{hashlib.sha1(str(cache.parent).encode()).hexdigest()}"
        shutil.copytree(cache, folder / name, ignore=shutil.ignore_patterns("*.pyc"))
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER)
    return folder
