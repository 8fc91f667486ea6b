"""What must hold of a running server, seen from outside: who it is, where it listens, what it keeps and what it says.

The server runs as nobody, without a capability, over code that it can only read, where the tests may become somebody
else; its window store is a Redis with a password, its log and metrics are those that every server has.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpc_client
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from fraud_client import CardNumberRefused, FraudClient, Transaction
from fraud_recovery import redis_part
from fraud_recovery.archive import quiet
from support.redis import MISSING, PROGRAM, RedisServer
from support.server import Server, free_ports, until
from support.unprivileged import USER, compiled_kernels, given_away, through, why_not

if TYPE_CHECKING:
    from conftest import Fresh

pytestmark = [pytest.mark.triton, pytest.mark.skipif(PROGRAM is None, reason=MISSING)]

PAN: Final = "4111111111111111"
WRITTEN: Final = (PAN, "4111 1111 1111 1111", "4111-1111-1111-1111")
"""The ways in which people write it."""
PASSWORD: Final = "a-password-that-nobody-may-see"
LOOPBACK: Final = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


@dataclass(frozen=True)
class Stack:
    """A server, its Redis, and where both keep things; `sidecar` is the page's port."""

    server: Server
    redis: RedisServer
    folder: Path
    sidecar: int
    store_url: str
    privileged: str
    """Why the server does not run as nobody; empty where it does."""

    @property
    def secrets(self) -> dict[str, bytes]:
        """What nobody may find: the password, and each private key as bytes and as text."""
        found = {"the password of the Redis": PASSWORD.encode()}
        for path in (self.server.home / "keys").glob("*.key"):
            found |= {
                f"{path.name} as bytes": path.read_bytes(),
                f"{path.name} as text": path.read_bytes().hex().encode(),
            }
        return found


@pytest.fixture(scope="module")
def stack(served_repository: Path, release_keys: Path) -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="fraud-security-"))  # pytest's own folders are closed to nobody
    with ExitStack() as stack, pytest.MonkeyPatch.context() as environment:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        bytecode = shutil.ignore_patterns("__pycache__")  # of another server; nobody may not remove it
        repository = Path(shutil.copytree(served_repository, folder / "models", ignore=bytecode))
        repository.chmod(0o755)
        password = folder / "redis-password"
        password.write_text(PASSWORD + "\n")
        key = Path(shutil.copy(release_keys.with_suffix(".pub"), folder / "release.pub"))
        environment.setenv("FRAUD_RELEASE_KEY", str(key))
        environment.delenv("FRAUD_RELEASE_SIGNING_KEY")
        redis = stack.enter_context(RedisServer(folder / "redis", password=PASSWORD))
        url = f"redis://127.0.0.1:{redis.port}/?timeout_ms=20000&password_file={password}"
        environment.setenv("FRAUD_STORE", url)
        home, scratch = folder / "home", folder / "scratch"
        scratch.mkdir()
        trouble = why_not(scratch)
        if not trouble:
            given_away(home)
            os.chown(password, USER, USER)
            password.chmod(0o400)
            environment.setenv("NUMBA_CACHE_DIR", str(compiled_kernels(folder / "kernels")))
            environment.setenv("HOME", str(home))
        port = free_ports()[0]
        options = ("--sidecar", "--sidecar-port", str(port))
        server = stack.enter_context(Server(repository, home, *options, through=() if trouble else through(scratch)))
        until(lambda: _answers(port), 60)
        yield Stack(server, redis, folder, port, url, trouble)


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
        return True
    return False


def tensor(name: str, rows: np.ndarray, datatype: str = "INT64") -> Any:
    return service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=list(rows.shape))


def request(rows: np.ndarray, **changes: Any) -> Any:
    made = service_pb2.ModelInferRequest(model_name="fraud_score", inputs=[tensor("transaction", rows)])
    made.raw_input_contents.append(rows.tobytes())
    for name, value in changes.items():
        if isinstance(value, dict):
            for key, text in value.items():
                made.parameters[key].string_param = text
        else:
            setattr(made, name, value)
    return made


def requests_with(text: str, fresh: Fresh) -> dict[str, Any]:
    """A request for each place of the protocol in which a caller can write what it likes."""
    made = {
        "the request's id": request(fresh.rows(1), id=text),
        "the model's name": request(fresh.rows(1), model_name=text),
        "the model's version": request(fresh.rows(1), model_version=text),
        "a parameter's value": request(fresh.rows(1), parameters={"purpose": text}),
        "a parameter's name": request(fresh.rows(1), parameters={text: "1"}),
        "a deadline": request(fresh.rows(1), parameters={"deadline_us": text}),
        "a sequence": request(fresh.rows(1), parameters={"sequence_id": text}),
    }
    for place in ("name", "datatype"):
        one = request(fresh.rows(1))
        setattr(one.inputs[0], place, text)
        made[f"a tensor's {place}"] = one
    one = request(fresh.rows(1))
    one.outputs.add(name=text)
    made["an output's name"] = one
    one = request(fresh.rows(1))
    one.inputs[0].parameters["shared_memory_region"].string_param = text
    made["a region's name"] = one
    one = request(fresh.rows(1))
    del one.raw_input_contents[:]
    one.inputs[0].datatype = "BYTES"
    one.inputs[0].contents.bytes_contents.append(text.encode())
    made["a value"] = one
    one = request(fresh.rows(1))
    one.raw_input_contents[0] = text.encode()
    made["the bytes of a tensor"] = one
    return made


def send(url: str, made: Any, metadata: tuple[tuple[str, str], ...] = ()) -> str:
    """The text of a refusal; empty where it was answered."""
    with grpc.insecure_channel(url) as channel:
        try:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(made, timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            return str(error.details())
    return ""


def post(url: str, body: bytes, headers: dict[str, str] | None = None) -> str:
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://{url}", body, headers or {}), timeout=20) as answer:
            return str(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode(errors="replace")


def get(address: str) -> bytes:
    with urllib.request.urlopen(f"http://{address}", timeout=20) as answer:
        found: bytes = answer.read()
    return found


def http_refusals(stack: Stack, text: str, fresh: Fresh) -> list[str]:
    rows = fresh.rows(1)
    tensor = {"name": "transaction", "shape": [1, 5], "datatype": "INT64", "data": rows[0].tolist()}
    base = f"{stack.server.http_url}/v2/models"
    bodies = [
        {"inputs": [tensor], "id": text},
        {"inputs": [tensor], "parameters": {"purpose": text}},
        {"inputs": [{**tensor, "data": [text] * 5}]},
        {"inputs": [{**tensor, "name": text}]},
        {"inputs": [{**tensor, "datatype": text}]},
        {"inputs": text},
        {text: text},
    ]
    said = [post(f"{base}/fraud_score/infer", json.dumps(body).encode()) for body in bodies]
    said.append(post(f"{base}/fraud_score/infer", text.encode()))
    said.append(post(f"{base}/{text.replace(' ', '')}/infer", b"{}"))
    headers = {"X-Request-Id": text, "Authorization": f"Bearer {text}", "traceparent": text}
    said.append(post(f"{base}/fraud_score/infer", json.dumps({"inputs": [tensor]}).encode(), headers))
    return said


def everything_kept(stack: Stack) -> dict[str, bytes]:
    """Each file of the state folder, every metric and page, the Redis' keys and values, what the server said."""
    kept = {str(path.relative_to(stack.folder)): path.read_bytes() for path in _files(stack.server.home)}
    kept["what the server said"] = "\n".join(stack.server.said.lines).encode()
    kept["metrics"] = get(f"{stack.server.metrics_url}/metrics")
    kept["the sidecar's metrics"] = get(f"127.0.0.1:{stack.sidecar}/metrics")
    kept["the sidecar's page"] = get(f"127.0.0.1:{stack.sidecar}/")
    redis_part.export(stack.store_url, stack.folder / "ids", stack.folder / "walked", quiet)
    kept["the window store"] = (stack.folder / "walked" / redis_part.KEYS_FILE).read_bytes()
    kept["the Redis' own account"] = str([stack.redis.ask("INFO"), stack.redis.ask("SLOWLOG", "GET")]).encode()
    return kept


def _files(folder: Path) -> list[Path]:
    return [
        path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and "backends" not in path.parts
    ]


def test_no_card_number_is_kept_whatever_field_it_was_put_into(stack: Stack, fresh: Fresh) -> None:
    answered = 0
    for text in WRITTEN:
        for made in requests_with(text, fresh).values():
            answered += send(stack.server.url, made, (("x-request-id", text), ("authorization", text))) == ""
        http_refusals(stack, text, fresh)
    assert answered >= len(WRITTEN), "a request with a card number as its id is answered, and must not be remembered"
    with FraudClient(stack.server.url, deadline=20, token_key=b"a key for tests, no secret") as client:
        now = fresh.now
        for text in WRITTEN:
            for customer, terminal in ((text, "t-1"), ("c-1", text)):
                with pytest.raises(CardNumberRefused):
                    client.score(Transaction(fresh.number(), now, customer, terminal, Decimal("9.99")))
        client.score(Transaction(fresh.number(), now, "c-1", "t-1", Decimal("9.99")))
    for column in range(fresh.rows(1).shape[1]):
        rows = fresh.rows(2)
        rows[1, column] = int(PAN)
        said = send(stack.server.url, request(rows))
        assert "passes for a card number" in said
        assert PAN not in said
    kept = everything_kept(stack)
    assert any(name.endswith(".frdlog") for name in kept)
    assert kept["the window store"].count(b"}t:") > answered // 2
    found = {f"{text} in {name}" for name, data in kept.items() for text in WRITTEN if text.encode() in data}
    as_number = int(PAN).to_bytes(8, "little"), int(PAN).to_bytes(8, "big")
    found |= {f"as a number in {name}" for name, data in kept.items() for number in as_number if number in data}
    assert found == set()


def test_an_error_names_no_path_no_trace_and_no_shared_memory(stack: Stack, fresh: Fresh) -> None:
    said = {place: send(stack.server.url, made) for place, made in requests_with("nothing", fresh).items()}
    for number, text in enumerate(http_refusals(stack, "nothing", fresh)):
        said[f"http {number}"] = text
    said |= shared_memory_refusals(stack.server.url)
    said["too many rows"] = send(stack.server.url, request(fresh.rows(1025)))
    said["no such path"] = post(f"{stack.server.http_url}/v2/../../etc/passwd", b"")
    assert sum(map(bool, said.values())) > 15
    told = {
        (place, word)
        for place, text in said.items()
        for word in (
            str(stack.folder),
            str(Path(__file__).parents[2]),
            "Traceback",
            'File "',
            ".py",
            "/dev/shm",
            "fraudserve_",
            "site-packages",
            PASSWORD,
            str(stack.redis.port),
        )
        if word in text
    }
    assert told == set(), {place: said[place] for place, _ in told}


def shared_memory_refusals(url: str) -> dict[str, str]:
    """What a caller is told who asks for what only the supervisor may do."""
    said = {}
    with grpc_client.InferenceServerClient(url) as triton:
        calls = {
            "register shared memory": lambda: triton.register_system_shared_memory("a", "/a", 8),
            "shared memory status": triton.get_system_shared_memory_status,
            "repository": triton.get_model_repository_index,
            "unload": lambda: triton.unload_model("fraud_score"),
            "trace": triton.get_trace_settings,
            "logging": triton.get_log_settings,
        }
        for name, call in calls.items():
            with pytest.raises(InferenceServerException) as refused:
                call()
            said[name] = str(refused.value)
    return said


def test_no_process_of_the_server_has_a_secret_in_its_environment_or_its_command(stack: Stack) -> None:
    parts = stack.server.parts()
    assert len(parts) > 4
    found = set()
    for part in parts:
        with suppress(psutil.NoSuchProcess):
            shown = {
                "environment": Path(f"/proc/{part.pid}/environ").read_bytes(),
                "command": Path(f"/proc/{part.pid}/cmdline").read_bytes(),
            }
            found |= {
                f"{what} in the {place} of {part.name()}"
                for place, data in shown.items()
                for what, secret in stack.secrets.items()
                if secret in data
            }
    assert found == set()


def test_no_log_page_or_metric_has_a_secret(stack: Stack) -> None:
    kept = {name: data for name, data in everything_kept(stack).items() if not name.endswith(".key")}
    assert len(stack.secrets) > 1
    found = {
        f"{what} in {name}" for name, data in kept.items() for what, secret in stack.secrets.items() if secret in data
    }
    assert found == set()
    assert {path.stat().st_mode & 0o077 for path in (stack.server.home / "keys").glob("*.key")} == {0}


def test_nobody_listens_but_on_loopback(stack: Stack) -> None:
    wanted = {*stack.server.ports, stack.sidecar}
    listening = {
        (one.laddr.ip, one.laddr.port)
        for part in stack.server.parts()
        for one in part.net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    }
    assert wanted <= {port for _, port in listening}
    assert {address for address, _ in listening} <= set(LOOPBACK)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((_own_address(), stack.server.ports[0]), 5)


def _own_address() -> str:
    """An address of this machine that is not loopback."""
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family is socket.AF_INET and not one.address.startswith("127."):
                return one.address
    pytest.skip("this machine has no address but loopback")


def test_it_runs_as_nobody_without_a_capability_and_cannot_write_to_its_code(stack: Stack) -> None:
    if stack.privileged:
        pytest.skip(stack.privileged)
    parts = stack.server.parts()
    for part in parts:
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{part.pid}/status").read_text().splitlines() if ":\t" in line
        )
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(USER)}, part.name()
        assert [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [0] * 5
        assert status["NoNewPrivs"] == "1"
    written = [path for path in _files(stack.folder / "models") if path.stat().st_uid == USER]
    assert written == []
    with FraudClient(stack.server.url, deadline=20) as client:
        now_us = time.time_ns() // 1000
        answer = client.score_rows(np.array([[now_us, now_us, 1, 2, 999]], np.int64))
    assert answer.verdict[0, 5] == 0, "primary"
