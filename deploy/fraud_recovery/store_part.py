"""The window store, copied while it is used, and put back. LMDB here; one in a Redis: `redis_part`.

A copy of LMDB is one reading transaction: what it holds is one moment, and writers do not wait for it.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import lmdb

from fraud_recovery import redis_part
from fraud_recovery.archive import Progress, copy_file
from fraud_recovery.errors import ArchiveRefused, BackupFailed, RestoreRefused
from fraud_scoring.stores.redis.address import is_redis
from fraud_scoring.stores.tables import TABLES

LMDB_FILE: Final = "data.mdb"
_READERS: Final = 512
_MAP_BYTES: Final = 64 << 30


def kind_of(url: str) -> str:
    """`lmdb` or `redis`: what an archive of the store can be put back into."""
    return "redis" if is_redis(url) else "lmdb"


def folder_of(url: str) -> Path:
    """The folder of an LMDB store."""
    return Path(urlsplit(url).path)


def copy_store(url: str, ids: Path, target: Path, progress: Progress) -> dict[str, Any]:
    """Copy the store of `url` into the folder `target`; what the manifest says of it."""
    progress(0.0, "window store")
    if is_redis(url):
        return {"kind": "redis", **redis_part.export(url, ids, target, progress)}
    folder = folder_of(url)
    if not (folder / LMDB_FILE).exists():
        raise BackupFailed(
            f"there is no window store in {folder}; name it with --store, or leave it out: --without store"
        )
    try:
        with lmdb.open(
            str(folder), readonly=True, max_dbs=len(TABLES), max_readers=_READERS, map_size=_MAP_BYTES, readahead=False
        ) as environment:
            environment.copy(str(target), compact=True)
    except (lmdb.Error, OSError) as error:
        raise BackupFailed(
            f"the window store cannot be copied ({type(error).__name__}); check the disk's free space"
        ) from None
    return {"kind": "lmdb", "entries": count(target)}


def count(folder: Path) -> dict[str, int]:
    """Entries of each table of an LMDB store; ArchiveRefused if it cannot be read."""
    try:
        with lmdb.open(str(folder), readonly=True, lock=False, max_dbs=len(TABLES), map_size=_MAP_BYTES) as environment:
            found = {}
            for name in TABLES:
                with suppress(lmdb.NotFoundError):
                    table = environment.open_db(name.encode(), create=False)
                    with environment.begin() as transaction:
                        found[name] = int(transaction.stat(table)["entries"])
            return found
    except (lmdb.Error, OSError) as error:
        raise ArchiveRefused(
            f"the archive's window store cannot be opened ({type(error).__name__}); restore another archive"
        ) from None


def check_store(folder: Path, about: dict[str, Any]) -> None:
    """ArchiveRefused unless the copy holds as many entries as when it was made."""
    if about["kind"] == "lmdb" and (found := count(folder)) != about["entries"]:
        raise ArchiveRefused(f"the archive's window store holds {found} entries, and held {about['entries']}")


def check_target(url: str, kind: str | None) -> None:
    """RestoreRefused unless what the archive has can be put into the store of `url`; None: it has no store."""
    if kind is not None and kind_of(url) != kind:
        raise RestoreRefused(
            f"the archive's window store is of {kind}, and --store is of {kind_of(url)}; "
            "name a store of its kind, or build one from the log: --rebuild-store"
        )
    if is_redis(url):
        redis_part.check_empty(url)


def put_store(folder: Path, url: str, progress: Progress) -> None:
    """Put a copy into the store of `url`, which is empty."""
    progress(0.0, "window store")
    if is_redis(url):
        redis_part.put(folder, url, progress)
        return
    copy_file(folder / LMDB_FILE, folder_of(url) / LMDB_FILE)
