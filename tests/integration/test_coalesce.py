"""The backend `coalesce` in a real Triton, before a model that says what it was asked."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from fraud_scoring.decision_log.handover import Handover
from fraud_server.ports import free_ports
from fraud_server.process import TritonProcess
from fraud_server.settings import Ports, ServeSettings
from support.held_syncs import HeldSyncs
from support.release import MODEL_REPOSITORY

pytestmark = pytest.mark.triton

TARGET: Final = '''
import json, pathlib, socket, threading, time
import numpy as np
import triton_python_backend_utils as pb_utils
from fraud_scoring.line import Call, Line

HELD, ASKED, NAMED = (pathlib.Path(__file__).with_name(name) for name in ("held", "asked", "named"))


class TritonPythonModel:
    """Score: the parameter `mark`. Verdict: call, requests and rows in it, place in it, 1 if it came over the line.

    A row of -1 is refused, one of -3 fails, one of -4 cuts the line. What is in the file `named` is named as the line.
    """

    calls = 0

    def initialize(self, args):
        self.line = Line(self.called)

    def execute(self, requests):
        return [self.response(request) for request in requests]

    def response(self, request):
        call = Call(*(
            pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in ("transaction", "members", "parameters")
        ), True)
        outputs = self.answer(call._replace(parameters=call.parameters.tobytes()), 0)
        named = NAMED.read_text() if NAMED.exists() else self.line.name
        outputs["line"] = np.frombuffer(named.encode(), np.uint8)
        wanted = [*request.requested_output_names()]
        return pb_utils.InferenceResponse([pb_utils.Tensor(n, v) for n, v in outputs.items() if n in wanted])

    def called(self, call):
        if (call.rows[:, 0] == -4).any():
            threading.Thread(target=self.line.close).start()
            self.line = Line(self.called)
            raise OSError("cut")
        try:
            outputs = self.answer(call, 1)
        except ValueError as error:
            pb_utils.Logger.log_error(str(error))
            return 1, str(error)
        if not call.with_features:
            del outputs["features"]
        return outputs

    def answer(self, call, by_line):
        rows, members = call.rows, call.members
        ASKED.touch()
        while HELD.exists():
            time.sleep(0.002)
        self.calls += 1
        lines = call.parameters.decode().splitlines()
        parameters = [json.loads(line or "{}") for line in lines]
        marks = [one.get("mark", 0.0) for one in parameters]
        texts = [json.dumps(mark) if isinstance(mark, str) else "" for mark in marks]
        place = np.repeat(np.arange(len(members)), members)
        first = rows[np.cumsum(members) - members, 0]
        if (first == -3).any():
            raise ValueError("as it was told")
        verdict = np.zeros((len(rows), 6), np.int32)
        verdict[:, 0], verdict[:, 1], verdict[:, 2] = self.calls, len(members), len(rows)
        verdict[:, 3], verdict[:, 4], verdict[:, 5] = place, first[place], by_line
        score = np.array([0 if text else mark for mark, text in zip(marks, texts)], np.float32)[place].reshape(-1, 1)
        outputs = {"score": score, "verdict": verdict, "features": rows.astype(np.float32)}
        refusals = ["3 refused,  as said" if value == -1 else text and "4 " + text for value, text in zip(first, texts)]
        if any(refusals):
            outputs["refusals"] = np.frombuffer("".join(line + "\\n" for line in refusals).encode(), np.uint8)
        for one in parameters:
            if "unsynced" in one:
                outputs["unsynced"] = np.frombuffer(one["unsynced"].encode(), np.uint8)
        if (first == -2).any():
            outputs["widths"] = np.where(first == -2, 1, rows.shape[1]).astype(np.int32)
        return outputs
'''


async def come(said: Callable[[], bool]) -> None:
    """Until it is said, while the event loop goes on."""
    give_up = time.monotonic() + 30
    while not said():
        assert time.monotonic() < give_up, "what is waited for does not come"
        await asyncio.sleep(0.002)


class Front:
    """A server of `fraud_score` as it is in git, with a target of ours."""

    def __init__(
        self, ports: Ports, folder: Path, process: TritonProcess, logs: Path, syncs: HeldSyncs, *, has_line: bool
    ) -> None:
        self.logs, self.syncs, self.has_line = logs, syncs, has_line
        self.url = f"127.0.0.1:{ports.grpc}"
        self.http_url = f"127.0.0.1:{ports.http}"
        self.process = process
        self._held, self._asked, self.named = (folder / name for name in ("held", "asked", "named"))

    @contextmanager
    def held(self) -> Iterator[None]:
        """While this lasts the target answers nothing."""
        self._asked.unlink(missing_ok=True)
        self._held.touch()
        try:
            yield
        finally:
            self._held.unlink()

    async def until_asked(self) -> None:
        """Until the target has a call that it holds; when that was waited for, until it has another one."""
        await come(self._asked.exists)
        self._asked.unlink()

    def together(self, requests: list[dict[str, Any]]) -> list[Any]:
        """The answers, or errors, to requests that wait while a first one is being answered."""

        async def run() -> list[Any]:
            async with grpc_aio.InferenceServerClient(self.url) as triton:
                with self.held():
                    first = asyncio.create_task(triton.infer("fraud_score", **request(rows(1))))
                    await self.until_asked()
                    tasks = [asyncio.create_task(triton.infer("fraud_score", **one)) for one in requests]
                    for _ in range(20):  # on the same connection: the requests have come before these are answered
                        await triton.get_inference_statistics("fraud_score")
                await first
                return await asyncio.gather(*tasks, return_exceptions=True)

        return asyncio.run(run())


def rows(count: int, *, first: int = 7, columns: int = 5) -> np.ndarray:
    made = np.arange(count * columns, dtype=np.int64).reshape(count, columns)
    made[0, 0] = first
    return made


def request(
    values: np.ndarray, outputs: tuple[str, ...] = ("score", "verdict"), **parameters: str | int | bool | float
) -> dict[str, Any]:
    tensor = grpc_client.InferInput("transaction", values.shape, "INT64")
    tensor.set_data_from_numpy(values)
    wanted = [grpc_client.InferRequestedOutput(name) for name in outputs]
    return {"inputs": [tensor], "outputs": wanted, "parameters": parameters or None}


def wait_for(said: Callable[[], bool], process: TritonProcess) -> None:
    give_up = time.monotonic() + 60
    while True:
        try:
            if said():
                return
        except InferenceServerException:
            pass
        assert time.monotonic() < give_up, process.last_error()
        time.sleep(0.02)


def write(repository: Path, name: str, config: str, model: str = "") -> None:
    version = repository / name / "1"
    version.mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(config, encoding="utf-8")
    (version / "model.py").write_text(model, encoding="utf-8")


@pytest.fixture(scope="module", params=["over Triton", "over the line"])
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    has_line = request.param == "over the line"
    folder = tmp_path_factory.mktemp("coalesce")
    repository = folder / "models"
    score, door = (
        (MODEL_REPOSITORY / name / "config.pbtxt").read_text() for name in ("fraud_score", "fraud_front_door")
    )
    write(repository, "fraud_score", score)
    write(repository, "fraud_front_door", door, TARGET)
    if not has_line:
        (repository / "fraud_front_door" / "1" / "named").write_text("nobody")
    write(
        repository,
        "of_nobody",
        score.replace('"fraud_score"', '"of_nobody"').replace('"fraud_front_door"', '"nobody"'),
    )
    ports, logs = Ports(*free_ports(3)), folder / "logs"
    logs.mkdir()
    syncs = HeldSyncs(folder / "told", logs)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in syncs.environment.items():
            environment.setenv(name, value)
        process = TritonProcess(
            ServeSettings(repository, folder / "home", ports, store_url="", log_mode="off"),
            ["fraud_front_door", "fraud_score", "of_nobody"],
        )
    try:
        found = Front(ports, repository / "fraud_front_door" / "1", process, logs, syncs, has_line=has_line)
        with grpc_client.InferenceServerClient(found.url) as triton:
            wait_for(triton.is_server_ready, process)
        assert by_line(found) == 0, "nobody has named a line yet"
        yield found
    finally:
        process.kill()


def test_what_comes_while_a_call_is_out_is_one_call_and_each_gets_its_own_rows(front: Front) -> None:
    sizes = [1, 5, 1, 64, 2, 200, 27, *[1] * 50]
    answers = front.together([request(rows(size, first=i)) for i, size in enumerate(sizes)])
    verdicts = [answer.as_numpy("verdict") for answer in answers]
    assert [verdict.shape for verdict in verdicts] == [(size, 6) for size in sizes]
    assert [verdict[:, 4].tolist() for verdict in verdicts] == [[i] * size for i, size in enumerate(sizes)]
    assert len({int(verdict[0, 0]) for verdict in verdicts}) <= 10, "a few may have missed the call of the others"


def test_each_gets_the_outputs_that_it_asks_for(front: Front) -> None:
    asked = [("verdict",), ("features", "score"), ("score",), ("score", "verdict", "features")]
    answers = front.together([request(rows(3), outputs) for outputs in asked])
    got = [{output["name"] for output in answer.get_response(as_json=True)["outputs"]} for answer in answers]
    assert got == [set(names) for names in asked]
    assert answers[1].as_numpy("features").tolist() == rows(3).astype(np.float32).tolist()


def test_requests_of_other_widths_are_other_calls(front: Front) -> None:
    widths = [5, 5, 4, 4, 5, 9]
    answers = front.together([request(rows(2, columns=width), ("verdict", "features")) for width in widths])
    assert [answer.as_numpy("features").shape for answer in answers] == [(2, width) for width in widths]
    for answer, width in zip(answers, widths, strict=True):
        assert (answer.as_numpy("verdict")[:, 2] <= 2 * widths.count(width)).all()


def test_a_refusal_is_for_its_own_request_with_its_code_and_text(front: Front) -> None:
    firsts = [7, -1, 7, -1, -1, 7]
    answers = front.together([request(rows(2, first=first)) for first in firsts])
    for first, answer in zip(firsts, answers, strict=True):
        if first == 7:
            assert answer.as_numpy("verdict")[:, 4].tolist() == [7, 7]
        else:
            assert isinstance(answer, InferenceServerException)
            assert (answer.status(), answer.message()) == ("StatusCode.INVALID_ARGUMENT", "refused,  as said")


def test_features_of_another_width_are_cut_for_their_own_request(front: Front) -> None:
    firsts = [7, -2, 7]
    answers = front.together([request(rows(2, first=first), ("features", "score")) for first in firsts])
    assert [answer.as_numpy("features").shape for answer in answers] == [(2, 5), (2, 1), (2, 5)]
    assert answers[1].as_numpy("features").tolist() == [[-2.0], [5.0]]


def test_parameters_reach_the_target_each_with_its_own_request(front: Front) -> None:
    marks = [3, 0.5, True, 4, 2**40]
    answers = front.together([request(rows(1), mark=mark) for mark in marks])
    assert [float(answer.as_numpy("score")[0, 0]) for answer in answers] == [float(np.float32(mark)) for mark in marks]


@pytest.mark.parametrize("text", ['a "quoted" \\ word', "two\nlines\tand a tab", "naïve – ü 中", "\x01\x1f", ""])
def test_text_in_a_parameter_comes_as_it_was_sent(front: Front, text: str) -> None:
    (answer,) = front.together([request(rows(1), mark=text)])
    assert isinstance(answer, InferenceServerException)
    assert (answer.status(), answer.message()) == ("StatusCode.UNAVAILABLE", json.dumps(text))


def test_a_call_has_at_most_4096_rows(front: Front) -> None:
    answers = front.together([request(rows(1000, first=i)) for i in range(12)])
    verdicts = [answer.as_numpy("verdict") for answer in answers]
    assert [int(verdict[0, 4]) for verdict in verdicts] == list(range(12))
    assert max(int(verdict[0, 2]) for verdict in verdicts) <= 4096


def test_a_target_that_fails_is_an_error_to_all_that_it_was_asked_for_and_to_no_other(front: Front) -> None:
    answers = front.together([request(rows(1, first=first)) for first in (7, -3, 7)])
    assert all(isinstance(answer, InferenceServerException) for answer in answers[1:2])
    assert all("as it was told" in str(answer) for answer in answers if isinstance(answer, InferenceServerException))
    (after,) = front.together([request(rows(1))])
    assert after.as_numpy("verdict")[0, 4] == 7


def test_a_target_that_is_not_served_is_named(front: Front) -> None:
    with (
        grpc_client.InferenceServerClient(front.url) as triton,
        pytest.raises(InferenceServerException, match="'nobody'"),
    ):
        triton.infer("of_nobody", **request(rows(1)))


@pytest.mark.parametrize("count", [1, 100, 1024, 4096])
def test_what_comes_over_http_in_several_pieces_is_whole(front: Front, count: int) -> None:
    tensor = http_client.InferInput("transaction", (count, 5), "INT64")
    tensor.set_data_from_numpy(rows(count))
    wanted = [http_client.InferRequestedOutput("features")]
    with http_client.InferenceServerClient(front.http_url) as triton:
        answer = triton.infer("fraud_score", [tensor], outputs=wanted)
    assert answer.as_numpy("features").tolist() == rows(count).astype(np.float32).tolist()


def test_a_tensor_of_fewer_bytes_than_its_shape_says_is_refused_alone(front: Front) -> None:
    short = request(rows(2))
    short["inputs"][0]._raw_content = rows(1).tobytes()
    answers = front.together([request(rows(1)), short, request(rows(3))])
    assert [answers[place].as_numpy("verdict").shape for place in (0, 2)] == [(1, 6), (3, 6)]
    assert isinstance(answers[1], InferenceServerException)
    assert answers[1].status() == "StatusCode.INVALID_ARGUMENT"


def test_two_hundred_callers_at_once_get_each_their_own(front: Front) -> None:
    async def one(triton: Any, caller: int) -> None:
        for turn in range(20):
            first = 1_000 * caller + turn + 1
            answer = await triton.infer("fraud_score", **request(rows(1 + turn % 3, first=first)))
            assert answer.as_numpy("verdict")[:, 4].tolist() == [first] * (1 + turn % 3)

    async def run() -> None:
        async with grpc_aio.InferenceServerClient(front.url) as triton:
            await asyncio.gather(*(one(triton, caller) for caller in range(200)))

    asyncio.run(run())


def test_without_a_target_in_its_configuration_it_does_not_load(tmp_path: Path) -> None:
    config = (MODEL_REPOSITORY / "fraud_score" / "config.pbtxt").read_text()
    lines = [line for line in config.splitlines() if not line.startswith("parameters")]
    write(tmp_path / "models", "fraud_score", "\n".join(lines))
    settings = ServeSettings(
        tmp_path / "models", tmp_path / "home", Ports(*free_ports(3)), store_url="", log_mode="off"
    )
    process = TritonProcess(settings, ["fraud_score"])
    try:
        wait_for(lambda: "name the model to call in the parameter target" in process.last_error(), process)
    finally:
        process.kill()


def test_calls_go_over_the_line_from_when_it_is_named(front: Front) -> None:
    answers = front.together([request(rows(count)) for count in (1, 4000, 7)])
    assert [int(answer.as_numpy("verdict")[-1, 5]) for answer in answers] == [front.has_line] * 3


@pytest.mark.parametrize("front", ["over the line"], indirect=True)
class TestTheLine:
    def test_where_it_is_cut_the_call_is_made_over_triton_and_the_next_over_the_new_one(self, front: Front) -> None:
        assert by_line(front) == 1
        assert by_line(front, first=-4) == 0
        assert by_line(front) == 1

    def test_a_target_that_is_silent_is_asked_over_triton_too(self, front: Front) -> None:
        async def run() -> None:
            async with grpc_aio.InferenceServerClient(front.url) as triton:
                with front.held():
                    task = asyncio.create_task(triton.infer("fraud_score", **request(rows(1))))
                    await front.until_asked()
                    await front.until_asked()
                assert (await task).as_numpy("verdict")[0, 5] == 0

        assert by_line(front) == 1
        asyncio.run(run())
        assert by_line(front) == 1

    @pytest.mark.parametrize(
        "said",
        [
            struct.pack("<IIiI", 12, 1, 0, 0),
            struct.pack("<IIiI16sIIqqQ", 60, 1, 0, 0, b"score", 11, 2, 1, 1, 4),
            struct.pack("<IIiI16sIIqqQf4x", 68, 1, 0, 0, b"score", 11, 2, 2, 1, 4, 0.5),
            struct.pack("<IIiI16sIIqqQf", 64, 2, 0, 0, b"score", 11, 2, 1, 1, 4, 0.5),
            struct.pack("<IIiI16sIIqqQf4x", 68, 1, 0, 0, b"a name with no end", 11, 2, 1, 1, 4, 0.5),
        ],
        ids=["no output", "no data", "rows of nobody", "not filled up", "a name that does not end"],
    )
    def test_an_answer_that_does_not_hold_together_is_an_error_and_no_more(self, front: Front, said: bytes) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{front.named}"[:60])
            listener.listen()
            listener.settimeout(30)
            front.named.write_text(f"{front.named}"[:59])
            try:
                assert by_line(front, first=-4) == 0
            finally:
                front.named.unlink()
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(by_line, front)
                end, _ = listener.accept()
                with end:
                    assert end.recv(1 << 16)
                    end.sendall(said)
                    with pytest.raises(InferenceServerException, match="an answer") as error:
                        answer.result()
        assert error.value.status() == "StatusCode.INTERNAL"
        assert by_line(front) == 0
        assert by_line(front) == 1


def by_line(front: Front, first: int = 7) -> int:
    """Whether an answer came over the line."""
    with grpc_client.InferenceServerClient(front.url) as triton:
        return int(triton.infer("fraud_score", **request(rows(1, first=first))).as_numpy("verdict")[0, 5])


class Log:
    """A log of which a test names places; each of its segments is one file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "lock").touch()
        self.handover = Handover(folder / "lock")

    def named(self, segment: int, size: int) -> str:
        path = self._folder / f"segment-{segment}"
        path.touch()
        return self.handover.name(segment, size, path).decode()


@pytest.fixture
def log(front: Front) -> Iterator[Log]:
    made = Log(Path(tempfile.mkdtemp(dir=front.logs)))
    yield made
    made.handover.close()


def score(front: Front, **parameters: str) -> Any:
    with grpc_client.InferenceServerClient(front.url) as triton:
        return triton.infer("fraud_score", **request(rows(1), **parameters))


class TestWhatMustBeOnTheDiskFirst:
    def test_answers_wait_for_it_in_their_order_and_the_next_call_does_not(self, front: Front, log: Log) -> None:
        async def run() -> None:
            async with grpc_aio.InferenceServerClient(front.url) as triton:
                with front.syncs.held():
                    first = asyncio.create_task(
                        triton.infer("fraud_score", **request(rows(1), unsynced=log.named(1, 100)))
                    )
                    await come(front.syncs.is_asked)
                    with front.held():  # the next call comes to the target while the first waits for the disk
                        second = asyncio.create_task(
                            triton.infer("fraud_score", **request(rows(1), unsynced=log.named(1, 200)))
                        )
                        await front.until_asked()
                    for _ in range(20):  # it has its answer, and waits for its turn
                        await triton.get_inference_statistics("fraud_score")
                    assert [first.done(), second.done()] == [False, False]
                    assert not log.handover.is_settled()
                await asyncio.gather(first, second)

        asyncio.run(run())
        assert log.handover.is_settled()
        assert log.handover.synced(1) == 200

    def test_one_segment_follows_another(self, front: Front, log: Log) -> None:
        for segment, size in ((1, 10), (1, 20), (2, 5), (2, 9)):
            score(front, unsynced=log.named(segment, size))
            assert log.handover.synced(segment) == size
        assert log.handover.synced(1) == 0

    @pytest.mark.parametrize("good", [0, 70])
    def test_a_sync_that_fails_is_an_error_to_all_of_its_segment_and_the_writer_is_told(
        self, good: int, front: Front, log: Log
    ) -> None:
        if good:
            score(front, unsynced=log.named(3, good))
        with front.syncs.failing(), pytest.raises(InferenceServerException, match="ask again") as refused:
            score(front, unsynced=log.named(3, 100))
        assert refused.value.status() == "StatusCode.UNAVAILABLE"
        assert log.handover.lost(3) == good
        assert log.handover.is_settled()
        with pytest.raises(InferenceServerException, match="the decision log could not be brought to the disk"):
            score(front, unsynced=log.named(3, 120))
        score(front, unsynced=log.named(4, 10))
        assert log.handover.synced(4) == 10

    @pytest.mark.parametrize("named", ["nonsense", "1 2\n/nowhere/segment", "1 2\n/nowhere/segment\n/nowhere/lock"])
    def test_what_is_not_there_is_an_error_and_the_next_is_answered(self, named: str, front: Front, log: Log) -> None:
        with pytest.raises(InferenceServerException, match="could not be brought to the disk"):
            score(front, unsynced=named)
        score(front, unsynced=log.named(1, 10))
        assert log.handover.synced(1) == 10

    def test_a_file_that_is_too_short_to_be_told_in_is_an_error(self, front: Front, log: Log, tmp_path: Path) -> None:
        (tmp_path / "short").write_bytes(b"123")
        segment = log.named(1, 10).split("\n")[1]
        with pytest.raises(InferenceServerException, match="could not be brought to the disk"):
            score(front, unsynced=f"1 10\n{segment}\n{tmp_path / 'short'}")

    def test_in_a_storm_of_calls_each_is_answered_after_its_place_is_there(self, front: Front, log: Log) -> None:
        async def one(triton: Any, place: int) -> None:
            await triton.infer("fraud_score", **request(rows(1), unsynced=log.named(1 + place // 50, 1 + place % 50)))

        async def run() -> None:
            async with grpc_aio.InferenceServerClient(front.url) as triton:
                for place in range(0, 400, 20):
                    await asyncio.gather(*(one(triton, place) for place in range(place, place + 20)))

        asyncio.run(run())
        assert log.handover.synced(8) > 0
