"""`fraudctl data`: one JSON object on standard output, everything else on standard error, one secret for the keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fraud_client import Tokenizer
from fraud_data import SimulatorSettings, read_transactions
from fraud_scoring.errors import InvalidInput
from fraudctl.data import data

KEY = "0123456789abcdef0123456789abcdef"
SMALL = ("--customers", "300", "--terminals", "600", "--days", "10")


def fraudctl_data(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(data, [str(argument) for argument in arguments], env=environment)


def reported(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def customers_file(folder: Path, *customers: str) -> Path:
    path = folder / "theirs.csv"
    rows = [f"{i},2018-04-0{i + 1},{customer},9,12.50" for i, customer in enumerate(customers)]
    path.write_text("\n".join(["transaction_id,event_time,cust_no,terminal_id,amount", *rows]), encoding="utf-8")
    return path


def test_simulate_writes_the_file_and_reports_one_json_object(tmp_path: Path) -> None:
    out = tmp_path / "t.parquet"
    result = fraudctl_data("simulate", "--out", out, *SMALL, "--seed", 3, "--json")
    report = reported(result)
    assert report["transactions"] == len(read_transactions(out))
    assert report["frauds"] == sum(report["frauds_by_scenario"].values())
    assert report["fraud_share"] == pytest.approx(report["frauds"] / report["transactions"], abs=1e-6)
    assert (report["seed"], report["file"]) == (3, str(out))
    assert result.stdout.count("\n") == 1
    assert "simulate: drawing transactions" in result.stderr


def test_simulate_ends_with_a_summary_to_read(tmp_path: Path) -> None:
    result = fraudctl_data("simulate", "--out", tmp_path / "t.parquet", *SMALL)
    assert result.exit_code == 0
    for word in ("transactions", "frauds", "fraud share", "frauds by scenario", "seconds", "file"):
        assert word in result.stdout


def test_simulate_starts_on_the_day_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "t.parquet"
    reported(fraudctl_data("simulate", "--out", out, *SMALL, "--start", "2026-03-01", "--json"))
    assert reported(fraudctl_data("describe", "--data", out, "--json"))["first_event"].startswith("2026-03-01T")


def test_the_options_default_to_the_settings_of_the_simulator() -> None:
    options = {option.name: option.default for option in data.commands["simulate"].params}
    settings = SimulatorSettings()
    for name in ("customers", "terminals", "days", "seed"):
        assert options[name] == getattr(settings, name)
    assert options["start"] == settings.start.isoformat()


def test_a_setting_out_of_range_is_an_input_error(tmp_path: Path) -> None:
    result = fraudctl_data("simulate", "--out", tmp_path / "t.parquet", "--days", 0)
    assert isinstance(result.exception, InvalidInput)
    assert not (tmp_path / "t.parquet").exists()


def test_describe_reports_span_entities_and_frauds(tmp_path: Path) -> None:
    out = tmp_path / "t.parquet"
    fraudctl_data("simulate", "--out", out, *SMALL)
    report = reported(fraudctl_data("describe", "--data", out, "--json"))
    assert report["entities"].keys() == {"customer_id", "terminal_id"}
    assert report["days"] == pytest.approx(10, abs=0.5)
    assert "first event" in fraudctl_data("describe", "--data", out).stdout


def test_import_makes_the_keys_that_the_client_library_makes(tmp_path: Path) -> None:
    out = tmp_path / "ours.parquet"
    source = customers_file(tmp_path, "C-1", "C-2", "C-1")
    result = fraudctl_data(
        "import", "--in", source, "--out", out, "--map", "customer_id=cust_no", "--json", FRAUD_TOKEN_KEY=KEY
    )
    assert reported(result)["transactions"] == 3
    one, two = (Tokenizer(KEY.encode()).token(text, entity="customer") for text in ("C-1", "C-2"))
    assert read_transactions(out).rows[:, 2].tolist() == [one, two, one]
    assert read_transactions(out).rows[:, 3:].tolist() == [[9, 1250]] * 3


def test_import_makes_keys_of_numbers_that_are_text_to_the_application(tmp_path: Path) -> None:
    out = tmp_path / "ours.parquet"
    source = customers_file(tmp_path, "17")
    arguments = ("import", "--in", source, "--out", out, "--map", "customer_id=cust_no")
    assert fraudctl_data(*arguments, FRAUD_TOKEN_KEY=KEY).exit_code == 0
    assert read_transactions(out).rows[0, 2] == 17
    assert fraudctl_data(*arguments, "--as-text", "customer_id", FRAUD_TOKEN_KEY=KEY).exit_code == 0
    assert read_transactions(out).rows[0, 2] == Tokenizer(KEY.encode()).token("17", entity="customer")


def test_import_refuses_text_without_the_secret_and_a_secret_too_short(tmp_path: Path) -> None:
    source = customers_file(tmp_path, "C-1")
    arguments = ("import", "--in", source, "--out", tmp_path / "o.parquet", "--map", "customer_id=cust_no")
    without = fraudctl_data(*arguments, "--token-key-env", "OTHER_KEY", OTHER_KEY="")
    assert isinstance(without.exception, InvalidInput)
    assert "column 'cust_no' holds text" in str(without.exception)
    short = fraudctl_data(*arguments, "--token-key-env", "OTHER_KEY", OTHER_KEY="short")
    assert isinstance(short.exception, InvalidInput)
    assert "OTHER_KEY: the token key has 5 bytes" in str(short.exception)
    assert not (tmp_path / "o.parquet").exists()


def test_import_refuses_a_card_number_without_showing_it(tmp_path: Path) -> None:
    source = customers_file(tmp_path, "C-1", "4111-1111-1111-1111")
    result = fraudctl_data(
        "import", "--in", source, "--out", tmp_path / "o.parquet", "--map", "customer_id=cust_no", FRAUD_TOKEN_KEY=KEY
    )
    assert isinstance(result.exception, InvalidInput)
    assert "column 'cust_no', data row 1 (from 0)" in str(result.exception)
    assert "4111" not in str(result.exception) + result.output


@pytest.mark.parametrize("pairs", [("customer_id",), ("=x",), ("amount=a", "amount=b")])
def test_a_map_that_is_no_pair_or_twice_is_a_usage_error(tmp_path: Path, pairs: tuple[str, ...]) -> None:
    maps = [argument for pair in pairs for argument in ("--map", pair)]
    result = fraudctl_data("import", "--in", tmp_path / "x.csv", "--out", tmp_path / "o.parquet", *maps)
    assert result.exit_code == 2
    assert "--map" in result.stderr
