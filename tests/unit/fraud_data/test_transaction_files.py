"""Files of transactions: what is written is read back, files of others are mapped, and each broken rule is named."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fraud_data import SimulatorSettings, Transactions, read_transactions, simulate, write_transactions
from fraud_scoring.errors import InvalidInput
from fraud_scoring.schema import Schema, default_schema

HANDBOOK = Path(__file__).parents[4] / "shared" / "data" / "handbook-transactions.parquet"
T0 = 1_522_540_831_000_000  # 2018-04-01T00:00:31Z

HEADER = "transaction_id,event_time,customer_id,terminal_id,amount_minor"
ROWS = ("0,2018-04-01T00:00:31Z,1,2,1250", "1,2018-04-01T00:02:10Z,4,2,99", "2,2018-04-01T00:02:10Z,1,3,7")
AS_ROWS = [[0, T0, 1, 2, 1250], [1, T0 + 99_000_000, 4, 2, 99], [2, T0 + 99_000_000, 1, 3, 7]]


def csv(folder: Path, *lines: str) -> Path:
    path = folder / "cards.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def parquet(folder: Path, **changed: Any) -> Path:
    """A file with the three rows in the canonical form, some columns replaced, or left out where None."""
    columns: dict[str, Any] = {
        "transaction_id": [0, 1, 2],
        "event_time": pl.Series([T0, T0 + 99_000_000, T0 + 99_000_000]).cast(pl.Datetime("us", "UTC")),
        "customer_id": [1, 4, 1],
        "terminal_id": [2, 2, 3],
        "amount_minor": [1250, 99, 7],
        "is_fraud": [0, 1, 0],
    }
    path = folder / "cards.parquet"
    pl.DataFrame({name: c for name, c in (columns | changed).items() if c is not None}).write_parquet(path)
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InvalidInput) as refused:
        read_transactions(path, **options)
    message = str(refused.value)
    assert path.name in message or not path.exists()
    assert str(path.parent) not in message
    return message


def assert_same(one: Transactions, other: Transactions) -> None:
    for name in ("rows", "is_fraud", "scenario", "label_known_at_us"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert np.asarray(getattr(one, name)).dtype == np.asarray(getattr(other, name)).dtype


# --- writing -----------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    simulated = simulate(SimulatorSettings(300, 600, 10))
    dated = Transactions(
        simulated.rows, simulated.is_fraud, simulated.scenario, simulated.rows[:, 1] + 7 * 86_400_000_000
    )
    for transactions in (simulated, dated, Transactions(simulated.rows)):
        write_transactions(tmp_path / "t.parquet", transactions)
        assert_same(read_transactions(tmp_path / "t.parquet"), transactions)


def test_the_canonical_file_has_the_file_names_of_the_schema_and_utc_times(tmp_path: Path) -> None:
    write_transactions(tmp_path / "t.parquet", simulate(SimulatorSettings(300, 600, 2)))
    assert pl.read_parquet_schema(tmp_path / "t.parquet") == {
        "transaction_id": pl.Int64(),
        "event_time": pl.Datetime("us", "UTC"),
        "customer_id": pl.Int64(),
        "terminal_id": pl.Int64(),
        "amount_minor": pl.Int64(),
        "is_fraud": pl.Int8(),
        "fraud_scenario": pl.Int8(),
    }


def test_writing_replaces_the_file_makes_its_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "t.parquet"
    for days in (3, 2):
        transactions = simulate(SimulatorSettings(300, 600, days))
        write_transactions(target, transactions)
    assert len(read_transactions(target)) == len(transactions)
    assert [path.name for path in target.parent.iterdir()] == ["t.parquet"]


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "t.parquet"
    transactions = simulate(SimulatorSettings(300, 600, 2))
    write_transactions(target, transactions)
    before = target.read_bytes()

    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", disk_full)
    with pytest.raises(InvalidInput, match=r"^t\.parquet cannot be written: No space left on device; give a file"):
        write_transactions(target, transactions.slice(0, 1))
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_a_folder_that_cannot_be_made_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"t\.parquet cannot be written"):
        write_transactions(tmp_path / "file" / "t.parquet", simulate(SimulatorSettings(300, 600, 2)))


def test_rows_of_another_schema_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="have 4 columns and schema card-default has 5"):
        write_transactions(tmp_path / "t.parquet", Transactions(np.zeros((1, 4), np.int64)))


# --- reading -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not HANDBOOK.exists(), reason="the shared Handbook file is not beside this checkout")
def test_the_handbook_file_is_read_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    handbook = read_transactions(HANDBOOK, require_labels=True)
    assert handbook.is_fraud is not None
    assert handbook.scenario is not None
    assert len(handbook) == 1_754_155
    assert handbook.is_fraud.sum() == 14_681
    assert np.bincount(handbook.scenario).tolist() == [1_739_474, 973, 9_077, 4_631]
    assert handbook.rows[0].tolist() == [0, T0, 596, 3156, 5716]
    assert "42 simulated amounts of 0 are read as 1 minor unit" in caplog.text


def test_a_csv_file_with_the_canonical_names_needs_no_map(tmp_path: Path) -> None:
    transactions = read_transactions(csv(tmp_path, HEADER, *ROWS))
    assert transactions.rows.tolist() == AS_ROWS
    assert transactions.is_fraud is None


def test_a_csv_file_of_others_is_read_with_a_map(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        "TX;WHEN;cust_no;TERM;EUR;FRAUD;noise",
        "0;2018-04-01 02:00:31+02:00;1;2;12.50;false;x",
        "1;2018-04-01 02:02:10+02:00;4;2;0.99;true;",
        "2;2018-04-01 02:02:10+02:00;1;3;.07;false;x",
    )
    names = {
        "transaction_id": "TX",
        "event_time": "WHEN",
        "customer_id": "cust_no",
        "terminal_key": "TERM",
        "amount": "EUR",
        "is_fraud": "FRAUD",
    }
    transactions = read_transactions(path, columns=names)
    assert transactions.rows.tolist() == AS_ROWS
    assert transactions.is_fraud is not None
    assert transactions.is_fraud.tolist() == [0, 1, 0]


def test_the_names_of_the_tensor_are_accepted_too(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        "transaction_id,event_time_us,customer_key,terminal_key,amount_minor,is_fraud,label_known_at_us",
        f"0,{T0},-5,2,1250,0,{T0 + 1}",
    )
    transactions = read_transactions(path)
    assert transactions.rows.tolist() == [[0, T0, -5, 2, 1250]]
    assert transactions.label_known_at_us is not None
    assert transactions.label_known_at_us.tolist() == [T0 + 1]


def test_a_mapped_column_wins_over_one_that_has_the_name(tmp_path: Path) -> None:
    path = parquet(tmp_path, real_amount=[1, 2, 3])
    assert read_transactions(path, columns={"amount_minor": "real_amount"}).rows[:, 4].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "times",
    [
        pl.Series(["2018-04-01T00:00:31Z", "2018-04-01T00:02:10+00:00", "2018-04-01T00:02:10Z"]),
        pl.Series(["2018-04-01 00:00:31", "2018-04-01 00:02:10.000", "2018-04-01 00:02:10"]),
        pl.Series([T0, T0 + 99_000_000, T0 + 99_000_000]),
        pl.Series([T0, T0 + 99_000_000, T0 + 99_000_000]).cast(pl.Float64),
        pl.Series([str(T0), str(T0 + 99_000_000), str(T0 + 99_000_000)]),
        pl.Series([T0, T0 + 99_000_000, T0 + 99_000_000]).cast(pl.Datetime("us")),
        pl.Series([T0, T0 + 99_000_000, T0 + 99_000_000]).cast(pl.Datetime("us", "UTC")).cast(pl.Datetime("ns", "UTC")),
        pl.Series([T0, T0 + 99_000_000, T0 + 99_000_000])
        .cast(pl.Datetime("us", "UTC"))
        .dt.convert_time_zone("Europe/Berlin")
        .dt.cast_time_unit("ms"),
    ],
    ids=["iso", "iso without offset", "integers", "floats", "digits", "naive", "nanoseconds", "zoned milliseconds"],
)
def test_times_are_read_from_every_usual_form(tmp_path: Path, times: pl.Series) -> None:
    assert read_transactions(parquet(tmp_path, event_time=times)).rows.tolist() == AS_ROWS


def test_dates_are_read_as_their_midnight(tmp_path: Path) -> None:
    days = pl.Series([17_622, 17_623, 17_623]).cast(pl.Int32).cast(pl.Date)
    times = read_transactions(parquet(tmp_path, event_time=days)).rows[:, 1]
    assert times.tolist() == [17_622 * 86_400_000_000] + [17_623 * 86_400_000_000] * 2


@pytest.mark.parametrize(
    "amounts",
    [
        ["12.50", "0.99", "0.0700"],
        [Decimal("12.50"), Decimal("0.99"), Decimal("0.07")],
        [12.5, 0.99, 0.07],
        pl.Series([12.5, 0.99, 0.07], dtype=pl.Float32),
    ],
    ids=["text", "decimals", "floats", "single floats"],
)
def test_amounts_in_major_units_are_read_exactly(tmp_path: Path, amounts: Sequence[Any]) -> None:
    path = parquet(tmp_path, amount=amounts, amount_minor=None)
    assert read_transactions(path).rows[:, 4].tolist() == [1250, 99, 7]


def test_every_cent_up_to_a_hundred_thousand_survives_as_a_float(tmp_path: Path) -> None:
    cents = np.arange(1, 10_000_000, 7)
    count = len(cents)
    path = parquet(
        tmp_path,
        transaction_id=np.arange(count),
        event_time=np.full(count, T0),
        customer_id=np.ones(count, np.int64),
        terminal_id=np.ones(count, np.int64),
        amount_minor=None,
        amount=cents / 100,
        is_fraud=None,
    )
    np.testing.assert_array_equal(read_transactions(path).rows[:, 4], cents)


def test_whole_numbers_are_read_from_floats_decimals_and_categories(tmp_path: Path) -> None:
    path = parquet(
        tmp_path,
        transaction_id=[0.0, 1.0, 2.0],
        customer_id=[Decimal(1), Decimal(4), Decimal(1)],
        terminal_id=pl.Series([2, 2, 3], dtype=pl.UInt16),
        amount_minor=pl.Series(["1250", " 99", "7 "]).cast(pl.Categorical),
        is_fraud=[False, True, False],
    )
    transactions = read_transactions(path, tokenize=lambda _name, text: int(text))
    assert transactions.rows.tolist() == AS_ROWS
    assert transactions.is_fraud is not None
    assert transactions.is_fraud.tolist() == [0, 1, 0]


def test_a_limit_reads_the_first_rows(tmp_path: Path) -> None:
    assert read_transactions(csv(tmp_path, HEADER, *ROWS), limit=2).rows.tolist() == AS_ROWS[:2]
    assert read_transactions(parquet(tmp_path), limit=2).rows.tolist() == AS_ROWS[:2]


def test_sort_puts_rows_with_their_labels_in_event_order(tmp_path: Path) -> None:
    path = csv(tmp_path, f"{HEADER},is_fraud", f"{ROWS[2]},0", f"{ROWS[1]},1", f"{ROWS[0]},0")
    transactions = read_transactions(path, sort=True)
    assert transactions.rows.tolist() == AS_ROWS
    assert transactions.is_fraud is not None
    assert transactions.is_fraud.tolist() == [0, 1, 0]


def test_a_schema_with_more_columns_reads_and_writes_them(tmp_path: Path) -> None:
    schema = wider_schema()
    path = csv(tmp_path, f"{HEADER},mcc", f"{ROWS[0]},0742", f"{ROWS[1]},5411")
    transactions = read_transactions(path, schema)
    assert transactions.rows[:, 5].tolist() == [742, 5411]
    write_transactions(tmp_path / "t.parquet", transactions, schema)
    assert_same(read_transactions(tmp_path / "t.parquet", schema), transactions)
    bad = csv(tmp_path, f"{HEADER},mcc", f"{ROWS[0]},10000")
    assert "column 'mcc', data row 0 (from 0): 10000 is above the greatest merchant_category, 9999" in refusal(
        bad, schema=schema
    )


def wider_schema() -> Schema:
    document: dict[str, Any] = json.loads(default_schema().document)
    document["columns"].append(
        {"name": "merchant_category", "role": "category", "file": "mcc", "minimum": 0, "maximum": 9999}
    )
    return Schema.parse(document)


# --- identifiers that are text -----------------------------------------------------------------------------------


def test_identifiers_that_are_text_become_keys_by_the_tokenizer(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    def tokenize(name: str, identifier: str) -> int:
        asked.append((name, identifier))
        return -len(asked)

    path = parquet(tmp_path, customer_id=["C-1", "C-4", "C-1"])
    assert read_transactions(path, tokenize=tokenize).rows[:, 2].tolist() == [-1, -2, -1]
    assert asked == [("customer_key", "C-1"), ("customer_key", "C-4")]


@pytest.mark.parametrize("identifier", ["007", "C1", "+7", "99999999999999999999"])
def test_a_csv_column_is_text_as_soon_as_one_identifier_is_no_plain_number(tmp_path: Path, identifier: str) -> None:
    path = csv(tmp_path, HEADER, ROWS[0], f"1,2018-04-01T00:02:10Z,{identifier},2,99")
    keys = {"1": 11, identifier: 22}
    assert read_transactions(path, tokenize=lambda _, text: keys[text]).rows[:, 2].tolist() == [11, 22]


def test_numbers_are_taken_as_text_where_the_application_passes_them_as_text(tmp_path: Path) -> None:
    def doubled(_name: str, text: str) -> int:
        return int(text * 2)

    for path in (csv(tmp_path, HEADER, *ROWS), parquet(tmp_path)):
        transactions = read_transactions(path, tokenize=doubled, as_text=["customer_id"])
        assert transactions.rows[:, 2:4].tolist() == [[11, 2], [44, 2], [11, 3]]


def test_text_without_a_tokenizer_is_refused_with_the_remedy(tmp_path: Path) -> None:
    message = refusal(parquet(tmp_path, terminal_id=["a", "b", "c"]))
    assert "column 'terminal_id' holds text" in message
    assert "FRAUD_TOKEN_KEY" in message
    assert "tokenize=" in message


def test_an_identifier_that_the_tokenizer_refuses_is_named_by_its_row_and_not_shown(tmp_path: Path) -> None:
    def tokenize(_name: str, identifier: str) -> int:
        if identifier.startswith("4111"):
            raise InvalidInput("looks like a card number")
        return 1

    message = refusal(parquet(tmp_path, customer_id=["a", "4111 1111 1111 1111", "b"]), tokenize=tokenize)
    assert "column 'customer_id', data row 1 (from 0): looks like a card number" in message
    assert "4111" not in message


def test_an_identifier_with_blanks_around_it_is_refused(tmp_path: Path) -> None:
    message = refusal(parquet(tmp_path, customer_id=["a", "b ", "b"]), tokenize=lambda _, __: 1)
    assert "column 'customer_id', data row 1 (from 0): the identifier has blanks around it" in message


def test_card_numbers_as_numbers_are_refused_and_not_shown(tmp_path: Path) -> None:
    message = refusal(parquet(tmp_path, customer_id=[7, 4111111111111111, 5500005555555559]))
    assert "column 'customer_id', data row 1 (from 0): this and most others are valid card numbers" in message
    assert "4111" not in message


def test_long_numbers_that_are_no_card_numbers_pass(tmp_path: Path) -> None:
    keys = [4111111111111112, -4111111111111111, 2**63 - 1]
    assert read_transactions(parquet(tmp_path, customer_id=keys)).rows[:, 2].tolist() == keys


def test_only_entities_can_be_taken_as_text(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'amount_minor' is no entity to take as text; those are customer_id"):
        read_transactions(parquet(tmp_path), as_text=["amount_minor"])


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"amount_minor": [1, None, 2]}, "'amount_minor', data row 1 (from 0): the value is missing; fill it in"),
        ({"amount_minor": [1.0, 2.0, float("nan")]}, "'amount_minor', data row 2 (from 0): the value is missing"),
        ({"customer_id": ["a", "", "b"]}, "'customer_id', data row 1 (from 0): the value is missing"),
        ({"is_fraud": [None, 0, 1]}, "'is_fraud', data row 0 (from 0): the value is missing"),
        ({"amount_minor": [1, -5, 2]}, "row 1 (from 0): -5 is below the least amount_minor, 1; correct the row"),
        ({"amount_minor": [0, 5, 2]}, "row 0 (from 0): 0 is below the least amount_minor, 1"),
        ({"amount_minor": [1, 5, 10**11 + 1]}, "row 2 (from 0): 100000000001 is above the greatest amount_minor"),
        ({"amount_minor": [1.0, 5.5, 2.0]}, "row 1 (from 0): 5.5 is not a whole number; write a whole number"),
        ({"amount_minor": ["1", "12.5", "2"]}, "row 1 (from 0): 12.5 is not a whole number"),
        ({"amount_minor": ["1", "many", "2"]}, "row 1 (from 0): 'many' is not a number"),
        ({"amount_minor": [1.0, 2.0**60, 2]}, "is too large to be exact"),
        ({"amount_minor": [1.0, 2, float("inf")]}, "row 2 (from 0): 'inf' is not a number"),
        ({"amount_minor": [[1], [2], [3]]}, "column 'amount_minor' has the type List(Int64); write a whole number"),
        (
            {"amount": [[1], [2], [3]], "amount_minor": None},
            "column 'amount' has the type List(Int64); write the amount",
        ),
        (
            {"amount": [1.0, 12.345, 2], "amount_minor": None},
            "column 'amount', data row 1 (from 0): 12.345 is not an exact amount; write the amount as a number with at "
            "most 2 decimals",
        ),
        ({"amount": ["1", "1e300", "2"], "amount_minor": None}, "row 1 (from 0): 1e300 is not an exact amount"),
        (
            {"amount": ["1", "-2.00", "2"], "amount_minor": None},
            "row 1 (from 0): -2.00 is below the least amount_minor",
        ),
        ({"transaction_id": [0, -1, 2]}, "column 'transaction_id', data row 1 (from 0): -1 is below the least"),
        ({"transaction_id": ["0", "t1", "t2"]}, "'transaction_id', data row 1 (from 0): 't1' is not a number"),
        ({"transaction_id": ["0", "1", str(2**64)]}, "row 2 (from 0): 18446744073709551616 is beyond 64 bits"),
        ({"transaction_id": pl.Series([0, 1, 2**63], dtype=pl.UInt64)}, "9223372036854775808 is beyond 64 bits"),
        (
            {"transaction_id": [3, 7, 3]},
            "'transaction_id', data row 2 (from 0): the id is that of data row 0 too; leave repeated transactions out",
        ),
        ({"is_fraud": [0, 2, 1]}, "column 'is_fraud', data row 1 (from 0): 2 is neither 0 nor 1; write 1 for fraud"),
        ({"is_fraud": ["yes", "no", "no"]}, "column 'is_fraud', data row 0 (from 0): 'yes' is not a number; write 1"),
        ({"fraud_scenario": [0, 1, 300]}, "column 'fraud_scenario', data row 2 (from 0): 300 is not a code from 0"),
        ({"event_time": [T0, T0 + 2, T0 + 1]}, f"row 2 (from 0): '{T0 + 1}' comes before the row above it"),
        ({"transaction_id": [0, 2, 1]}, "column 'event_time', data row 2 (from 0): '2018-04-01 00:02:10+00:00' comes"),
        ({"event_time": [T0 // 10**6] * 3}, "1522540831 is a time before 2000; are these seconds or milliseconds?"),
        ({"event_time": [T0 * 1000] * 3}, "is a time after 2099; are these nanoseconds?"),
        ({"event_time": ["1999-12-31T23:59:59Z"] * 3}, "1999-12-31T23:59:59Z is a time before 2000"),
        ({"event_time": ["04/01/2018 10:00"] * 3}, "'04/01/2018 10:00' is not a time; write ISO 8601 like 2018-04-01T"),
        (
            {"event_time": ["2018-04-01T00:00:31Z", "2018-04-01T00:00:32", "2018-04-01T00:00:33Z"]},
            "is not a time; write ISO 8601 like 2018-04-01T12:00:00Z on every row",
        ),
        ({"event_time": [True, False, True]}, "is a time before 2000"),
        ({"event_time": [b"x", b"y", b"z"]}, "column 'event_time' has the type Binary; write ISO 8601"),
        ({"label_known_at_us": [T0, T0, T0]}, "'label_known_at_us', data row 1 (from 0): 1522540831000000 is before"),
    ],
)
def test_a_broken_rule_is_refused_with_column_row_and_remedy(
    tmp_path: Path, changed: Mapping[str, Any], says: str
) -> None:
    message = refusal(parquet(tmp_path, **changed))
    assert says in message, message


def test_a_simulated_amount_of_zero_is_read_as_one_minor_unit_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = parquet(tmp_path, amount_minor=[0, 5, 0], fraud_scenario=[0, 0, 0])
    with caplog.at_level(logging.WARNING):
        assert read_transactions(path).rows[:, 4].tolist() == [1, 5, 1]
    assert "2 simulated amounts of 0 are read as 1 minor unit" in caplog.text


def test_out_of_order_rows_are_refused_with_how_to_sort_them(tmp_path: Path) -> None:
    message = refusal(csv(tmp_path, HEADER, ROWS[1], ROWS[0]))
    assert "column 'event_time', data row 1 (from 0)" in message
    assert "--sort" in message
    assert "sort=True" in message


def test_a_missing_column_is_refused_with_what_is_there_and_how_to_map_it(tmp_path: Path) -> None:
    message = refusal(csv(tmp_path, "transaction_id,when,customer_id,terminal_id,eur", "0,x,1,2,3"))
    assert "has no column event_time, amount_minor (or amount, in major units)" in message
    assert "it has transaction_id, when, customer_id, terminal_id, eur" in message
    assert "--map event_time=NAME" in message
    assert "columns={'event_time': 'NAME'}" in message


def test_missing_labels_are_refused_only_where_they_are_required(tmp_path: Path) -> None:
    path = parquet(tmp_path, is_fraud=None)
    assert read_transactions(path).is_fraud is None
    assert "has no column is_fraud" in refusal(path, require_labels=True)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"amount": "eur"}, "cards.parquet has no column 'eur', to which amount is mapped; it has transaction_id"),
        ({"client": "customer_id"}, "there is no column 'client' to map; known are transaction_id, event_time"),
        ({"amount": "is_fraud", "amount_minor": "amount_minor"}, "amount_minor and amount are one column; map one"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(tmp_path: Path, columns: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_transactions(parquet(tmp_path), columns=columns)
    assert says in str(refused.value)


def test_a_limit_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="limit is 0; write a number of rows from 1 on"):
        read_transactions(parquet(tmp_path), limit=0)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.csv").startswith("none.csv is not a file here; give a Parquet or CSV file")


def test_files_without_a_row_are_refused(tmp_path: Path) -> None:
    assert "cards.csv holds no transaction; give a file with at least one data row" in refusal(csv(tmp_path, HEADER))
    empty = parquet(tmp_path, **{name: pl.Series([], dtype=pl.Int64) for name in (*HEADER.split(","), "is_fraud")})
    assert "cards.parquet holds no transaction" in refusal(empty)
    nothing = tmp_path / "nothing.csv"
    nothing.write_bytes(b"")
    assert refusal(nothing) == "nothing.csv is empty; give a file with at least one data row"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "t.parquet",
            b"transaction_id,amount\n",
            "t.parquet is not a Parquet file; give one, or a CSV file whose name",
        ),
        ("t.parquet", b"PAR1 and then something else", "t.parquet cannot be read ("),
        ("t.csv", b"\xff\xfe\x00,\x00\n", "t.csv cannot be read ("),
        ("t.csv", f"{HEADER}\n0,{T0},é,2,3\n".encode("latin-1"), "give a whole Parquet or UTF-8 CSV file"),
        ("t.csv", f"{HEADER}\n0,{T0},1,2,3,4\n".encode(), "t.csv cannot be read (found more fields"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert says in refusal(tmp_path / name)


def test_a_parquet_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    assert "cards.parquet cannot be read (" in refusal(path)
