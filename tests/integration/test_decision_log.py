"""The decision log of a real server: what was answered is in it, as it was answered, whatever dies or fills up."""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import polars
import pytest
import tritonclient.grpc as grpc_client
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from fraud_client import FraudClient, InvalidRequest, Policy, Unavailable
from fraud_scoring import wire
from fraud_scoring.decision_log import Decisions, Gap, Labels, Signer, read, verify_log, writers
from support.held_syncs import HeldSyncs
from support.kills import Lives, to_stderr
from support.lost_writes import compile_shim, lose
from support.server import Server, fraudctl, free_ports, json_of, until
from support.shims import gcc

if TYPE_CHECKING:
    from conftest import Fresh

PATIENT: Final = 20.0
KILLS: Final = 8
RUNS: Final = 10
SOURCE: Final = wire.VERDICT_COLUMNS.index("source")

Row = tuple[tuple[int, ...], bytes, bytes, bool]
"""A transaction's row, the bits of its score and verdict, whether it is a repeat."""


def logged(home: Path) -> list[Row]:
    found: list[Row] = []
    for name in writers(home / "log"):
        for frame, _ in read(home / "log" / name):
            content = frame.content()
            if isinstance(content, Decisions):
                for row, score, verdict, repeat in zip(
                    content.transaction.tolist(), content.score, content.verdict, content.repeat, strict=True
                ):
                    found.append((tuple(row), score.tobytes(), verdict.tobytes(), bool(repeat)))
    return found


def kinds(home: Path, writer: str, kind: type) -> list:  # type: ignore[type-arg]
    return [c for frame, _ in read(home / "log" / writer) if isinstance(c := frame.content(), kind)]


class Caller:
    """Sends and remembers."""

    def __init__(self, client: FraudClient) -> None:
        self._client = client
        self.answered: list[Row] = []
        self.source = -1
        """Of the last answer."""

    def score(self, rows: np.ndarray, repeat: bool = False) -> None:
        scored = self._client.score_rows(rows)
        self.source = int(scored.verdict[0, SOURCE])
        for row, score, verdict in zip(rows.tolist(), scored.score, scored.verdict, strict=True):
            self.answered.append((tuple(row), score.tobytes(), verdict.astype(np.int32).tobytes(), repeat))


def ask_past_the_door(url: str, rows: np.ndarray) -> None:
    """Ask the model behind `fraud_score`, as somebody who brings nothing to the disk."""
    inputs = {"transaction": rows, "members": np.array([len(rows)], np.int32), "parameters": np.array([10], np.uint8)}
    tensors = []
    for name, value in inputs.items():
        tensors.append(grpc_client.InferInput(name, value.shape, np_to_triton_dtype(value.dtype)))
        tensors[-1].set_data_from_numpy(value)
    with grpc_client.InferenceServerClient(url) as triton:
        triton.infer("fraud_front_door", tensors)


class Served(NamedTuple):
    """A home after a mixed stream, and what its callers know."""

    home: Path
    answered: list[Row]
    labels: np.ndarray
    verified_live: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def served(served_repository: Path, tmp_path_factory: pytest.TempPathFactory, fresh: Fresh) -> Served:
    """Singles, batches, repeats, dry runs, refused rows and labels, many at once; verified before the server ended."""
    home = tmp_path_factory.mktemp("logged")
    with Server(served_repository, home) as server, FraudClient(server.url, deadline=PATIENT) as client:
        caller = Caller(client)

        def stream(seed: int) -> None:
            rng = random.Random(seed)
            sent: list[np.ndarray] = []
            for _ in range(40):
                kind = rng.random()
                if kind < 0.15:
                    client.score_rows(fresh.rows(rng.randint(1, 5)), dry_run=True)
                elif kind < 0.3:
                    bad = fresh.rows(3)
                    bad[rng.randrange(3), 4] = 0
                    with pytest.raises(InvalidRequest):
                        client.score_rows(bad)
                elif kind < 0.5 and sent:
                    caller.score(rng.choice(sent), repeat=True)
                else:
                    sent.append(fresh.rows(1 if kind < 0.75 else rng.randint(2, 64)))
                    caller.score(sent[-1])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(stream, range(8)))
        labels = np.array([[row[0][0], i % 2, row[0][1]] for i, row in enumerate(caller.answered[:20])], np.int64)
        client.label_rows(labels)
        verified_live = fraudctl("log", "verify", "--home", home, "--json")
        assert server.stop() == 0
    return Served(home, caller.answered, labels, verified_live)


@pytest.mark.triton
class TestServing:
    def test_every_answer_is_in_the_log_once_and_as_it_was_given(self, served: Served) -> None:
        assert sorted(logged(served.home)) == sorted(served.answered)
        assert len(served.answered) > 500
        assert sum(repeat for *_, repeat in served.answered) > 10

    def test_labels_are_in_the_log_of_their_writer(self, served: Served) -> None:
        found = np.concatenate([labels.label for labels in kinds(served.home, "feedback-0", Labels)])
        assert found.tolist() == served.labels.tolist()

    def test_deadlines_and_stages_are_sane_and_the_refused_are_counted(self, served: Served) -> None:
        frames = kinds(served.home, "front-door-0", Decisions)
        assert sum(frame.refused for frame in frames) > 5
        for frame in frames:
            assert (frame.deadline_left_us < PATIENT * 1e6).all()
            assert (frame.deadline_left_us > 0).all()
            assert (frame.stage_us >= 0).all()
            assert frame.stage_us.sum() < PATIENT * 1e6
        assert np.median([frame.stage_us[2] for frame in frames if not frame.repeat.all()]) > 100  # the release's time

    def test_it_verifies_while_it_is_written_and_afterwards(self, served: Served) -> None:
        assert served.verified_live.returncode == 0, served.verified_live
        assert json.loads(served.verified_live.stdout)["decisions"] == len(served.answered)
        found = json_of("log", "verify", "--home", served.home)
        assert (found["findings"], found["decisions"], found["writers"]) == ([], len(served.answered), 2)

    def test_it_replays_to_the_bit(self, served: Served, served_repository: Path) -> None:
        found = json_of("log", "replay", "--home", served.home, "--repository", served_repository)
        assert (found["replayed"], found["different"], found["unknown_release"]) == (len(served.answered), 0, 0)

    def test_it_exports_and_tails(self, served: Served, tmp_path: Path) -> None:
        assert json_of("log", "export", "--home", served.home, "--out", tmp_path)["decisions"] == len(served.answered)
        frame = polars.read_parquet(tmp_path / "*" / "*.parquet")
        assert sorted(frame["transaction_id"].to_list()) == sorted(row[0] for row, *_ in served.answered)
        done = fraudctl("log", "tail", "--home", served.home, "-n", 5, "--json")
        assert done.returncode == 0
        assert [json.loads(line)["release"] for line in done.stdout.splitlines()] == ["r0001"] * 5

    def test_a_changed_byte_is_exit_code_1(self, served: Served, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(served.home, tmp_path / "copy", ignore=shutil.ignore_patterns("store", "run")))
        path = copy / "log" / "front-door-0" / "00000001.frdlog"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        done = fraudctl("log", "verify", "--home", copy, "--json")
        assert done.returncode == 1
        assert json.loads(done.stdout)["findings"]


def mounted(folder: Path, size: str) -> bool:
    """Whether a small file system could be mounted on `folder`: where we are root and may."""
    folder.mkdir(parents=True)
    libc = ctypes.CDLL(None, use_errno=True)
    return os.getuid() == 0 and libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, f"size={size}".encode()) == 0


@pytest.mark.triton
def test_on_a_full_disk_the_scorecard_answers_under_its_name_until_there_is_room_again(
    served_repository: Path, tmp_path: Path, fresh: Fresh
) -> None:
    home, ballast = tmp_path / "home", tmp_path / "home" / "log" / "ballast"
    if not mounted(home / "log", "8m"):
        pytest.skip("no small disk can be mounted here: it takes root, and a container that may mount")
    try:
        with Server(served_repository, home) as server, FraudClient(server.url, deadline=PATIENT) as client:
            caller, fallback = Caller(client), 0

            def source() -> int:
                rows = fresh.rows(2)
                scored = client.score_rows(rows)
                if scored.verdict[0, SOURCE] == wire.Source.PRIMARY:
                    for row, score, verdict in zip(rows.tolist(), scored.score, scored.verdict, strict=True):
                        caller.answered.append((tuple(row), score.tobytes(), verdict.astype(np.int32).tobytes(), False))
                return int(scored.verdict[0, SOURCE])

            assert [source() for _ in range(20)] == [wire.Source.PRIMARY] * 20
            for _ in range(2):
                with ballast.open("wb") as file:
                    while True:
                        try:
                            os.write(file.fileno(), bytes(4096))
                        except OSError:
                            break
                while source() != wire.Source.SCORECARD:  # the last page of the segment has room for some
                    pass
                fallback += 1
                for _ in range(10):
                    assert source() == wire.Source.SCORECARD
                    fallback += 1
                assert server.triton().is_running()
                ballast.unlink()

                def back() -> bool:
                    nonlocal fallback
                    found = source()
                    fallback += found == wire.Source.SCORECARD
                    return found == wire.Source.PRIMARY

                until(back, within=10)
                assert [source() for _ in range(20)] == [wire.Source.PRIMARY] * 20
            assert server.stop() == 0
            assert server.said.lines[-1].endswith("draining")
        gaps = kinds(home, "front-door-0", Gap)
        assert [gap.reason for gap in gaps] == ["No space left on device"] * 2
        assert sum(gap.answers for gap in gaps) == 2 * fallback
        assert sorted(logged(home)) == sorted(caller.answered)
        assert json_of("log", "verify", "--home", home)["findings"] == []
    finally:
        ctypes.CDLL(None).umount2(bytes(home / "log"), 2)


@pytest.mark.triton
@pytest.mark.skipif(gcc() is None, reason="the disk whose syncs fail is a library: it takes gcc")
@pytest.mark.parametrize("rows", [2, 200], ids=["synced by its writer", "handed over"])
def test_where_a_sync_fails_nothing_is_acknowledged_and_the_scorecard_answers_until_the_disk_is_well(
    rows: int, served_repository: Path, tmp_path: Path, fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    syncs = HeldSyncs(tmp_path / "told", home / "log")
    for name, value in syncs.environment.items():
        monkeypatch.setenv(name, value)
    with (
        Server(served_repository, home) as server,
        FraudClient(server.url, deadline=PATIENT, policy=Policy.plain()) as client,
    ):
        caller, unanswered, fallback = Caller(client), [], 0

        def is_primary() -> bool:
            nonlocal fallback
            caller.score(fresh.rows(rows))
            if caller.source == wire.Source.PRIMARY:
                return True
            fallback += rows
            del caller.answered[-rows:]  # what the last resort says is not in the log, and counted
            return False

        for _ in range(2):
            assert [is_primary() for _ in range(20)] == [True] * 20
            with syncs.failing():
                unanswered.append(fresh.rows(rows))
                with suppress(Unavailable):  # what its writer syncs, as it does when the head is due, has an answer
                    caller.score(unanswered[-1])
                    del caller.answered[-rows:], unanswered[-1]
                    fallback += rows
                assert [is_primary() for _ in range(10)] == [False] * 10
            until(is_primary, within=10)
        for again in unanswered:  # decided, and told to nobody: who asks again has that answer
            caller.score(again, repeat=True)
            assert caller.source == wire.Source.PRIMARY
        with syncs.failing(), pytest.raises(InferenceServerException, match="the decision log cannot be written"):
            ask_past_the_door(server.url, fresh.rows(200))
        until(is_primary, within=10)
        assert server.stop() == 0
    gaps = kinds(home, "front-door-0", Gap)
    assert {gap.reason for gap in gaps} == {"Input/output error"}
    assert sum(gap.answers for gap in gaps) == fallback
    assert sorted(logged(home)) == sorted(caller.answered)
    assert json_of("log", "verify", "--home", home)["findings"] == []


@pytest.mark.triton
def test_a_supervisor_that_is_killed_while_its_server_starts_leaves_nobody_who_holds_the_log(
    served_repository: Path, tmp_path: Path, fresh: Fresh
) -> None:
    home = tmp_path / "home"
    with Server(served_repository, home, wait=False) as server:
        until((home / "log" / "feedback-0" / "writer.lock").exists, within=40)
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    with Server(served_repository, home) as server, FraudClient(server.url, deadline=PATIENT) as client:
        caller = Caller(client)
        caller.score(fresh.rows(3))
        assert server.stop() == 0
    assert logged(home) == caller.answered


@pytest.mark.triton
@pytest.mark.timeout(150)
def test_after_kills_at_random_moments_everything_that_was_acknowledged_is_in_the_log(
    served_repository: Path, tmp_path: Path
) -> None:
    """A thousand of them: `make soak`."""
    tally = Lives(served_repository, tmp_path / "home", free_ports(), seed=11).run(KILLS, to_stderr)
    assert tally.missing == 0
    assert tally.nothing_lost, tally.to_json()
    assert tally.kills >= KILLS
    assert tally.acknowledged > 100


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_shim(tmp_path_factory.mktemp("shim"))


@pytest.mark.skipif(gcc() is None, reason="gcc is not installed: the disk that loses writes cannot be built")
class TestADiskThatLosesWhatWasNotSynced:
    @pytest.mark.parametrize("hands_over", [0, 1, 12])
    def test_nothing_that_was_acknowledged_is_lost(self, hands_over: int, library: Path, tmp_path: Path) -> None:
        losses = lose(library, tmp_path, RUNS, seed=1, hands_over=hands_over)
        assert (losses.runs, losses.missing, losses.findings) == (RUNS, 0, [])

    def test_the_control_loses_what_it_acknowledged_when_a_sync_does_nothing(
        self, library: Path, tmp_path: Path
    ) -> None:
        losses = lose(library, tmp_path, 4, seed=1, sync=False)
        assert losses.runs_with_losses == losses.runs == 4

    def test_async_loses_a_little_and_verify_says_so(self, library: Path, tmp_path: Path) -> None:
        losses = lose(library, tmp_path, RUNS, seed=1, durable=False)
        assert 0 < losses.missing < losses.acknowledged
        assert any("is not there" in what for what in losses.findings)


def test_a_log_that_nobody_wrote_into_is_sound(tmp_path: Path) -> None:
    key = Signer.open(tmp_path / "key").public_key
    assert verify_log(tmp_path / "log", key).findings == []
