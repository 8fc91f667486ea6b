"""A window store in Redis, walked while it is written to, and put into another Redis: the same windows."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import numpy as np
import pytest

from fraud_data import Transactions
from fraud_recovery import redis_part
from fraud_recovery.archive import quiet
from fraud_recovery.errors import ArchiveRefused, RestoreRefused
from fraud_scoring.errors import StoreUnavailable
from fraud_scoring.features import FeatureSet
from fraud_scoring.schema import default_schema
from fraud_scoring.stores import WindowStore, open_store
from fraud_scoring.stores.redis.births import StoreEmptied
from support.redis import MISSING, PROGRAM, RedisServer

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)

ROOT = Path(__file__).parents[2]
SCHEMA = default_schema()
BUSY = 1_200
"""Events of one terminal: more than its string holds, so that it has a ledger."""


def history(data: Transactions, count: int) -> np.ndarray:
    rows = np.ascontiguousarray(data.rows[:count])
    rows[:BUSY, 3] = rows[0, 3]
    return rows


def windows(store: WindowStore, rows: np.ndarray) -> np.ndarray:
    """What a release would see, to the bit: which events lie in an entity's ledger is the store's own affair."""
    return FeatureSet(SCHEMA).compute(rows, store.read(rows)).view(np.uint32)


def fill(url: str, rows: np.ndarray, ids: Path | None = None) -> None:
    """As a server does, which reads before it records: then events wait in batches for a while."""
    store = open_store(url, SCHEMA, ids)
    for start in range(0, len(rows), 256):
        store.read(rows[start : start + 256])
        store.record(rows[start : start + 256])
    store.label(np.column_stack([rows[:50, 0], np.ones(50, np.int64), rows[:50, 1] + 1]))
    store.close()


def test_a_copy_that_was_made_under_writing_is_completed_by_recording_again(
    small_data: Transactions, tmp_path: Path
) -> None:
    rows = history(small_data, 6_000)
    probe = np.ascontiguousarray(small_data.rows[6_000:6_200])
    probe[:20, 3] = rows[0, 3]
    with RedisServer(tmp_path / "one") as one, RedisServer(tmp_path / "two") as two:
        fill(one.url, rows[:3_000], tmp_path / "ids")
        writing = threading.Thread(target=fill, args=(one.url, rows[3_000:]))
        writing.start()
        about = redis_part.export(one.url, tmp_path / "ids", tmp_path / "copy", quiet)
        writing.join()
        assert about["entries"]["transactions"] >= 3_000
        assert about["entries"]["markers"] == 48
        redis_part.check_empty(two.url)
        redis_part.put(tmp_path / "copy", two.url, quiet)
        fill(two.url, rows)  # as the log's replay does: what is there is left alone
        first, second = open_store(one.url, SCHEMA), open_store(two.url, SCHEMA)
        try:
            assert (windows(second, probe) == windows(first, probe)).all()
            assert all(second.recall(rows[:, 0]))
        finally:
            first.close()
            second.close()
        name = two.ask("KEYS", "fraud{*}terminal_key:*")[0]
        assert two.ask("PTTL", name) > 0, "entities are forgotten as before"
        with pytest.raises(RestoreRefused, match="holds a window store already"):
            redis_part.check_empty(two.url)


def test_a_cluster_s_store_goes_into_one_server(
    small_data: Transactions, redis_cluster_url: str, tmp_path: Path
) -> None:
    rows = history(small_data, 2_000)
    url = redis_cluster_url + "&namespace=recovery"
    fill(url, rows, tmp_path / "ids")
    redis_part.export(url, tmp_path / "ids", tmp_path / "copy", quiet)
    with RedisServer(tmp_path / "two") as two:
        redis_part.put(tmp_path / "copy", two.url, quiet)
        first, second = open_store(url, SCHEMA), open_store(two.url, SCHEMA)
        try:
            assert (windows(second, rows[-100:]) == windows(first, rows[-100:])).all()
        finally:
            first.close()
            second.close()


def test_one_server_s_store_goes_into_a_cluster(
    small_data: Transactions, redis_cluster_url: str, tmp_path: Path
) -> None:
    """There references still say where the records are."""
    rows = history(small_data, 500)
    url = redis_cluster_url + "&namespace=fromone"
    with RedisServer(tmp_path / "one") as one:
        fill(f"{one.url}&namespace=fromone", rows[:-100], tmp_path / "ids")
        busy = open_store(f"{one.url}&namespace=fromone", SCHEMA)
        busy.read(rows[-100:])
        busy.record(rows[-100:])  # what waits is in the copy, too
        redis_part.export(f"{one.url}&namespace=fromone", tmp_path / "ids", tmp_path / "copy", quiet)
        redis_part.put(tmp_path / "copy", url, quiet)
        first, second = busy, open_store(url, SCHEMA)
        try:
            for store in (first, second):
                assert all(store.record(rows[-50:]))
                told = np.column_stack([rows[40:60, 0], np.ones(20, np.int64), rows[40:60, 1] + 1])
                assert store.label(told).tolist() == [2] * 10 + [1] * 10
            assert (windows(second, rows[-100:]) == windows(first, rows[-100:])).all()
            for mine, its in zip(second.recall(rows[:, 0]), first.recall(rows[:, 0]), strict=True):
                assert mine is not None
                assert its is not None
                assert mine.row.tolist() == its.row.tolist()
        finally:
            first.close()
            second.close()


def test_a_user_needs_the_rights_that_the_documents_name(small_data: Transactions, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "window-stores.md").read_text() + (ROOT / "docs" / "recovery.md").read_text()
    serving = re.findall(r"[+][a-z|]+", text.partition("ACL SETUSER scorer")[2].partition("\n\n")[0])
    more = ("+scan", "+mget", "+pttl", "+set")
    assert all(f"`{right}" in text or f" {right}" in text for right in more)
    with RedisServer(tmp_path / "one") as one, RedisServer(tmp_path / "two") as two:
        fill(one.url, history(small_data, 300), tmp_path / "ids")
        for server, user, rights in (
            (one, "scorer", serving),
            (one, "keeper", [*serving, *more]),
            (two, "keeper", more),
        ):
            server.ask("ACL", "SETUSER", user, "on", ">secret", "~fraud{*", *serving, *rights)
        with pytest.raises(StoreUnavailable, match="NOPERM"):
            redis_part.export(one.url.replace("//", "//scorer:secret@"), tmp_path / "ids", tmp_path / "no", quiet)
        redis_part.export(one.url.replace("//", "//keeper:secret@"), tmp_path / "ids", tmp_path / "copy", quiet)
        redis_part.put(tmp_path / "copy", two.url.replace("//", "//keeper:secret@"), quiet)
        assert two.ask("DBSIZE") == one.ask("DBSIZE")


def test_a_redis_that_lost_its_data_is_not_saved_as_if_it_were_whole(small_data: Transactions, tmp_path: Path) -> None:
    with RedisServer(tmp_path / "one") as one:
        fill(one.url, history(small_data, 100), tmp_path / "ids")
        one.ask("FLUSHALL")
        with pytest.raises(StoreEmptied):
            redis_part.export(one.url, tmp_path / "ids", tmp_path / "copy", quiet)


def test_a_copy_that_ends_inside_a_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / redis_part.KEYS_FILE
    path.write_bytes(redis_part._HEAD.pack(3, 10, -1) + b"{a}" + b"short")
    with pytest.raises(ArchiveRefused, match="ends inside a key"):
        list(redis_part.read_keys(path))
