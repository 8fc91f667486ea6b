"""A load scenario as Locust users: gRPC calls on the client library, with Locust's web page, headless, or distributed.

    locust -f loadtest/locustfile.py --host localhost:8001 --scenario smoke                        the web page
    locust -f loadtest/locustfile.py --host localhost:8001 --scenario smoke --headless --result var/load/a
    locust -f loadtest/locustfile.py --master --expect-workers 2 --host … --scenario …     distributed; and then,
    locust -f loadtest/locustfile.py --worker --master-host …                              on each generator machine

The scenario is the asyncio runner's: the same arrivals, transactions and targets. A user takes the next arrival, waits
for its intended time, and sends it; latency runs from the intended time, so that users who are all busy hide nothing.
One process sends one or two thousand requests a second and does not coalesce: higher rates are for `fraudctl load run`.

Through a gateway: FRAUD_GATEWAY_CA, _CERTIFICATE, _KEY, _TOKEN_FILE in the environment of each process name its files.
"""

# isort: off
from locust import LoadTestShape, User, constant, events, task  # first of all: it patches
from locust.runners import MasterRunner, WorkerRunner

import math
import os
import secrets
import time
from pathlib import Path
from typing import Any

import gevent
from grpc.experimental.gevent import init_gevent

from fraud_load import scenario as scenarios
from fraud_load.access import of_process
from fraud_load.locust_run import Caller, Collector, pack, unpack
from fraud_load.result import save
from fraud_load.runner import Target
# isort: on

init_gevent()

CALLERS_FOR_S = 1.0
"""Users are as many as the arrivals of so many seconds: enough while answers take no longer."""
MOST_CALLERS = 2_000
LEAD_S = 2.0
"""Between the word to start and second 0: Locust looks at the shape once a second. Machines need one clock (NTP)."""
PLAN, RESULT = "fraud_plan", "fraud_result"


class Here:
    """What this process holds while a test runs."""

    caller: Caller | None = None
    collector: Collector | None = None


def asked(environment: Any) -> scenarios.Scenario:
    """The scenario of the command line or of the web page."""
    options = environment.parsed_options
    replaced = dict(one.partition("=")[::2] for one in options.replace.split(";") if one)
    return scenarios.load(options.scenario, replaced)


class FraudCaller(User):
    """Takes one arrival after the other."""

    wait_time = constant(0)

    @task
    def score(self) -> None:
        while Here.caller is None:
            gevent.sleep(0.01)
        sent = Here.caller.next()
        if sent is None:  # every arrival has somebody; the shape ends the test
            gevent.sleep(0.2)
            return
        self.environment.events.request.fire(
            request_type="gRPC",
            name="fraud_score",
            response_time=sent.latency_s * 1e3,
            response_length=0,
            exception=sent.error,
            context={},
        )


class ScenarioShape(LoadTestShape):
    """As many users as the scenario's rate keeps busy, until every process has handed in its arrivals."""

    def tick(self) -> tuple[int, float] | None:
        collector = Here.collector
        if collector is None or (collector.judged and self.get_run_time() < LEAD_S):
            return 1, 1.0  # nothing yet, or the test before; with the first user the test starts
        if collector.judged:
            return None
        now = min(self.get_run_time() - LEAD_S, collector.profile.duration_s - 1e-3)
        rate = collector.profile.rate_at([max(now + ahead, 0.0) for ahead in (-LEAD_S, 0.0, LEAD_S)])
        users = min(MOST_CALLERS, max(10, math.ceil(float(rate.max()) * CALLERS_FOR_S)))
        return users, float(users)


@events.init_command_line_parser.add_listener
def add_arguments(parser: Any) -> None:
    parser.set_defaults(web_host="127.0.0.1")  # whoever reaches the page can start a load; --web-host says who may
    parser.add_argument("--scenario", default="smoke", help="A scenario's name, or a YAML file.")
    parser.add_argument("--replace", default="", help="Fields to replace: arrivals.rate=200;warmup_s=1")
    parser.add_argument("--result", default="", help="Folder for the result; without it only Locust's own figures.")
    parser.add_argument("--metrics-url", default="", help="Triton's metrics page; found by itself on this machine.")
    parser.add_argument(
        "--allow-remote", action="store_true", help="The server is on another machine, and ours to load."
    )


@events.init.add_listener
def register(environment: Any, **_: Any) -> None:
    runner = environment.runner
    environment.stop_timeout = scenarios.MOST_GIVE_UP_S  # a user whose time is over finishes what it has out
    if isinstance(runner, WorkerRunner):
        runner.register_message(PLAN, lambda environment, msg, **_: begin(environment, **msg.data))
    elif isinstance(runner, MasterRunner):
        runner.register_message(RESULT, lambda environment, msg, **_: hand_in(environment, unpack(msg.data)))


@events.test_start.add_listener
def start(environment: Any, **_: Any) -> None:
    """On the master, or alone: say what is sent, and begin to watch the server."""
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        return
    scenario, options = asked(environment), environment.parsed_options
    target = Target(
        environment.host or "localhost:8001", options.metrics_url or None, options.allow_remote, of_process(os.environ)
    )
    workers = runner.worker_count if isinstance(runner, MasterRunner) else 1
    Here.collector = Collector(scenario, target, workers)
    order = {
        "text": scenario.as_yaml(),
        "salt": secrets.randbits(62),
        "of": workers,
        "url": target.url,
        "start_us": time.time_ns() // 1_000 + round(LEAD_S * 1e6),
    }
    if isinstance(runner, MasterRunner):
        runner.send_message(PLAN, order)
    else:
        begin(environment, **order)


def begin(environment: Any, text: str, salt: int, of: int, url: str, start_us: int) -> None:
    """Prepare this process's share and send it; hand it in when the last answer is there."""
    number = max(getattr(environment.runner, "worker_index", 0), 0) % of
    Here.caller = None
    caller = Caller(scenarios.parse(text, "scenario.yaml"), salt, number, of, url, of_process(os.environ))
    caller.start(start_us)
    Here.caller = caller
    gevent.spawn(finish, environment, caller)


def finish(environment: Any, caller: Caller) -> None:
    caller.ended.wait()
    handed = caller.hand_in()
    if isinstance(environment.runner, WorkerRunner):
        environment.runner.send_message(RESULT, pack(handed))
    else:
        hand_in(environment, handed)


def hand_in(environment: Any, handed: Any) -> None:
    """On the master, or alone: a process's part; with the last one the result is judged."""
    collector = Here.collector
    if collector is None or not collector.add(handed):
        return
    result = collector.result()
    environment.process_exit_code = 0 if result.run.passed else 1
    if environment.parsed_options.result:
        save(result, Path(environment.parsed_options.result))
    collector.judged = True


@events.test_stop.add_listener
def stop(environment: Any, **_: Any) -> None:
    """Somebody ended the test: what is out is waited for, the rest stays unsent."""
    if Here.caller is not None:
        Here.caller.stop()
