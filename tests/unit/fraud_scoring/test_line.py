"""The line to the front door, asked as the backend in C asks."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from fraud_scoring.line import Call, Line, Outputs

PATIENT = 30.0
HEAD, HEARD, PART = struct.Struct("<6I"), struct.Struct("<IIiI"), struct.Struct("<16sIIqqQ")


def echo(call: Call) -> Outputs | tuple[int, str]:
    """What was asked; a first value of -1 is refused."""
    if len(call.rows) and call.rows[0, 0] == -1:
        return 3, "refused – as said"
    outputs: dict[str, np.ndarray] = {
        "score": call.rows[:, :1].astype(np.float32),
        "members": call.members,
        "unsynced": np.frombuffer(call.parameters, np.uint8),
    }
    if call.with_features:
        outputs["features"] = call.rows.astype(np.float32)
    return outputs


def asked(rows: np.ndarray, members: list[int], parameters: bytes = b"", features: bool = False) -> bytes:
    body = rows.tobytes() + np.array(members, np.int32).tobytes() + parameters
    sizes = (*rows.shape, len(members), len(parameters), int(features))
    return HEAD.pack(HEAD.size - 4 + len(body), *sizes) + body


def exactly(end: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        more = end.recv(size - len(got))
        assert more, "the line was cut"
        got += more
    return got


def heard(end: socket.socket) -> dict[str, np.ndarray] | tuple[int, str]:
    size, count, code, _ = HEARD.unpack(exactly(end, HEARD.size))
    body = exactly(end, size + 4 - HEARD.size)
    if code:
        return code, body.decode()
    types = {2: np.uint8, 8: np.int32, 9: np.int64, 11: np.float32}
    outputs, at = {}, 0
    for _ in range(count):
        name, kind, dims, *shape, size = PART.unpack_from(body, at)
        at += PART.size
        value = np.frombuffer(body[at : at + size], types[kind]).reshape(shape[:dims])
        outputs[name.rstrip(b"\0").decode()] = value
        at += -(-size // 8) * 8
    assert at == len(body)
    return outputs


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line(echo)
    yield made
    made.close()


def connected(line: Line) -> socket.socket:
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    end.settimeout(PATIENT)
    end.connect(f"\0{line.name}")
    return end


def assert_refused(line: Line) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end, pytest.raises(ConnectionRefusedError):
        end.connect(f"\0{line.name}")


def matrix(count: int, columns: int = 5) -> np.ndarray:
    return np.arange(count * columns, dtype=np.int64).reshape(count, columns)


@pytest.mark.parametrize("count", [0, 1, 3, 4096])
def test_an_answer_is_to_what_was_asked_whatever_its_size(line: Line, count: int) -> None:
    rows = matrix(count)
    with connected(line) as end:
        for features in (True, False):  # call after call on one connection
            end.sendall(asked(rows, [count], b"{}\n" * 7, features))
            outputs = heard(end)
            assert isinstance(outputs, dict)
            assert outputs["score"].tolist() == rows[:, :1].tolist()
            assert outputs["members"].tolist() == [count]
            assert outputs["unsynced"].tobytes() == b"{}\n" * 7
            assert ("features" in outputs) == features
            assert not features or outputs["features"].tolist() == rows.tolist()


def test_a_call_that_comes_in_pieces_is_one_call(line: Line) -> None:
    said = asked(matrix(9), [4, 5], b"\n\n")
    with connected(line) as end:
        for byte in said:
            end.sendall(bytes([byte]))
        outputs = heard(end)
    assert isinstance(outputs, dict)
    assert outputs["members"].tolist() == [4, 5]


def test_a_refusal_has_its_code_and_text_and_the_line_stays(line: Line) -> None:
    refused = matrix(1)
    refused[0, 0] = -1
    with connected(line) as end:
        end.sendall(asked(refused, [1]))
        assert heard(end) == (3, "refused – as said")
        end.sendall(asked(matrix(1), [1]))
        assert isinstance(heard(end), dict)


def test_rows_that_somebody_keeps_are_not_written_over() -> None:
    kept: list[Call] = []

    def keep(call: Call) -> Outputs:
        kept.append(call)
        return {}

    line = Line(keep)
    with connected(line) as end:
        for first in (7, 8):
            end.sendall(asked(matrix(2) + first, [2]))
            assert heard(end) == {}
    line.close()
    assert [int(call.rows[0, 0]) for call in kept] == [7, 8]
    assert kept[0].rows.flags.writeable, "kernels are compiled for such arrays"


def test_who_comes_after_a_caller_that_went_away_is_heard(line: Line) -> None:
    with connected(line) as end:
        end.sendall(asked(matrix(50), [50])[:100])
    with connected(line) as end:
        end.sendall(asked(matrix(2), [2]))
        assert isinstance(heard(end), dict)


@pytest.mark.parametrize(
    "said", [HEAD.pack(4, 0, 0, 0, 0, 0), HEAD.pack(HEAD.size - 4, 1, 5, 1, 0, 0)], ids=["too short", "fewer bytes"]
)
def test_who_breaks_the_form_is_cut_off_and_the_next_one_heard(line: Line, said: bytes) -> None:
    with connected(line) as end:
        end.sendall(said)
        assert end.recv(1) == b""
    with connected(line) as end:
        end.sendall(asked(matrix(2), [2]))
        assert isinstance(heard(end), dict)


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is only had by root")
def test_another_user_is_not_heard(line: Line) -> None:
    program = (
        "import os, socket, sys\n"
        "os.setuid(65534)\n"
        "end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)\n"
        "end.settimeout(30)\n"
        "end.connect('\\0' + sys.argv[1])\n"
        "sys.exit(0 if end.recv(1) == b'' else 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, line.name], check=False)
    assert done.returncode == 0
    with connected(line) as end:
        end.sendall(asked(matrix(2), [2]))
        assert isinstance(heard(end), dict)


def test_who_closes_it_waits_for_the_answer_that_is_being_made_and_its_name_is_gone() -> None:
    came, may = threading.Event(), threading.Event()

    def slow(call: Call) -> Outputs:
        came.set()
        assert may.wait(PATIENT)
        return echo(call)  # type: ignore[return-value]

    line = Line(slow)
    with connected(line) as end:
        end.sendall(asked(matrix(1), [1]))
        assert came.wait(PATIENT)
        closing = threading.Thread(target=line.close)
        closing.start()
        may.set()
        assert isinstance(heard(end), dict)
        closing.join(PATIENT)
        assert not closing.is_alive()
        assert end.recv(1) == b""
    assert_refused(line)


def test_one_that_nobody_called_closes_at_once() -> None:
    line = Line(echo)
    line.close()
    assert_refused(line)
