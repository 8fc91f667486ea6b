"""A plan follows from what was measured, and says so where it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fraud_capacity.check import TOLERANCE, against, left_out
from fraud_capacity.model import Model, Point, is_quiet, points_of, redis_us
from fraud_capacity.plan import RULES, Plan, Wanted, make
from fraud_capacity.prices import EXAMPLE, read_prices
from fraud_capacity.published import read_tables
from fraud_capacity.sizes import Sizes, StoreSizes, predicted_log_bytes
from fraud_scoring.errors import InvalidInput
from fraud_scoring.schema import default_schema

ROOT = Path(__file__).parents[3]
SCHEMA = default_schema()
A, B = 30.0, 1_920.0
"""A transaction's own microseconds, and a batch's."""
WANTED = Wanted(rate=10_000, p99_ms=100, history_days=30)
SIZES = Sizes(150.0, 64, StoreSizes(180, 130, 1), StoreSizes(232, 190, 1))
BUSY = 1.5


def point(in_flight: int, slower: float = 1.0) -> Point:
    server, client = (A + B / in_flight) * slower, 15.0
    per_second = 1e6 * BUSY / (server + client)
    return Point(f"coalesced_{in_flight}", in_flight, per_second, server, client, 1.6 * in_flight / per_second * 1000)


POINTS = [point(64), point(256), point(1000)]


def result_of(points: list[Point]) -> dict[str, Any]:
    """As `fraudctl bench --json` writes it."""
    rows = [
        {
            "key": one.key,
            "median": {
                "per_second": one.per_second,
                "latency_ms": {"p50": 1.0, "p99": one.p99_ms, "p99.9": one.p99_ms},
                "cpu_us": {"server": one.server_us, "client": one.client_us},
            },
        }
        for one in points
    ]
    rows.append({"key": "coalesced_9", "median": None})
    redis = {"per_second": 1.0, "latency_ms": {"p99": 1.0}, "cpu_us": {"server": 1.0, "client": 1.0, "redis": 9.0}}
    rows.append({"key": "redis_64", "median": redis})
    return {"version": 1, "rows": rows, "machine": {"cores": 2}}


def planned(wanted: Wanted = WANTED, found: Sizes = SIZES, time_of_redis: float | None = 9.0) -> Plan:
    return make(wanted, Model.of(POINTS), found, time_of_redis, SCHEMA, read_prices(None))


class TestModel:
    def test_it_finds_the_price_of_a_batch_and_of_a_row(self) -> None:
        model = Model.of(POINTS)
        assert model.server == pytest.approx((A, B))
        assert model.server_us(128) == pytest.approx(A + B / 128)

    def test_it_gives_the_throughput_and_the_latency_that_the_points_have(self) -> None:
        model = Model.of(POINTS)
        for one in POINTS:
            assert model.per_second(one.in_flight) == pytest.approx(one.per_second)
            assert model.p99_ms(one.in_flight) == pytest.approx(one.p99_ms)

    def test_more_cores_give_more(self) -> None:
        model = Model.of(POINTS)
        assert model.per_second(256, 2 * BUSY) == pytest.approx(2 * model.per_second(256, BUSY))
        assert model.p99_ms(256, 2 * BUSY) == pytest.approx(model.p99_ms(256, BUSY) / 2)

    def test_one_concurrency_is_too_little(self) -> None:
        with pytest.raises(InvalidInput, match="two concurrencies or more"):
            Model.of(POINTS[:1])

    def test_rows_of_a_result_are_taken_by_their_traffic_and_those_without_a_figure_left_out(self) -> None:
        result = result_of(POINTS)
        assert points_of(result, "coalesced") == POINTS
        assert points_of(result, "single") == []
        assert redis_us(result) == 9.0

    def test_a_lone_caller_is_no_load(self) -> None:
        assert [one.in_flight for one in points_of(result_of([point(1), *POINTS]), "coalesced")] == [64, 256, 1000]

    def test_what_the_release_did_not_answer_is_no_measurement(self) -> None:
        degraded = {"answers": 9, "repeats": 0, "scorecard": 8}
        with pytest.raises(InvalidInput, match="answers of the last resort"):
            points_of({**result_of(POINTS), "logs": {"lmdb": degraded}}, "coalesced")
        assert redis_us({**result_of(POINTS), "logs": {"redis": degraded}}) is None

    def test_the_published_tables_are_read(self) -> None:
        result = read_tables((ROOT / "docs" / "benchmarks.md").read_text())
        assert [one.in_flight for one in points_of(result, "coalesced")] == [64, 256, 1000]
        assert result["machine"]["cores"] >= 1
        with pytest.raises(InvalidInput, match="no tables of the benchmark"):
            read_tables("# Benchmarks")

    def test_a_machine_that_others_use_is_not_quiet(self) -> None:
        assert is_quiet({"machine": {"cores": 2}})
        assert is_quiet({"machine": {"cores": 2, "load_average_before": [0.9, 0, 0]}})
        assert not is_quiet({"machine": {"cores": 2, "load_average_before": [1.1, 0, 0]}})


class TestCheck:
    def test_a_row_that_follows_from_the_others_holds(self) -> None:
        compared = left_out(POINTS)
        assert len(compared) == 4
        assert all(abs(one.error) < 0.01 for one in compared)

    def test_a_row_that_does_not_is_named(self) -> None:
        compared = left_out([POINTS[0], point(256, slower=1.5), POINTS[2]])
        wrong = [one for one in compared if not one.held]
        assert {one.what.partition(": ")[2] for one in wrong} >= {"server CPU µs a transaction", "transactions/s"}
        assert all(one.error < -TOLERANCE or one.error > TOLERANCE for one in wrong)

    def test_another_run_is_predicted_row_by_row(self) -> None:
        compared = against(POINTS, [point(500), point(90, slower=2.0)])
        assert [one.held for one in compared if "server" in one.what] == [True, False]


class TestPlan:
    def test_twice_the_rate_is_twice_the_work(self) -> None:
        one, two = planned(), planned(replace(WANTED, rate=20_000))
        assert two.server_cores == pytest.approx(2 * one.server_cores, rel=0.02)
        assert two.log_gib_a_day == pytest.approx(2 * one.log_gib_a_day, rel=0.01)
        assert two.redis_gib == pytest.approx(2 * (one.redis_gib or 0), rel=0.01)

    def test_a_server_is_spare_and_never_alone(self) -> None:
        assert planned(replace(WANTED, rate=1)).servers == RULES.least_servers
        many = planned(replace(WANTED, rate=1_000_000))
        cores = read_prices(None).server.cores * RULES.utilisation
        assert (many.servers - 1) * cores >= many.server_cores > (many.servers - 2) * cores

    def test_a_p99_that_was_never_reached_is_refused_with_the_best_that_was(self) -> None:
        with pytest.raises(InvalidInput, match=r"a p99 of 1 ms was not reached: .* with 64 in flight"):
            planned(replace(WANTED, p99_ms=1))

    def test_a_tighter_p99_leaves_less_in_flight_and_costs_more_work(self) -> None:
        loose, tight = planned(), planned(replace(WANTED, p99_ms=20))
        assert tight.in_flight < loose.in_flight
        assert tight.server_us > loose.server_us
        assert tight.p99_ms <= 20

    def test_longer_windows_are_more_memory_and_records_are_told_apart(self) -> None:
        short, long = planned(replace(WANTED, history_days=7)), planned()
        assert (long.redis_gib or 0) > (short.redis_gib or 0)
        assert long.redis_gib_of_records == short.redis_gib_of_records
        assert (short.redis_gib_of_records or 0) < (short.redis_gib or 0)

    def test_what_decides_the_number_of_redis_is_named(self) -> None:
        assert planned().redis_by == "memory"
        small = replace(SIZES, redis=StoreSizes(1e-3, 1e-3, 1))
        by_time = planned(found=small, time_of_redis=400.0)
        assert (by_time.redis_by, by_time.redis_shards) == ("processor time", 8)

    def test_without_a_redis_here_nothing_is_invented(self) -> None:
        made = planned(found=replace(SIZES, redis=None, trouble="redis-server is not here"))
        assert (made.redis_shards, made.redis_gib, made.redis_by) == (None, None, "redis-server is not here")

    def test_the_cost_is_the_sum_of_its_parts(self) -> None:
        made = planned()
        assert made.cost_per_million == pytest.approx(sum(made.cost_parts.values()), abs=1e-3)

    def test_the_log_s_bytes_are_those_of_its_format(self) -> None:
        assert planned().log_bytes_a_transaction == pytest.approx(predicted_log_bytes(SCHEMA, 64), abs=0.1)


class TestPrices:
    def test_the_example_says_where_its_figures_come_from(self) -> None:
        prices = read_prices(None)
        assert "not an offer" in prices.source
        assert prices.date

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ("redis:", "has no redis"),
            ("  per_hour: 0.35", "has no per_hour"),
            ("  cores: 8", "has no cores"),
        ],
    )
    def test_what_is_missing_is_named(self, change: str, says: str, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text(EXAMPLE.read_text().replace(change, "other:" if change == "redis:" else "  x: 1", 1))
        with pytest.raises(InvalidInput, match=says):
            read_prices(path)

    def test_what_is_no_figure_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text(EXAMPLE.read_text().replace("cores: 8", "cores: 0", 1))
        with pytest.raises(InvalidInput, match="are above 0"):
            read_prices(path)


def test_the_command_takes_the_newest_result_of_the_home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fraudctl.cli import main

    (tmp_path / "bench-1.json").write_text(json.dumps(result_of(POINTS)))
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--home", str(tmp_path), "--repository", str(tmp_path / "none"), "--rate", "5000", "--json"])
    assert not ended.value.code
    shown = json.loads(capsys.readouterr().out)
    assert shown["wanted"]["rate"] == 5000
    assert shown["plan"]["servers"] >= 2
    assert shown["measured"]["bench"].endswith("bench-1.json")


def test_a_check_that_does_not_hold_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fraudctl.cli import main

    bad = tmp_path / "bench-bad.json"
    bad.write_text(json.dumps(result_of([POINTS[0], point(256, slower=2.0), POINTS[2]])))
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--check", "--bench", str(bad), "--repository", str(tmp_path / "none"), "--json"])
    assert ended.value.code == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["held"] is False
    wrong = {one["what"] for one in shown["compared"] if not one["held"]}
    assert wrong
    assert all(what.startswith("coalesced_256") for what in wrong), "bytes of stores and log hold, measured here"
    assert len(shown["compared"]) >= 8
