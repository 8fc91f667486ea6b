"""0: done and good. 1: a check failed. 2: bad usage or input. Always one line that says why, never a trace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_nothing_asked_for_is_bad_usage(fraudctl) -> None:
    assert fraudctl("nothing-of-the-kind").code == 2
    assert fraudctl("data").code == 2
    assert fraudctl("data", "describe").code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "simulate", "--out", "x", "--days", "many"),
        ("features", "verify", "--data", "x", "--batch", "1025"),
        ("features", "verify", "--data", "x", "--repeat-share", "1.5"),
        ("features", "verify", "--data", "x", "--seed", "-1"),
        ("features", "replay", "--data", "x", "--out", "y", "--limit", "0"),
        ("features", "load", "--data", "x", "--store", "memory:", "--until", "tomorrow"),
        ("release", "train", "--data", "x", "--trees", "0"),
        ("release", "train", "--data", "x", "--review-cost", "-1"),
        ("serve", "--grpc-port", "65536"),
        ("serve", "--http-port", "0"),
        ("health", "--timeout", "0"),
        ("demo", "--transactions", "10"),
    ],
    ids=" ".join,
)
def test_a_value_out_of_its_range_is_bad_usage_before_anything_is_done(fraudctl, arguments) -> None:
    ran = fraudctl(*arguments)
    assert ran.code == 2
    assert "Invalid value for" in ran.complaint


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "describe", "--data", "none.parquet"),
        ("data", "import", "--in", "none.csv", "--out", "x.parquet"),
        ("features", "replay", "--data", "none.parquet", "--out", "x.parquet"),
        ("features", "load", "--data", "none.parquet", "--store", "memory:"),
        ("release", "train", "--data", "none.parquet"),
    ],
    ids=" ".join,
)
def test_a_file_that_is_not_there_is_bad_input_and_named(fraudctl, arguments) -> None:
    ran = fraudctl(*arguments)
    assert ran.code == 2
    assert ran.complaint.startswith("fraudctl: none.")
    assert "is not a file here" in ran.complaint


def test_a_file_that_cannot_be_written_is_bad_input_and_named(fraudctl, transactions: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    blocked = tmp_path / "file" / "out.parquet"
    for arguments in (
        ("data", "import", "--in", transactions, "--out", blocked),
        ("data", "simulate", "--out", blocked, "--customers", 5, "--terminals", 5, "--days", 1),
        ("features", "replay", "--data", transactions, "--out", blocked, "--limit", 10),
    ):
        ran = fraudctl(*arguments)
        assert ran.code == 2
        assert ran.complaint.startswith("fraudctl: ")
        assert str(tmp_path) not in ran.complaint


def test_a_schema_that_is_none_is_bad_input(fraudctl, transactions: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.yaml"
    schema.write_text("name: mine\ncolumns: 3\n")
    ran = fraudctl("features", "replay", "--data", transactions, "--out", tmp_path / "x", "--schema", schema)
    assert (ran.code, ran.complaint) == (
        2,
        "fraudctl: schema mine: 'columns' must be a list of entries, each a mapping",
    )


def test_a_store_url_that_is_none_is_bad_input(fraudctl, transactions: Path) -> None:
    ran = fraudctl("features", "load", "--data", transactions, "--store", "file:///tmp")
    assert ran.code == 2
    assert "write lmdb:///folder" in ran.complaint


def test_data_too_short_for_a_release_is_bad_input(fraudctl, transactions: Path, repository: Path) -> None:
    days = ("--validation-days", 30, "--test-days", 30)
    ran = fraudctl("release", "train", "--data", transactions, "--repository", repository, *days)
    assert ran.code == 2
    assert "event time: the data spans 75 days; 81 are needed" in ran.complaint


@pytest.mark.parametrize("option", ["--train-days", "--validation-days", "--test-days"])
def test_a_part_too_short_is_bad_input(fraudctl, transactions: Path, repository: Path, option: str) -> None:
    ran = fraudctl("release", "train", "--data", transactions, "--repository", repository, option, 0)
    assert ran.code == 2
    assert ran.complaint.startswith("fraudctl: split: train takes 7 days or more")


@pytest.mark.parametrize("days", ["-1", "nan", "inf"])
def test_a_label_delay_that_is_none_is_bad_input(fraudctl, transactions: Path, tmp_path: Path, days: str) -> None:
    ran = fraudctl("features", "replay", "--data", transactions, "--out", tmp_path / "x", "--label-days", days)
    assert ran.code == 2
    assert "write a number of days from 0 to 3,650" in ran.complaint


def test_a_folder_that_is_no_model_repository_fails_the_check(fraudctl, transactions: Path, tmp_path: Path) -> None:
    days = ("--train-days", 14, "--validation-days", 5, "--test-days", 5, "--delay-days", 2)
    ran = fraudctl("release", "train", "--data", transactions, "--repository", tmp_path, *days)
    assert ran.code == 1
    assert "is no model repository" in ran.complaint


def test_a_release_that_was_changed_fails_the_check(fraudctl, with_release: Path) -> None:
    (with_release / "fraud_model_r0001" / "1" / "more.onnx").write_bytes(b"")
    for command in (("verify",), ("verify", "r0001"), ("list",)):
        ran = fraudctl("release", *command, "--repository", with_release, "--json")
        assert ran.code == 1
        assert "fraud_model_r0001/1/more.onnx is not in its manifest" in ran.complaint


def test_a_release_that_is_not_there_fails_and_a_name_that_is_none_is_bad_input(fraudctl, repository: Path) -> None:
    assert fraudctl("release", "verify", "--repository", repository).code == 1
    assert fraudctl("release", "verify", "r0004", "--repository", repository).code == 1
    ran = fraudctl("release", "verify", "newest", "--repository", repository)
    assert (ran.code, ran.complaint) == (
        2,
        "fraudctl: 'newest' is not a release; write r and four digits, as in r0001",
    )


def test_a_server_that_does_not_answer_is_not_healthy(fraudctl, with_release: Path, nobody: str) -> None:
    ran = fraudctl("health", "--repository", with_release, "--url", nobody, "--json")
    assert ran.code == 1
    assert ran.json["healthy"] is False
    assert f"{nobody} does not answer" in ran.json["trouble"]
    assert fraudctl("health", "--repository", with_release, "--url", nobody).code == 1


def test_health_serve_and_verify_without_a_release_say_how_to_train_one(
    fraudctl, repository: Path, transactions: Path, tmp_path: Path
) -> None:
    for arguments in (
        ("health", "--repository", repository),
        ("serve", "--repository", repository, "--home", tmp_path / "home"),
        ("features", "verify", "--data", transactions, "--repository", repository),
    ):
        ran = fraudctl(*arguments)
        assert ran.code == 1
        assert "train a release with: fraudctl release train --data FILE" in ran.complaint


def test_a_port_that_is_given_twice_keeps_the_server_from_starting(
    fraudctl, with_release: Path, tmp_path: Path
) -> None:
    ran = fraudctl(
        "serve", "--repository", with_release, "--home", tmp_path / "home", "--grpc-port", 47_811, "--http-port", 47_811
    )
    assert ran.code == 1
    assert ran.complaint.startswith("fraudctl: port 47811 is given twice (grpc, http)")


def test_a_server_that_nobody_supervises_cannot_be_killed(
    fraudctl, with_release: Path, transactions: Path, tmp_path: Path, nobody: str
) -> None:
    options = ("--repository", with_release, "--url", nobody, "--limit", 1, "--kill-halfway", "--home", tmp_path)
    ran = fraudctl("features", "verify", "--data", transactions, *options)
    assert ran.code == 1
    assert "no server is supervised from" in ran.complaint


def test_the_installed_command_ends_with_the_same_codes() -> None:
    command = Path(sys.executable).with_name("fraudctl")
    good = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    bad = subprocess.run([command, "data", "describe", "--data", "none"], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stderr) == (0, "")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == "fraudctl: none is not a file here; give a Parquet or CSV file that exists\n"
