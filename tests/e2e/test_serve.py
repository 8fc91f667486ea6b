"""`fraudctl serve` as a user runs it: started, killed in every part, drained, misconfigured, and with a full disk."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import psutil
import pytest

from fraud_client import Accepted, FraudClient, FraudClientError, Scored, Source, Unavailable
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.releases import DECISION_FILE, GOLDEN_FILE, MANIFEST_FILE, ensemble_name, part_name
from fraud_scoring.routes import ROUTES_FILE
from fraud_scoring.stores import open_store
from support.release import empty_repository
from support.server import STUBS, Server, fraudctl, free_ports, json_of, regions_of, until

if TYPE_CHECKING:
    from conftest import Fresh

pytestmark = pytest.mark.triton

PATIENT: Final = 20.0
CORE: Final = ("fraud_front_door", "fraud_feedback")
"""The processes that a server cannot go on without."""
SERVING_SECONDS: Final = 60.0
"""Until a test gives up; how soon a server is back is for tests/soak/test_deaths_soak.py to say."""


def gone(processes: list[psutil.Process], within: float = 15.0) -> bool:
    """Whether all of them have ended, or end within some seconds."""
    return psutil.wait_procs(processes, within)[1] == []


def nothing_left(server: Server, parts: list[psutil.Process]) -> bool:
    return gone(parts) and regions_of(server.pid) == [] and list(server.home.glob("run/*.json")) == []


class TestReadiness:
    def test_it_says_ready_once_the_golden_vectors_are_right_and_health_agrees(
        self, served_repository: Path, tmp_path: Path
    ) -> None:
        ports = free_ports()
        health = ("health", "--repository", served_repository, "--url", f"127.0.0.1:{ports[0]}", "--json")
        before = fraudctl(*health)
        assert before.returncode == 1
        assert json.loads(before.stdout)["healthy"] is False
        with Server(served_repository, tmp_path / "home", ports=ports) as server:
            assert server.said.lines[-1].startswith(f"serve: ready on {server.url}: 64 golden vectors right")
            assert json_of(*health[:-1]).items() >= {"healthy": True, "release": "r0001", "trouble": None}.items()
            parts = server.parts()
            assert server.stop() == 0
            assert nothing_left(server, parts)
        after = fraudctl(*health[:-1])
        assert after.returncode == 1
        assert "does not answer" in after.stdout
        assert "Traceback" not in after.stderr

    def test_a_release_that_does_not_give_its_golden_vectors_is_never_ready(
        self, served_repository: Path, tmp_path: Path
    ) -> None:
        repository = copy_of(served_repository, tmp_path / "repository")
        golden = dict(np.load(repository / ensemble_name(1) / GOLDEN_FILE))
        golden["score"] = np.nextafter(golden["score"], np.float32(1))
        with (repository / ensemble_name(1) / GOLDEN_FILE).open("wb") as file:
            np.savez(file, **golden)
        sign_again(repository, f"{ensemble_name(1)}/{GOLDEN_FILE}")
        line = refusal(repository, tmp_path / "home")
        assert "release r0001 does not give its golden vectors: score differs" in line

    def test_a_sigterm_while_it_starts_ends_it_at_once(self, served_repository: Path, tmp_path: Path) -> None:
        with Server(served_repository, tmp_path / "home", wait=False) as server:
            until((server.home / "run" / "server.json").exists, within=30)
            parts = server.parts()
            assert server.stop() == 0
            assert not any("ready" in line for line in server.said.lines)
            assert nothing_left(server, parts)


class TestDraining:
    def test_sigterm_answers_what_is_in_flight_and_leaves_nothing_behind(
        self, served_repository: Path, served_pipeline: Pipeline, tmp_path: Path, fresh: Fresh
    ) -> None:
        rows = [fresh.rows(1) for _ in range(400)]
        with (
            Server(served_repository, tmp_path / "home") as server,
            FraudClient(server.url, deadline=PATIENT) as client,
            ThreadPoolExecutor(len(rows)) as pool,
        ):
            client.score_rows(fresh.rows(1))
            parts = server.parts()
            with server.slow_store():
                sent = iter(rows)
                asked = []

                def send(count: int) -> None:
                    few = itertools.islice(sent, count)
                    asked.extend(pool.submit(client.score_rows, one, with_features=True) for one in few)

                def many_wait() -> bool:
                    """What comes first is taken along; from when the answer is late on it waits in Triton's queue."""
                    send(5)
                    return server.waiting_requests() >= 10

                until(many_wait)
                server.send(signal.SIGTERM)
                server.said.wait_for("draining", within=40)
                until(lambda: not client.ready())
                with pytest.raises(Unavailable, match="takes no requests now"):
                    client.score_rows(fresh.rows(1))
            answers = [one.result(PATIENT) for one in asked]
            assert server.wait() == 0
            assert nothing_left(server, parts)
        for one, answer in zip(rows, answers, strict=False):
            expected = served_pipeline.answer_alone(one)
            assert answer.score.tobytes() == expected.score.tobytes()
            assert answer.verdict.tobytes() == expected.verdict.tobytes()

    def test_what_was_answered_up_to_the_last_moment_is_recorded_as_it_was_answered(
        self, served_repository: Path, served_pipeline: Pipeline, tmp_path: Path, fresh: Fresh
    ) -> None:
        answered: list[tuple[np.ndarray, Scored]] = []

        def stream(client: FraudClient) -> FraudClientError:
            """Score until the server takes no more; the error that ended it."""
            while True:
                rows = fresh.rows(3)
                try:
                    answered.append((rows, client.score_rows(rows, with_features=True)))
                except FraudClientError as error:
                    return error

        with (
            Server(served_repository, tmp_path / "home") as server,
            FraudClient(server.url, deadline=PATIENT) as client,
            ThreadPoolExecutor(1) as pool,
        ):
            ended = pool.submit(stream, client)
            until(lambda: len(answered) > 20)
            assert server.stop(signal.SIGINT) == 0, "Ctrl-C drains like SIGTERM"
            assert isinstance(ended.result(PATIENT), Unavailable)
        store = open_store(f"lmdb://{server.home / 'store'}", served_pipeline.schema)
        recorded = store.recall(np.concatenate([rows[:, 0] for rows, _ in answered]))
        store.close()
        found = [one.answer for one in recorded if one is not None and one.answer is not None]
        for name in Scored._fields:
            told = np.concatenate([getattr(answer, name) for _, answer in answered])
            assert np.concatenate([getattr(one, name) for one in found]).tobytes() == told.tobytes(), name


@pytest.fixture(scope="module")
def mortal(served_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose parts are killed."""
    with Server(served_repository, tmp_path_factory.mktemp("mortal")) as running:
        yield running


class TestDeaths:
    @pytest.mark.parametrize("part", ["tritonserver", *CORE])
    def test_a_part_that_is_killed_is_noticed_and_replaced(self, part: str, mortal: Server, fresh: Fresh) -> None:
        transaction = fresh.transaction("77.10")
        with FraudClient(mortal.url, deadline=PATIENT) as client:
            before = client.score(transaction, with_features=True)
            lines, victim = len(mortal.said.lines), mortal.triton() if part == "tritonserver" else mortal.stub(part)
            others = [process for process in mortal.parts() if process.pid != mortal.pid]
            victim.kill()
            if part == "tritonserver":
                with pytest.raises(Unavailable, match="takes no requests now"):
                    client.score(fresh.transaction())
            mortal.said.wait_for("starting again", SERVING_SECONDS, after=lines)
            mortal.said.wait_for("ready on", SERVING_SECONDS, after=lines)
            until(client.ready)  # this connection may rest for a second between two attempts
            assert client.score(transaction, with_features=True) == before, "what was answered is remembered"
            assert client.label(transaction.transaction_id, True) is Accepted.APPLIED
        said = mortal.said.lines[lines]
        assert said.startswith("serve: ")
        assert ("tritonserver ended (signal SIGKILL)" if part == "tritonserver" else f"process of {part} died") in said
        assert gone(others), "the rest of the old server is gone"

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
    @pytest.mark.parametrize("part", [part for part in STUBS if part not in CORE])
    def test_a_part_of_a_release_is_mended_while_the_server_answers(
        self, part: str, number: signal.Signals, mortal: Server, fresh: Fresh
    ) -> None:
        with FraudClient(mortal.url, deadline=PATIENT) as client:
            server, lines = mortal.triton(), len(mortal.said.lines)
            mortal.stub(part).send_signal(number)
            answered = client.score(fresh.transaction("77.10"))
            assert answered.source is Source.PRIMARY, "the front door asks none of them"
            mortal.said.wait_for("release r0001 loaded in", SERVING_SECONDS, after=lines)
            until(lambda: client.score(fresh.transaction("77.10")).source is Source.PRIMARY)
        assert mortal.triton() == server, "the server went on"

    def test_a_killed_supervisor_takes_the_server_with_it_and_the_next_one_goes_on(
        self, served_repository: Path, small_data_file: Path, tmp_path: Path, fresh: Fresh
    ) -> None:
        home, ports = tmp_path / "home", free_ports()
        transaction = fresh.transaction("31.00")
        with Server(served_repository, home, ports=ports) as server:
            with FraudClient(server.url, deadline=PATIENT) as client:
                before = client.score(transaction, with_features=True)
            parts = server.parts()
            assert server.stop(signal.SIGKILL) == -signal.SIGKILL
            assert gone(parts)
            assert regions_of(server.pid) == []
        with Server(served_repository, home, ports=ports) as server:
            with FraudClient(server.url, deadline=PATIENT) as client:
                assert client.score(transaction, with_features=True) == before
            assert_no_mismatch_after_a_kill_halfway(server, small_data_file)


def assert_no_mismatch_after_a_kill_halfway(server: Server, data: Path) -> None:
    found = json_of(
        "features", "verify", "--data", data, "--url", server.url, "--repository", server.repository,
        "--home", server.home, "--limit", 4_000, "--repeat-share", 0.2, "--kill-halfway",
    )  # fmt: skip
    assert any("tritonserver ended (signal SIGKILL)" in line for line in server.said.lines)
    assert found["mismatches"] == 0
    assert found["killed"] is True
    assert found["retries"] > 0
    assert found["repeats"] > 0
    assert found["labels_unknown"] == 0


class TestNeighbours:
    def test_two_servers_live_side_by_side(self, server: Server, mortal: Server, fresh: Fresh) -> None:
        transaction = fresh.transaction("45.00")
        with (
            FraudClient(server.url, deadline=PATIENT) as one,
            FraudClient(mortal.url, deadline=PATIENT) as two,
        ):
            first = one.score(transaction, with_features=True)
            assert two.label(transaction.transaction_id, True) is Accepted.UNKNOWN_TRANSACTION
            assert two.score(transaction, with_features=True) == first
            assert two.label(transaction.transaction_id, True) is Accepted.APPLIED

    def test_a_second_server_in_the_same_home_is_refused_and_does_the_first_no_harm(
        self, server: Server, served_repository: Path
    ) -> None:
        line = refusal(served_repository, server.home)
        assert line.startswith(f"fraudctl: another server runs with folder {server.home}")
        assert (server.home / "run" / "server.json").exists()
        assert json_of("health", "--repository", served_repository, "--url", server.url)["healthy"] is True

    def test_a_release_that_is_being_served_is_still_what_its_manifest_says(
        self, server: Server, served_repository: Path
    ) -> None:
        assert server.said.lines
        found = json_of("release", "verify", "r0001", "--repository", served_repository)
        assert set(found["verified"]) == {"r0001"}

    def test_a_taken_port_is_named(self, server: Server, served_repository: Path, tmp_path: Path) -> None:
        ports = free_ports()
        line = refusal(served_repository, tmp_path / "home", ports=(ports[0], server.ports[1], ports[2]))
        assert line.startswith(f"fraudctl: port {server.ports[1]} (http) cannot be used")
        assert "--http-port" in line


def copy_of(repository: Path, folder: Path) -> Path:
    """A copy whose files may be changed."""
    shutil.copytree(repository, folder)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def sign_again(repository: Path, changed: str) -> None:
    """Write a changed file's hash into the manifest and sign, as whoever made it would have."""
    import hashlib

    from fraud_release.signing import sign_release
    from fraud_release.trust import named_signing_key, open_signing_key

    path = repository / ensemble_name(1) / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    manifest["files"][changed] = hashlib.sha256((repository / changed).read_bytes()).hexdigest()
    path.write_text(json.dumps(manifest))
    key = named_signing_key()
    assert key is not None
    sign_release(repository, 1, open_signing_key(key))


def refusal(
    repository: Path, home: Path, *options: str, ports: tuple[int, int, int] | None = None, code: int = 1
) -> str:
    """The one line with which a server that cannot start says why."""
    done = fraudctl("serve", *Server.arguments(repository, home, ports or free_ports()), *options)
    assert done.returncode == code, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    (line,) = [one for one in lines if not one.startswith("serve: kernels compiled")]  # told where it took long
    assert line.startswith("fraudctl: ")
    return line


class TestRefusals:
    def test_a_repository_without_a_release_says_how_to_make_one(self, tmp_path: Path) -> None:
        repository = empty_repository(tmp_path / "repository")
        line = refusal(repository, tmp_path / "home")
        assert "no route table (routes.json)" in line
        assert "fraudctl release train --data FILE" in line

    def test_a_route_to_a_release_that_is_not_there_says_what_is(self, served_repository: Path, tmp_path: Path) -> None:
        repository = copy_of(served_repository, tmp_path / "repository")
        (repository / ROUTES_FILE).write_text('{"production": "r0009"}')
        assert refusal(repository, tmp_path / "home").endswith(
            "routes.json names release r0009, which is not in the repository; there is: r0001"
        )

    @pytest.mark.parametrize(
        "content",
        [b"{", b"\xff\xfe"],
        ids=["cut", "bytes"],
    )
    def test_a_broken_route_table_says_what_to_write(
        self, content: bytes, served_repository: Path, tmp_path: Path
    ) -> None:
        repository = copy_of(served_repository, tmp_path / "repository")
        (repository / ROUTES_FILE).write_bytes(content)
        line = refusal(repository, tmp_path / "home", code=2)
        assert line.startswith("fraudctl: routes.json is broken: ")

    def test_a_file_of_the_release_that_was_changed_is_named(self, served_repository: Path, tmp_path: Path) -> None:
        repository = copy_of(served_repository, tmp_path / "repository")
        changed = repository / part_name("decision", 1) / "1" / DECISION_FILE
        changed.write_text(changed.read_text().replace('"review_at": 0', '"review_at": 0.0', 1) + " ")
        line = refusal(repository, tmp_path / "home")
        assert line == (
            "fraudctl: release r0001: fraud_decision_r0001/1/decision.json was changed after it was made; "
            "restore the release"
        )

    def test_a_home_that_cannot_be_written_is_named(self, served_repository: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        home = tmp_path / "file" / "home"
        line = refusal(served_repository, home)
        assert line == f"fraudctl: folder {home}: Not a directory; choose another with --home"

    def test_a_store_of_one_process_is_refused(self, served_repository: Path, tmp_path: Path) -> None:
        line = refusal(served_repository, tmp_path / "home", "--store", "memory:", code=2)
        assert "write lmdb:///folder" in line

    def test_a_model_that_triton_cannot_load_is_one_line(self, served_repository: Path, tmp_path: Path) -> None:
        repository = copy_of(served_repository, tmp_path / "repository")
        changed = f"{part_name('model', 1)}/1/model.onnx"
        (repository / changed).write_bytes(b"no graph")
        sign_again(repository, changed)
        line = refusal(repository, tmp_path / "home")
        assert "while starting" in line
        assert "fraud_model_r0001" in line


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 MiB: a little more than the server wants."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False, timeout=20)
    except FileNotFoundError:
        pytest.skip("a small disk needs the command mount")
    if done.returncode:
        pytest.skip(f"a small disk needs the right to mount: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=20)


def fill(path: Path) -> None:
    """Take all the space that a disk has left."""
    part = bytes(1 << 16)
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(part)
        except OSError:
            return


class TestFullDisks:
    def test_too_little_space_at_the_start_is_one_line(self, small_disk: Path, served_repository: Path) -> None:
        fill(small_disk / "ballast")
        line = refusal(served_repository, small_disk / "home")
        assert line.startswith(
            f"fraudctl: the disk of folder {small_disk / 'home'} has 0 MiB left; the server wants 256"
        )

    def test_a_store_on_a_full_disk_is_one_line(
        self, small_disk: Path, served_repository: Path, tmp_path: Path
    ) -> None:
        fill(small_disk / "ballast")
        line = refusal(served_repository, tmp_path / "home", "--store", f"lmdb://{small_disk / 'store'}")
        assert line.startswith(
            f"fraudctl: the disk of folder {small_disk / 'store'} has 0 MiB left; the server wants 256"
        )

    def test_a_store_that_gets_full_while_serving_is_told_and_recovers(
        self, small_disk: Path, served_repository: Path, served_pipeline: Pipeline, tmp_path: Path, fresh: Fresh
    ) -> None:
        store, ballast = small_disk / "store", small_disk / "ballast"
        with (
            Server(served_repository, tmp_path / "home", "--store", f"lmdb://{store}") as server,
            FraudClient(server.url, deadline=PATIENT) as client,
        ):
            client.score_rows(fresh.rows(1))
            fill(ballast)
            source = Source.PRIMARY
            while source is Source.PRIMARY:  # until the pages that were free in the store's file are used up
                rows = fresh.rows(256)
                source = Source(int(client.score_rows(rows).verdict[:, 5].max()))
            away = fresh.rows(3)
            degraded = client.score_rows(away)
            assert set(degraded.verdict[:, 5].tolist()) == {Source.SCORECARD}, "no window is read as empty"
            ballast.unlink()
            until(lambda: client.score_rows(fresh.rows(1)).verdict[0, 5] == Source.PRIMARY)
            again = client.score_rows(away)
            assert again.score.tobytes() == degraded.score.tobytes(), "what was answered meanwhile is in the store now"
            label = np.array([[away[0, 0], 1, away[0, 1]]])
            assert client.label_rows(label).tolist() == [Accepted.APPLIED]
            restarts = [line for line in server.said.lines if "starting again" in line]
            assert restarts == [], "the server was not restarted for it"
