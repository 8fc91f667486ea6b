"""Load runs against a real server: the gate's exit code, and a stall that cannot hide."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from fraud_load import runner, scenario
from fraud_load.result import Kind, Outcome, Status, load, save
from fraud_load.runner import Target
from fraud_scoring.errors import InvalidInput
from support.server import FRAUDCTL, Said, Server, fraudctl, free_ports

pytestmark = pytest.mark.triton

PATIENT = "{p50_ms: 20000}"
DELAY_S = 0.15
STOPPED_S = 5.0


def small(name: str, **options: str) -> scenario.Scenario:
    return scenario.load(name, {path.replace("__", "."): value for path, value in options.items()})


@pytest.fixture(scope="module")
def slow_server(served_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose front door sleeps before each batch."""
    folder = tmp_path_factory.mktemp("slow")
    repository = Path(shutil.copytree(served_repository, folder / "models"))
    model = repository / "fraud_front_door" / "1" / "model.py"
    text = model.read_text(encoding="utf-8")
    first = "        self.door = "
    assert first in text
    slow = f"""        import time
        answer = serving.answer
        serving.answer = lambda requests: (time.sleep({DELAY_S}), answer(requests))[1]
"""
    model.write_text(text.replace(first, slow + first), encoding="utf-8")
    with Server(repository, folder / "home") as running:
        yield running


def test_a_short_smoke_passes_and_leaves_its_result(server: Server, tmp_path: Path) -> None:
    done = fraudctl(
        "load", "run", "smoke", "--url", server.url, "--rate", "600", "--duration", "3", "--set", "warmup_s=0.5",
        "--set", "slo={p50_ms: 5000, error_share: 0.01, throughput: 100, generator_lag_ms: 10000}",
        "--set", "sending.deadline_ms=20000",
        "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done
    said = json.loads(done.stdout)
    assert said["passed"] is True
    assert [one["outcome"] for one in said["slos"]] == ["pass"] * 4
    assert "3 s" in done.stderr
    assert Path(said["report"]).read_text(encoding="utf-8").count("<svg") > 20
    assert (tmp_path / "run" / "report.md").is_file()
    found = load(tmp_path / "run")
    assert len(found.requests) == said["totals"]["arrivals"] == said["totals"]["ok"]
    assert (found.requests.source == 0).all()
    assert {"fraud_score", "fraud_r0001"} <= found.server.models.keys()
    assert {"tritonserver", "fraud_front_door", "generator 0"} <= found.server.processes.keys()
    assert np.nansum(found.server.processes["fraud_front_door"].cpu) > 0
    asked = sum(figure for figure in found.server.models["fraud_score"].requests_per_s if np.isfinite(figure))
    assert asked > 0


def test_a_delay_in_the_model_is_a_miss_that_names_the_target(slow_server: Server, tmp_path: Path) -> None:
    done = fraudctl(
        "load", "run", "smoke", "--url", slow_server.url, "--rate", "700", "--duration", "4", "--set", "warmup_s=0.5",
        "--set", "slo={p99_ms: 100, error_share: 0.01, generator_lag_ms: 10000}", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 1, done
    assert "MISS" in done.stdout
    assert "p99 latency" in done.stdout
    assert "the target is at most 100 ms" in done.stdout
    run = load(tmp_path / "run").run
    assert {one.slo: one.outcome for one in run.slos}["p99_ms"] is Outcome.MISS
    assert run.latency_ms["p50"] >= DELAY_S * 1e3


def test_a_server_that_stands_still_for_five_seconds_shows_them_in_p99(server: Server) -> None:
    """No coordinated omission: who should have been sent in those seconds was, and waited for what was left of them."""
    stopped: list[float] = []
    triton = server.triton()
    again = threading.Timer(STOPPED_S, lambda: triton.send_signal(signal.SIGCONT))

    def stop_in_the_middle(share: float, text: str) -> None:
        if share > 0.1 and not stopped:
            stopped.append(time.monotonic())
            triton.send_signal(signal.SIGSTOP)
            again.start()

    options = {"arrivals__rate": "100", "arrivals__duration_s": "7", "warmup_s": "0"}
    result = runner.run(small("smoke", slo=PATIENT, **options), Target(server.url), stop_in_the_middle)
    again.join()
    requests = result.requests
    assert stopped
    assert result.run.latency_ms["max"] >= STOPPED_S * 900
    assert result.run.latency_ms["p99"] >= STOPPED_S * 800
    answered = requests.status == Status.OK
    assert answered.all()
    stood_until = float(requests.done_s[np.argmax(requests.latency_s)])
    within = (requests.intended_s > stood_until - STOPPED_S + 1) & (requests.intended_s < stood_until - 1)
    assert within.sum() > 200  # they were sent, though nothing was answered
    assert (requests.latency_s[within] >= 0.5).all()


def test_joined_calls_are_few_and_each_transaction_is_answered(server: Server) -> None:
    options = {"arrivals__rate": "8000", "arrivals__duration_s": "1", "warmup_s": "0", "workload__customers": "2000"}
    asked = small("peak", slo=PATIENT, sending__in_flight="1", **options)
    result = runner.run(asked, Target(server.url))
    assert (result.requests.status == Status.OK).all()
    assert result.run.totals["calls"] < len(result.requests) / 2
    assert result.run.totals["duplicates"] > 0
    assert result.run.generator.processes == 2


def test_hostile_callers_get_their_refusals_and_the_others_their_answers(server: Server, tmp_path: Path) -> None:
    options = {"arrivals__rate": "200", "arrivals__duration_s": "3", "warmup_s": "0"}
    result = runner.run(small("hostile", slo="{error_share: 0.01}", **options), Target(server.url))
    requests = result.requests
    assert result.run.totals["bad"] > 50
    assert (requests.status[requests.kind == Kind.BAD] == Status.REFUSED).all()
    assert (requests.status[requests.kind != Kind.BAD] == Status.OK).all()
    assert set(requests.rows.tolist()) == {1, 8}
    save(result, tmp_path)
    assert load(tmp_path).run.totals == result.run.totals


def test_a_knee_stops_by_itself_two_steps_behind_it(slow_server: Server) -> None:
    arrivals = "{kind: steps, first: 20, last: 2000, factor: 1.2, hold_s: 1, leaves_ms: 100, patience: 2}"
    asked = small("knee", arrivals=arrivals, slo="{knee_rate: 1}")
    result = runner.run(asked, Target(slow_server.url))
    assert (result.requests.status == Status.UNSENT).sum() > 0.9 * len(result.requests)
    assert result.run.findings["knee"]["rate"] is None
    assert 2 <= len(result.run.findings["knee"]["steps"]) < 10


def test_without_a_server_there_is_one_line_and_no_result(tmp_path: Path) -> None:
    port = free_ports()[0]
    done = fraudctl("load", "run", "smoke", "--url", f"127.0.0.1:{port}", "--out", tmp_path / "run", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"fraudctl: 127.0.0.1:{port} takes no requests now" in done.stderr
    assert not (tmp_path / "run").exists()


def test_another_machine_is_not_loaded_by_mistake() -> None:
    with pytest.raises(InvalidInput, match=r"192\.0\.2\.1 is not this machine"):
        Target("192.0.2.1:8001")
    Target("192.0.2.1:8001", allow_remote=True)
    for url in ("localhost", "localhost:http", ""):
        with pytest.raises(InvalidInput, match="write host:port"):
            Target(url)


@pytest.fixture
def running(server: Server, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`fraudctl load run smoke` of two processes, in the middle of it."""
    process = subprocess.Popen(
        [FRAUDCTL, "load", "run", "smoke", "--url", server.url, "--processes", "2", "--out", tmp_path / "run"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = Said(process.stderr)
    try:
        said.wait_for("sent", 30)
        yield process
    finally:
        process.kill()
        process.wait()
        said.finish()


def test_generators_end_with_a_parent_that_is_killed(running: subprocess.Popen[str]) -> None:
    children = psutil.Process(running.pid).children(recursive=True)
    assert len(children) >= 2
    running.kill()
    running.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def test_an_interrupted_run_keeps_what_was_measured_and_is_no_pass(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == 1
    result = load(tmp_path / "run")
    assert (result.requests.status == Status.OK).sum() > 0
    assert (result.requests.status == Status.UNSENT).sum() > 1_000
    assert not result.run.passed
