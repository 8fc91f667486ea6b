"""What needs no server, from data to a release: files, reports, and one JSON object where it is asked for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl

from fraud_data import read_transactions
from fraud_data.labels import fraud_known_at
from fraud_scoring.features import replay
from fraud_scoring.routes import Routes
from fraud_scoring.schema import packaged_schema
from fraud_scoring.stores import open_store
from support.rows import DEFAULT_SCHEMA

SMALL_SPLIT = ("--train-days", 14, "--validation-days", 5, "--test-days", 5, "--delay-days", 2, "--trees", 20)


def test_replay_writes_the_features_by_name_with_the_ids(fraudctl, transactions: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "features.parquet"
    ran = fraudctl("features", "replay", "--data", transactions, "--out", out, "--json")
    data = read_transactions(transactions)
    frame = pl.read_parquet(out)
    assert ran.code == 0
    assert {**ran.json, "seconds": 0, "rows_per_second": 0} == {
        "rows": len(data),
        "features": len(DEFAULT_SCHEMA.features),
        "seconds": 0,
        "rows_per_second": 0,
        "out": str(out),
    }
    assert frame.columns == ["transaction_id", *DEFAULT_SCHEMA.feature_names]
    assert frame["transaction_id"].to_list() == data.rows[:, 0].tolist()
    wanted = replay(DEFAULT_SCHEMA, data.rows, fraud_known_at(data, DEFAULT_SCHEMA))
    found = frame.drop("transaction_id").to_numpy()
    assert np.ascontiguousarray(found).tobytes() == np.ascontiguousarray(wanted).tobytes()
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_a_packaged_schema_goes_by_its_name(fraudctl, transactions: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    ran = fraudctl("features", "replay", "--data", transactions, "--out", out, "--schema", "rich", "--limit", 50)
    assert ran.code == 0
    assert pl.read_parquet(out).columns == ["transaction_id", *packaged_schema("rich").feature_names]
    refused = fraudctl("features", "replay", "--data", transactions, "--out", out, "--schema", "poor")
    assert refused.code == 2
    assert "schema file poor" in refused.err


def test_replay_of_a_limit_is_the_beginning_of_the_whole(fraudctl, transactions: Path, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.parquet", tmp_path / "part.parquet"
    fraudctl("features", "replay", "--data", transactions, "--out", whole)
    assert fraudctl("features", "replay", "--data", transactions, "--out", part, "--limit", 500, "--json").json[
        "rows"
    ] == (500)
    assert pl.read_parquet(part).equals(pl.read_parquet(whole).head(500))


def test_load_fills_a_store(fraudctl, transactions: Path, tmp_path: Path) -> None:
    url = f"lmdb://{tmp_path / 'store'}"
    ids = read_transactions(transactions).rows[:, 0]
    rows = fraudctl("features", "load", "--data", transactions, "--store", url, "--json").json["rows"]
    assert 0 < rows < len(ids), "what is in no window any more is left out"
    store = open_store(url, DEFAULT_SCHEMA)
    assert [known is not None for known in store.recall(ids)] == [False] * (len(ids) - rows) + [True] * rows
    store.close()


def test_load_until_a_day_leaves_out_what_came_later(fraudctl, transactions: Path, tmp_path: Path) -> None:
    url = f"lmdb://{tmp_path / 'store'}"
    ran = fraudctl("features", "load", "--data", transactions, "--store", url, "--until", "2018-04-11", "--json")
    days = pl.read_parquet(transactions)["event_time"].dt.date().cast(pl.String)
    assert ran.json["rows"] == (days < "2018-04-11").sum()


def test_train_writes_a_release_and_the_first_one_takes_the_traffic(
    fraudctl, transactions: Path, repository: Path, home: Path
) -> None:
    arguments = ("release", "train", "--data", transactions, "--repository", repository, *SMALL_SPLIT, "--home", home)
    first = fraudctl(*arguments, "--json")
    assert first.code == 0
    assert first.json == json.loads((repository / "fraud_r0001" / "manifest.json").read_text())
    assert first.json["data"]["sha256"] == hashlib.sha256(transactions.read_bytes()).hexdigest()
    assert first.json["data"]["file"] == transactions.name
    assert first.json["plan"]["days"] == {"train": 14, "validation": 5, "test": 5, "delay": 2}
    assert "release: features of the whole history" in first.err
    second = fraudctl(*arguments, "--review-cost", 2.5, "--json")
    assert second.json["release"] == "r0002"
    assert second.json["plan"]["costs"]["review_minor"] == 250
    assert Routes.read(repository) == Routes(1, epoch=1)
    on_record = fraudctl("release", "stages", "--repository", repository, "--home", home, "--json").json
    assert on_record["releases"] == {"r0001": "production", "r0002": "dev"}
    rows = fraudctl("release", "history", "--repository", repository, "--home", home, "--json").json["rows"]
    assert [row["act"] for row in rows] == ["registered", "bootstrapped", "registered"]
    assert "nobody approved it" in rows[1]["reason"]


def test_train_ends_with_a_table_to_read(fraudctl, transactions: Path, repository: Path) -> None:
    arguments = ("--data", transactions, "--repository", repository, *SMALL_SPLIT, "--no-register")
    ran = fraudctl("release", "train", *arguments)
    assert ran.code == 0
    for word in ("r0001", "AUC", "average precision", "card precision@100", "approve", "review from", "decline from"):
        assert word in ran.out


def test_verify_counts_the_files_of_every_release_or_of_one(fraudctl, with_release: Path) -> None:
    everything = fraudctl("release", "verify", "--repository", with_release, "--json")
    one = fraudctl("release", "verify", "r0001", "--repository", with_release, "--json")
    assert everything.code == one.code == 0
    assert everything.json == one.json
    assert everything.json["verified"].keys() == {"r0001"}
    files = everything.json["verified"]["r0001"]["files"]
    assert f"r0001  {files} files as signed on" in fraudctl("release", "verify", "--repository", with_release).out


def test_list_shows_releases_their_quality_and_which_takes_the_traffic(fraudctl, with_release: Path) -> None:
    found = fraudctl("release", "list", "--repository", with_release, "--json").json
    assert found["production"] == "r0001"
    (release,) = found["releases"]
    assert release.keys() == {"release", "created_at", "thresholds", "evaluation"}
    assert "r0001 (production)" in fraudctl("release", "list", "--repository", with_release).out


def test_list_of_nothing_says_how_to_make_one(fraudctl, repository: Path) -> None:
    ran = fraudctl("release", "list", "--repository", repository)
    assert ran.code == 0
    assert "none; make one with: fraudctl release train --data FILE" in ran.out
    empty = fraudctl("release", "list", "--repository", repository, "--json").json
    assert empty == {"production": None, "releases": []}


def test_the_data_commands_report_one_object_each(fraudctl, transactions: Path, tmp_path: Path) -> None:
    described = fraudctl("data", "describe", "--data", transactions, "--json")
    imported = fraudctl("data", "import", "--in", transactions, "--out", tmp_path / "same.parquet", "--json")
    assert described.code == imported.code == 0
    assert described.err == ""
    assert imported.json["transactions"] == described.json["transactions"] > 1_000
    assert read_transactions(tmp_path / "same.parquet").rows.tolist() == read_transactions(transactions).rows.tolist()
