"""The folder that a run leaves: written, read, refused."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from fraud_load.result import (
    REQUESTS_FILE,
    RUN_FILE,
    GeneratorFacts,
    Kind,
    Requests,
    ServerSeries,
    Status,
    load,
    load_run,
    save,
)
from fraud_scoring.errors import InvalidInput
from support.load_results import synthetic_requests, synthetic_result


def test_a_result_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    result = synthetic_result(error_share=0.01, degraded_share=0.02, bad_share=0.05, findings={"knee": {"rate": 1.0}})
    save(result, tmp_path / "run")
    back = load(tmp_path / "run")
    assert back.run == result.run
    assert back.server == result.server
    for part in fields(Requests):
        before, after = getattr(result.requests, part.name), getattr(back.requests, part.name)
        assert (before.dtype, before.tobytes()) == (after.dtype, after.tobytes())


def test_what_json_cannot_say_is_null_in_the_file_and_nan_when_read(tmp_path: Path) -> None:
    result = synthetic_result()
    server = ServerSeries([1.0, float("nan")], {}, {}, "no endpoint")
    save(replace(result, server=server), tmp_path)
    assert np.isnan(load(tmp_path).server.at_s).tolist() == [False, True]


def test_latency_runs_from_the_intended_time_and_lag_is_the_generators_own() -> None:
    requests = synthetic_requests(np.random.default_rng(1))
    assert (requests.latency_s == requests.done_s - requests.intended_s).all()
    assert (requests.lag_s == requests.taken_s - requests.intended_s).all()


def test_a_refused_bad_request_is_right_and_an_answered_one_is_an_error() -> None:
    kinds = np.array([Kind.BAD, Kind.BAD, Kind.ORDINARY, Kind.DUPLICATE, Kind.ORDINARY], np.int8)
    status = np.array([Status.REFUSED, Status.OK, Status.REFUSED, Status.OK, Status.UNSENT], np.int8)
    requests = synthetic_requests(np.random.default_rng(1), rate=100, seconds=1).select(slice(0, 5))
    assert replace(requests, kind=kinds, status=status).failed.tolist() == [False, True, True, False, False]


def test_parts_of_several_processes_become_one_order_with_calls_of_their_own() -> None:
    parts = [synthetic_requests(np.random.default_rng(seed), seconds=2) for seed in (1, 2, 3)]
    parts[0].call[5] = -1
    whole = Requests.merged(parts)
    assert (np.diff(whole.intended_s) >= 0).all()
    assert len(whole) == sum(map(len, parts))
    assert len(np.unique(whole.call[whole.call >= 0])) == len(whole) - 1


def test_between_leaves_out_what_was_never_sent() -> None:
    requests = synthetic_requests(np.random.default_rng(1))
    requests.status[-3:] = Status.UNSENT
    inside = requests.between(10.0, 100.0)
    assert len(inside) == int((requests.intended_s >= 10.0).sum()) - 3


def test_a_run_that_did_not_end_is_refused(tmp_path: Path) -> None:
    save(synthetic_result(), tmp_path)
    (tmp_path / RUN_FILE).unlink()
    with pytest.raises(InvalidInput, match=r"no finished run: run\.json is missing"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"), [({"format": 0}, "another format"), ({"slos": None}, "no run of this version")]
)
def test_another_format_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    save(synthetic_result(), tmp_path)
    document = json.loads((tmp_path / RUN_FILE).read_text())
    (tmp_path / RUN_FILE).write_text(json.dumps(document | change))
    with pytest.raises(InvalidInput, match=said):
        load_run(tmp_path)


def test_a_damaged_file_of_requests_is_refused(tmp_path: Path) -> None:
    save(synthetic_result(), tmp_path)
    (tmp_path / REQUESTS_FILE).write_bytes(b"PK")
    with pytest.raises(InvalidInput, match=r"requests\.npz cannot be read"):
        load(tmp_path)


def test_arrays_of_different_lengths_are_no_requests() -> None:
    requests = synthetic_requests(np.random.default_rng(1))
    with pytest.raises(ValueError, match="one value an arrival"):
        replace(requests, rows=requests.rows[:-1])


def test_a_synthetic_stall_is_seen_in_the_tail() -> None:
    result = synthetic_result(stall=(10.0, 15.0))
    assert result.run.latency_ms["p99"] > 4_000
    assert isinstance(result.run.generator, GeneratorFacts)
