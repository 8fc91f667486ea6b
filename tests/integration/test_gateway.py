"""A real Envoy before two real servers over one Redis: who is let in, what may pass, how much, and what is told."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import psutil
import pytest
from tritonclient.grpc import service_pb2

from fraud_client import Access, DeadlineExceeded, NotAllowed, Overloaded, Unavailable
from fraud_gateway.contract import METHODS
from fraud_gateway.settings import Address, CallerLimits, Gateway, Limits, Tls, Tokens
from fraud_load.result import Status, load
from fraud_scoring.wire import Accepted, Source
from support.gateway import HOST, MISSING, PROGRAM, Authority, Issuer, RunningGateway
from support.gateway_calls import INFER, Calls, Raw, client_of, handshake, named, request_of, two_servers
from support.redis import MISSING as NO_REDIS
from support.redis import PROGRAM as REDIS
from support.redis import RedisServer
from support.server import Server, fraudctl, json_of, until

if TYPE_CHECKING:
    from conftest import Fresh

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(PROGRAM is None, reason=MISSING),
    pytest.mark.skipif(REDIS is None, reason=NO_REDIS),
]

PAYMENTS = "spiffe://fraudserve/payments"
SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
OFFERED = {method.name for method in METHODS}
CARD = "4000056655665556"
"""What a test card's number is; nothing may write it down."""


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module")
def servers(
    redis: RedisServer, served_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Server]]:
    with two_servers(served_repository, redis, tmp_path_factory.mktemp("servers")) as started:
        yield started


@pytest.fixture(scope="module")
def gateway(
    servers: list[Server], authority: Authority, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """Lets in who has a token or a certificate."""
    folder = tmp_path_factory.mktemp("gw")
    keys = folder / "jwks.json"
    keys.write_text(issuer.key_set())
    plenty = CallerLimits(rate=5000, burst=5000, concurrency=64)
    settings = Gateway(
        servers=tuple(Address(HOST, server.ports[0]) for server in servers),
        identity="either",
        tls=Tls(client_certificates="optional"),
        tokens=Tokens(issuer.issuer, issuer.audience, keys, clock_skew_s=0),
        callers={
            "payments": plenty,
            PAYMENTS: plenty,
            "busy": CallerLimits(rate=5000, burst=5000, concurrency=2),
            "quick": CallerLimits(rate=1, burst=5, concurrency=10),
        },
    )
    with RunningGateway(folder / "e", settings, authority=authority) as running:
        yield running


@pytest.fixture(scope="module")
def ca(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.crt"
    path.write_bytes(authority.certificate)
    return path


@pytest.fixture(scope="module")
def certified(authority: Authority, ca: Path) -> Access:
    """The access of a caller with a certificate."""
    certificate, key = ca.with_name("payments.crt"), ca.with_name("payments.key")
    for path, content in zip((certificate, key), authority.caller(PAYMENTS), strict=True):
        path.write_bytes(content)
    return Access(ca=ca, certificate=certificate, key=key)


@pytest.fixture
def raw(gateway: RunningGateway, authority: Authority, issuer: Issuer) -> Iterator[Raw]:
    with Raw(gateway, authority, issuer.token("payments")) as calls:
        yield calls


def test_a_caller_with_a_token_or_a_certificate_gets_its_decisions_and_sends_labels(
    gateway: RunningGateway, issuer: Issuer, ca: Path, certified: Access, fresh: Fresh
) -> None:
    payment = fresh.transaction()
    with client_of(gateway, Access(ca=ca, token=issuer.token("payments"))) as client:
        assert client.ready()
        decision = client.score(payment)
        batch = client.score_many([fresh.transaction() for _ in range(4_096)])
    assert decision.source == Source.PRIMARY
    assert {one.source for one in batch} == {Source.PRIMARY}
    with client_of(gateway, certified) as client:
        assert client.score(payment) == decision
        assert client.label(payment.transaction_id, is_fraud=True) is Accepted.APPLIED


def test_the_command_line_reaches_a_server_through_a_gateway(
    gateway: RunningGateway, servers: list[Server], issuer: Issuer, ca: Path, certified: Access, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(issuer.token("payments"))
    by_token = ("--url", gateway.url, "--ca", ca, "--token-file", token)
    by_certificate = ("--url", gateway.url, "--ca", ca, "--certificate", certified.certificate, "--key", certified.key)
    assert json_of("health", *by_certificate, "--repository", servers[0].repository, "--timeout", 20)["healthy"]
    row = ("--customer", 1, "--terminal", 2, "--amount", "5.00", "--dry-run")
    assert json_of("score", *row, *by_token)["source"] == "primary"
    token.write_text(issuer.token("stranger"))
    refused = fraudctl("score", *row, *by_token)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "does not let this caller in" in refused.stderr


@pytest.mark.parametrize("how", ["token", "certificate"])
def test_a_load_is_sent_through_a_gateway_by_a_caller_that_it_knows(
    gateway: RunningGateway, issuer: Issuer, ca: Path, certified: Access, tmp_path: Path, how: str
) -> None:
    """By both runners, 40 a second for two seconds; connections that dribble speak TLS, too."""
    token = tmp_path / "token"
    token.write_text(issuer.token("payments"))
    caller, options = {
        "token": ("payments", ("--token-file", token, "--set", "sending.slow_connections=2")),
        "certificate": (
            PAYMENTS.replace(":", "_"),
            ("--certificate", certified.certificate, "--key", certified.key, "--runner", "locust"),
        ),
    }[how]
    before = gateway.figure("envoy_cluster_upstream_rq_completed", envoy_cluster_name=caller)
    told = json_of(
        "load", "run", "smoke", "--url", gateway.url, "--ca", ca, *options, "--rate", "40", "--duration", "2",
        "--set", "warmup_s=0", "--set", "slo={p50_ms: 5000, generator_lag_ms: 10000}", "--out", tmp_path / "run",
    )  # fmt: skip
    assert told["passed"]
    requests = load(tmp_path / "run").requests
    assert (requests.status == Status.OK).all()
    completed = gateway.figure("envoy_cluster_upstream_rq_completed", envoy_cluster_name=caller)
    assert completed - before >= len(requests) > 0


def test_a_load_of_a_caller_that_the_gateway_does_not_know_is_not_begun(
    gateway: RunningGateway, issuer: Issuer, ca: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(issuer.token("stranger"))
    asked = ("load", "run", "smoke", "--url", gateway.url, "--ca", ca, "--token-file", token)
    refused = fraudctl(*asked, "--out", tmp_path / "run")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "does not let this caller in" in refused.stderr
    assert not (tmp_path / "run").exists()


def test_a_call_that_is_sent_again_gets_the_first_answer_and_counts_once(
    gateway: RunningGateway, raw: Raw, fresh: Fresh
) -> None:
    message = request_of("fraud_score", fresh.rows(3)).SerializeToString()
    first, again = raw(INFER, message), raw(INFER, message)
    answers = [service_pb2.ModelInferResponse.FromString(answer).raw_output_contents for answer in (first, again)]
    assert list(answers[0]) == list(answers[1])


BAD_TOKENS = {
    "expired": {"exp": 1_600_000_000},
    "without an end": {"exp": None},
    "not yet good": {"nbf": 4_000_000_000},
    "for another": {"aud": "another"},
    "for nobody": {"aud": None},
    "of another issuer": {"iss": "https://another.test"},
    "without a signature": {"algorithm": "none"},
    "signed as a password": {"algorithm": "HS256"},
    "of nobody": {"sub": None},
    "of one who is not listed": {"sub": "stranger"},
}


@pytest.mark.parametrize("changes", BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_a_bad_token_is_refused(
    gateway: RunningGateway, issuer: Issuer, ca: Path, fresh: Fresh, changes: dict[str, Any]
) -> None:
    token = issuer.token(**{"subject": "payments", **changes} if "sub" not in changes else {"subject": changes["sub"]})
    with client_of(gateway, Access(ca=ca, token=token)) as client, pytest.raises(NotAllowed):
        client.score(fresh.transaction())


def test_a_token_signed_by_another_key_a_changed_one_and_none_at_all_are_refused(
    gateway: RunningGateway, issuer: Issuer, authority: Authority
) -> None:
    head, claims, signature = issuer.token("payments").split(".")
    _, others, _ = issuer.token("busy").split(".")
    for token in (Issuer().token("payments"), f"{head}.{others}.{signature}", f"{head}.{claims}.", "x", None):
        with Raw(gateway, authority, token) as calls:
            code, said = calls.refusal(INFER, named("fraud_score"))
        assert (token, code) == (token, grpc.StatusCode.UNAUTHENTICATED)
        assert said == "the caller is not known: a token or certificate is missing, wrong or expired"


def test_what_a_caller_says_of_itself_counts_for_nothing(
    gateway: RunningGateway, authority: Authority, issuer: Issuer, fresh: Fresh
) -> None:
    message = request_of("fraud_score", fresh.rows(1)).SerializeToString()
    with Raw(gateway, authority, issuer.token("busy")) as calls:
        identity = calls.request_id(INFER, message, x_fraud_caller="payments", admin_key="a-guess", x_request_id="mine")
    assert identity != "mine"
    assert gateway.logged(identity)["caller"] == "busy"
    with Raw(gateway, authority) as calls:
        code, _ = calls.refusal(INFER, message, x_fraud_caller="payments")
    assert code is grpc.StatusCode.UNAUTHENTICATED


OTHER_CALLS = [
    *(f"/inference.GRPCInferenceService/{method.name}" for method in SERVICE.methods if method.name not in OFFERED),
    "/grpc.health.v1.Health/Check",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/inference.GRPCInferenceService/ModelInfer/",
    "/inference.GRPCInferenceService//ModelInfer",
    "/v2/repository/index",
    "/v2/repository/models/fraud_score/unload",
    "/v2/systemsharedmemory/status",
    "/v2/trace/setting",
    "/v2/logging",
    "/v2/models/fraud_score/infer",
    "/invocations",
    "/predict",
    "/",
]


def test_calls_that_control_the_server_are_refused_and_reach_none(gateway: RunningGateway, raw: Raw) -> None:
    assert {"RepositoryModelLoad", "SystemSharedMemoryRegister", "TraceSetting", "LogSettings", "ModelStreamInfer"} <= {
        path.rpartition("/")[2] for path in OTHER_CALLS
    }
    sent = gateway.figure("envoy_cluster_upstream_rq_total", envoy_cluster_name="payments")
    for path in OTHER_CALLS:
        code, said = raw.refusal(path)
        assert (path, code) == (path, grpc.StatusCode.PERMISSION_DENIED)
        assert said == "this caller may not do that"
    assert gateway.figure("envoy_cluster_upstream_rq_total", envoy_cluster_name="payments") == sent


FIELD_9 = (9 << 3 | 3, 9 << 3 | 4)
"""Tags that begin and end a group, which no field of the request is."""


def test_only_the_front_door_and_feedback_may_be_asked_however_the_name_is_written(raw: Raw) -> None:
    score, model = named("fraud_score"), named("fraud_model_r0001")
    begin, end = (bytes([tag]) for tag in FIELD_9)
    nested = bytes([5 << 3 | 2, len(score)]) + score
    messages = {
        "a release's model": model,
        "a release": named("fraud_r0001"),
        "no model": b"",
        "another case": named("FRAUD_SCORE"),
        "a longer name": named("fraud_score_"),
        "a path": named("../fraud_score"),
        "the allowed name first": score + model,
        "the allowed name inside another field": nested + model,
        "after it": model + nested,
        "in a group": model + begin + score + end,
        "in a group before": begin + score + end + model,
        "with a long tag": score + b"\x8a\x80\x80\x00" + model[1:],
        "as a number": b"\x08\x01",
        "cut off": score + model[:-3],
        "no message at all": b"\xff\xff\xff",
    }
    for what, message in messages.items():
        code, said = raw.refusal(INFER, message)
        assert (what, code) == (what, grpc.StatusCode.PERMISSION_DENIED)
        assert said == "this caller may not do that"
    ready = "/inference.GRPCInferenceService/ModelReady"
    code, _ = raw.refusal(ready, service_pb2.ModelReadyRequest(name="fraud_model_r0001").SerializeToString())
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert raw(ready, service_pb2.ModelReadyRequest(name="fraud_feedback").SerializeToString())
    assert raw("/inference.GRPCInferenceService/ServerReady")


def test_a_message_of_4096_rows_passes_and_one_above_the_limit_does_not(
    gateway: RunningGateway, raw: Raw, fresh: Fresh
) -> None:
    code, said = raw.refusal(INFER, request_of("fraud_score", fresh.rows(4_096)).SerializeToString())
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "send 1 to 1,024 a request" in said  # the front door's own rule: it came through
    large = service_pb2.ModelInferRequest(model_name="fraud_score")
    for size in (gateway.settings.limits.message_bytes, 5 << 20):
        large.raw_input_contents[:] = [bytes(size)]
        code, said = raw.refusal(INFER, large.SerializeToString())
        assert (size, code) == (size, grpc.StatusCode.INVALID_ARGUMENT)
        assert said == "the message is larger than it may be; send fewer rows"


def test_a_caller_over_its_rate_is_refused_and_others_are_not(
    gateway: RunningGateway, authority: Authority, issuer: Issuer, ca: Path, fresh: Fresh
) -> None:
    with (
        client_of(gateway, Access(ca=ca, token=issuer.token("quick"))) as quick,
        client_of(gateway, Access(ca=ca, token=issuer.token("payments"))) as payments,
    ):
        with pytest.raises(Overloaded, match="send slower"):  # noqa: PT012 - one of them is refused
            for _ in range(12):
                quick.score(fresh.transaction())
        for _ in range(12):
            payments.score(fresh.transaction())


def test_a_caller_with_all_its_calls_on_their_way_waits_alone(
    gateway: RunningGateway, redis: RedisServer, issuer: Issuer, ca: Path, fresh: Fresh
) -> None:
    def active(caller: str) -> float:
        return gateway.figure("envoy_cluster_upstream_rq_active", envoy_cluster_name=caller)

    access = Access(ca=ca, token=issuer.token("busy"))
    with ThreadPoolExecutor(2) as pool, client_of(gateway, access) as client:
        with redis.frozen():
            held = [pool.submit(client.score_rows, fresh.rows(1), deadline=2.0) for _ in range(2)]
            until(lambda: active("busy") == 2)
            with pytest.raises(Overloaded, match="as many calls on their way as it may"):
                client.score_rows(fresh.rows(1))
            with client_of(gateway, Access(ca=ca, token=issuer.token("payments"))) as other:
                assert other.ready()
        for one in held:
            one.result()


def test_an_error_says_nothing_of_paths_traces_or_shared_memory(
    gateway: RunningGateway, servers: list[Server], raw: Raw, fresh: Fresh
) -> None:
    shared = service_pb2.ModelInferRequest(model_name="fraud_score")
    tensor = shared.inputs.add(name="transaction", datatype="INT64", shape=[1, 5])
    tensor.parameters["shared_memory_region"].string_param = "a_region"
    tensor.parameters["shared_memory_byte_size"].int64_param = 40
    wrong = request_of("fraud_score", fresh.rows(1))
    wrong.inputs[0].datatype = "FP32"
    unknown = request_of("fraud_score", fresh.rows(1))
    unknown.inputs[0].name = "x"
    version = request_of("fraud_score", fresh.rows(1))
    version.model_version = "99"
    bad = fresh.rows(2)
    bad[1, 4] = -1
    for request in (shared, wrong, unknown, version, service_pb2.ModelInferRequest(model_name="fraud_feedback")):
        _, said = raw.refusal(INFER, request.SerializeToString())
        for word in ("/", "region", "memory", "shm", "Traceback", "stub", ".py", "_r0001", "tritonserver"):
            assert word not in said, said
    code, said = raw.refusal(INFER, request_of("fraud_score", bad).SerializeToString())
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "amount_minor" in said


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2"])
def test_nothing_older_than_tls_1_3_is_spoken(gateway: RunningGateway, ca: Path, version: str) -> None:
    assert handshake(gateway.url, ca, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    refused = gateway.figure("envoy_listener_ssl_connection_error")
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        handshake(gateway.url, ca, ssl.TLSVersion[version])
    # the refusal is sent first and counted then
    until(lambda: gateway.figure("envoy_listener_ssl_connection_error") > refused)


def test_the_log_of_calls_has_no_token_no_payload_and_no_certificate(
    gateway: RunningGateway, authority: Authority, issuer: Issuer, fresh: Fresh
) -> None:
    token, row = issuer.token("payments"), fresh.rows(1)
    request = request_of("fraud_score", row)
    request.id = CARD
    with Raw(gateway, authority, token) as calls:
        calls.refusal(f"/{CARD}/{CARD}")
        calls.refusal(INFER, named(CARD))
        headers = {"user_agent": CARD, "traceparent": CARD, "x_request_id": CARD, f"x_{CARD}": CARD}
        line = gateway.logged(calls.request_id(INFER, request.SerializeToString(), **headers))
    assert (line["method"], line["model"], line["caller"]) == ("ModelInfer", "fraud_score", "payments")
    assert (line["grpc_status"], line["attempts"], line["tls"]) == ("OK", 1, "TLSv1.3")
    text = gateway.log_text()
    for secret in (*token.split(".")[1:], CARD, str(row[0, 2]), "BEGIN", "eyJ"):
        assert secret not in text


def test_the_page_of_figures_gives_figures_and_changes_nothing(gateway: RunningGateway) -> None:
    code, text = gateway.get("/stats/prometheus")
    assert code == 200
    assert "envoy_cluster_upstream_rq_time_bucket" in text
    assert gateway.get("/ready")[0] == 200
    with socket.create_connection((HOST, gateway.settings.metrics.port), 10) as shell:  # all that a shell can say
        shell.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
        assert b" 200 OK" in shell.recv(100)
    for path in ("/", "/config_dump", "/certs", "/clusters", "/server_info", "/stats/prometheus/../config_dump"):
        assert gateway.get(path)[0] == 404
    for path in ("/quitquitquit", "/logging?level=debug", "/drain_listeners", "/ready"):
        assert gateway.get(path, "POST")[0] == 404
    listening = {port for _, port in gateway.listening()}
    settings = gateway.settings
    assert listening == {settings.listen.port, settings.metrics.port, settings.drain.port}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_server_that_is_killed_or_frozen_behind_the_gateway_costs_no_call(
    gateway: RunningGateway, servers: list[Server], certified: Access, fresh: Fresh, number: signal.Signals
) -> None:
    _, harmed = servers
    calls = Calls(gateway, certified, fresh, deadline=0.9)
    healthy = {"envoy_cluster_name": PAYMENTS.replace(":", "_")}

    def scene() -> None:
        answered, triton = calls.answered, harmed.triton()
        triton.send_signal(number)
        until(lambda: gateway.figure("envoy_cluster_membership_healthy", **healthy) == 1, 20)
        until(lambda: calls.answered > answered + 1_000, 20)
        if number is signal.SIGSTOP:
            with suppress(psutil.NoSuchProcess):
                triton.send_signal(signal.SIGCONT)
        until(lambda: gateway.figure("envoy_cluster_membership_healthy", **healthy) == 2, 60)

    asyncio.run(calls.during(scene))
    assert not calls.failures, (len(calls.failures), calls.failures[:3])
    assert gateway.figure("envoy_cluster_upstream_rq_retry", **healthy) > 0
    assert gateway.figure("envoy_cluster_upstream_rq_retry_overflow", **healthy) == 0


def test_certificates_and_keys_are_replaced_under_load_and_no_call_is_dropped(
    gateway: RunningGateway, authority: Authority, certified: Access, ca: Path, fresh: Fresh
) -> None:
    calls = Calls(gateway, certified, fresh, deadline=5.0)
    shown: list[bytes] = []

    def scene() -> None:
        for _ in range(3):
            shown.append(gateway.certificate())
            gateway.rotate(authority)
            until(lambda: gateway.certificate() != shown[-1])
            shown.append(gateway.certificate())

    asyncio.run(calls.during(scene))
    assert not calls.failures, (len(calls.failures), calls.failures[:3])
    assert len(set(shown)) == 4


@pytest.fixture(scope="module")
def strict(
    servers: list[Server], authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """Lets in who has a certificate; a call may take a second."""
    settings = Gateway(
        servers=tuple(Address(HOST, server.ports[0]) for server in servers),
        callers={PAYMENTS: CallerLimits(rate=5000, burst=5000, concurrency=64)},
        limits=Limits(seconds=1.0),
    )
    with RunningGateway(tmp_path_factory.mktemp("strict") / "e", settings, authority=authority) as running:
        yield running


def written(folder: Path, ca: Path, certificate_and_key: tuple[bytes, bytes]) -> Access:
    """The access of a caller whose certificate lies in `folder`."""
    folder.mkdir()
    for name, content in zip(("c.crt", "c.key"), certificate_and_key, strict=True):
        (folder / name).write_bytes(content)
    return Access(ca=ca, certificate=folder / "c.crt", key=folder / "c.key")


def test_where_certificates_are_required_no_other_gets_in(
    strict: RunningGateway,
    authority: Authority,
    issuer: Issuer,
    ca: Path,
    certified: Access,
    tmp_path: Path,
    fresh: Fresh,
) -> None:
    with client_of(strict, certified) as client:
        assert client.score(fresh.transaction()).source == Source.PRIMARY
    no_connection = {
        "none": Access(ca=ca),
        "a token alone": Access(ca=ca, token=issuer.token("payments")),
        "another authority's": written(tmp_path / "other", ca, Authority().caller(PAYMENTS)),
        "a server's": written(tmp_path / "server", ca, authority.server()),
    }
    for what, access in no_connection.items():
        with client_of(strict, access) as client, pytest.raises(Unavailable):
            client.score(fresh.transaction())
        assert what
    for name in ("spiffe://fraudserve/stranger", f"{PAYMENTS}/more", "https://fraudserve/payments"):
        access = written(tmp_path / name.replace("/", "_"), ca, authority.caller(name))
        with client_of(strict, access) as client, pytest.raises(NotAllowed):
            client.score(fresh.transaction())


def test_an_authority_that_was_replaced_vouches_for_nobody_any_more(
    servers: list[Server], authority: Authority, ca: Path, certified: Access, tmp_path: Path, fresh: Fresh
) -> None:
    settings = Gateway(servers=(Address(HOST, servers[0].ports[0]),), callers={PAYMENTS: CallerLimits(concurrency=10)})
    with RunningGateway(tmp_path / "e", settings, authority=authority) as gateway:
        with client_of(gateway, certified) as client:
            client.score(fresh.transaction())
        new = Authority()
        gateway.rotate(authority, clients=new)
        mine = written(tmp_path / "new", ca, new.caller(PAYMENTS))

        def new_one_is_let_in() -> bool:
            with client_of(gateway, mine) as client:
                return client.ready()

        until(new_one_is_let_in)
        with client_of(gateway, certified) as client, pytest.raises(Unavailable):
            client.score(fresh.transaction())


def test_a_call_ends_when_the_gateway_says_though_its_caller_would_wait(
    strict: RunningGateway, redis: RedisServer, certified: Access, fresh: Fresh
) -> None:
    """Where the store has just been slow the scorecard answers without it: so a release answers first."""
    with client_of(strict, certified) as client:
        until(lambda: client.score(fresh.transaction()).source == Source.PRIMARY)
        began = time.monotonic()
        with redis.frozen(), pytest.raises(DeadlineExceeded):
            client.score_rows(fresh.rows(1), deadline=15.0)
        assert time.monotonic() - began < 10


def test_keys_of_the_issuer_are_replaced_and_a_token_ends_with_its_time(
    servers: list[Server], authority: Authority, issuer: Issuer, ca: Path, tmp_path: Path, fresh: Fresh
) -> None:
    keys, new = tmp_path / "keys" / "jwks.json", Issuer(key_id="k2")
    keys.parent.mkdir()
    settings = Gateway(
        servers=(Address(HOST, servers[0].ports[0]),),
        identity="token",
        tls=Tls(client_certificates="none"),
        tokens=Tokens(issuer.issuer, issuer.audience, keys, clock_skew_s=0),
        callers={"payments": CallerLimits()},
    )

    def publish(content: str) -> None:
        (tmp_path / "new").write_text(content)
        (tmp_path / "new").rename(keys)

    def let_in(token: str) -> bool:
        with client_of(gateway, Access(ca=ca, token=token)) as client:
            try:
                client.score(fresh.transaction())
            except NotAllowed:
                return False
        return True

    publish(issuer.key_set())
    with RunningGateway(tmp_path / "e", settings, authority=authority, workers=1) as gateway:
        short = issuer.token("payments", exp=int(time.time()) + 3)
        of_now, of_later = issuer.token("payments"), new.token("payments")
        assert (let_in(short), let_in(of_now), let_in(of_later)) == (True, True, False)
        publish(new.key_set(issuer))
        until(lambda: let_in(of_later), 20)
        assert let_in(of_now)
        publish(new.key_set())
        until(lambda: not let_in(of_now), 20)
        assert let_in(of_later)
        assert not let_in(short)


def test_a_gateway_that_is_told_to_drain_sends_its_callers_elsewhere_and_drops_no_call(
    servers: list[Server], authority: Authority, certified: Access, tmp_path: Path, fresh: Fresh
) -> None:
    addresses = tuple(Address(HOST, server.ports[0]) for server in servers)
    settings = Gateway(servers=addresses, callers={PAYMENTS: CallerLimits(rate=5_000, burst=5_000)})
    with RunningGateway(tmp_path / "e", settings, authority=authority) as gateway:
        calls = Calls(gateway, certified, fresh, deadline=5.0)

        def sent_away() -> float:
            return gateway.figure("envoy_http_downstream_cx_drain_close", envoy_http_conn_manager_prefix="gateway")

        def scene() -> None:
            gateway.drain()
            until(lambda: sent_away() >= 8)

        asyncio.run(calls.during(scene, callers=8))
    assert not calls.failures, (len(calls.failures), calls.failures[:3])
