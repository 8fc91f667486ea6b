"""The line from the backend `coalesce` to the front door's process: calls past Triton's python backend.

A listening socket without a place in the file system; only processes of this user are heard. One call is out at a time:

to    u32 bytes of all that follows, rows, columns, requests, bytes of parameters, 1 where features are asked for
      rows INT64, members INT32, parameters
from  u32 bytes of all that follows, outputs, error's code or 0, 0
      where it is an error, its text; else of each output
      char[16] name, u32 type, dimensions, i64 shape[2], u64 bytes; and its data, up to a multiple of eight bytes

python_backend/coalesce/line.h is the other end, and goes back to Triton when this one is gone or silent.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from fraud_scoring.windows import Int64

_SAID: Final = struct.Struct("<6I")
_HEARD: Final = struct.Struct("<IIiI")
_PART: Final = struct.Struct("<16sIIqqQ")
_PEER: Final = struct.Struct("3i")
_TYPES: Final = {"uint8": 2, "int32": 8, "int64": 9, "float32": 11}
"""Of NumPy's types, the number in Triton's C API."""
_ROOM: Final = 1 << 16


class Call(NamedTuple):
    """What one call says: rows int64 [N, C], members int32 [M], a line of parameters for each request."""

    rows: Int64
    members: npt.NDArray[np.int32]
    parameters: bytes
    with_features: bool


Outputs = Mapping[str, npt.NDArray[np.generic]]
Answer = Callable[[Call], Outputs | tuple[int, str]]
"""Outputs by name, C-contiguous and of one or two dimensions, or an error's code in Triton's C API and its text."""


class Line:
    """Answers calls by `answer`, one after the other, in a thread of its own; `name` is what to connect to.

    A caller that breaks the form is cut off, and the next one heard.
    """

    def __init__(self, answer: Answer) -> None:
        self.name: Final = f"fraudserve-{secrets.token_hex(16)}"
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(f"\0{self.name}")
        self._listener.listen(1)
        self._caller: socket.socket | None = None
        self._is_closing = False
        self._thread = threading.Thread(target=self._serve, name="line", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer what was asked, and nothing more."""
        self._is_closing = True
        for end in (self._listener, self._caller):
            if end is not None:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RD)
        self._thread.join()

    def _serve(self) -> None:
        with self._listener:  # who connects once this has ended is refused, and does not wait
            while not self._is_closing:
                try:
                    self._caller, _ = self._listener.accept()
                except OSError:
                    return
                with self._caller as caller, suppress(OSError, ValueError, struct.error):
                    if _is_mine(caller) and not self._is_closing:
                        self._converse(caller)

    def _converse(self, caller: socket.socket) -> None:
        room = bytearray(_ROOM)
        while (call := _call(caller, room)) is not None:
            caller.sendall(_packed(self._answer(call)))


def _is_mine(caller: socket.socket) -> bool:
    _, user, _ = _PEER.unpack(caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return bool(user == os.geteuid())


def _fill(caller: socket.socket, room: bytearray, got: int, wanted: int) -> int:
    """How many bytes lie in `room`, where `got` did: `wanted` at least, or the other end is gone."""
    while got < wanted:
        more = caller.recv_into(memoryview(room)[got:])
        if not more:
            break
        got += more
    return got


def _call(caller: socket.socket, room: bytearray) -> Call | None:
    """The next call; None: the other end is gone."""
    got = _fill(caller, room, 0, _SAID.size)
    if got < _SAID.size:
        return None
    wanted = 4 + _SAID.unpack_from(room)[0]
    room.extend(bytes(max(0, wanted - len(room))))
    if _fill(caller, room, got, wanted) < wanted:
        return None
    _, rows, columns, requests, parameters, with_features = _SAID.unpack_from(room)
    whole = room[:wanted]  # what is read of it may be kept
    members_at = _SAID.size + 8 * rows * columns
    parameters_at = members_at + 4 * requests
    return Call(
        np.frombuffer(whole, np.int64, rows * columns, _SAID.size).reshape(rows, columns),
        np.frombuffer(whole, np.int32, requests, members_at),
        bytes(whole[parameters_at : parameters_at + parameters]),
        bool(with_features),
    )


def _packed(answer: Outputs | tuple[int, str]) -> bytes:
    if isinstance(answer, tuple):
        code, text = answer
        said = text.encode()
        return _HEARD.pack(_HEARD.size - 4 + len(said), 0, code, 0) + said
    pieces = [b""]
    for name, value in answer.items():
        shape = (*value.shape, 0)
        pieces += (
            _PART.pack(name.encode(), _TYPES[value.dtype.name], value.ndim, shape[0], shape[1], value.nbytes),
            value.tobytes(),
            bytes(-value.nbytes % 8),
        )
    pieces[0] = _HEARD.pack(_HEARD.size - 4 + sum(map(len, pieces)), len(answer), 0, 0)
    return b"".join(pieces)
