"""A real Envoy with our configuration, a small authority for its certificates, and an issuer of tokens."""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import grpc
import psutil
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fraud_deploy.compose_files import drain_hook
from fraud_gateway.render import MAIN, render
from fraud_gateway.settings import Address, Gateway
from support.server import STOP_SECONDS, free_ports, until

PROGRAM: Final = shutil.which("envoy", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
MISSING: Final = "envoy is not installed: make parts"
HOST: Final = "127.0.0.1"
COMPOSE: Final = Path(__file__).parents[2] / "deploy" / "compose" / "compose.yaml"


class Authority:
    """Signs certificates of servers (for 127.0.0.1) and of callers (with a URI name)."""

    def __init__(self, name: str = "tests") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._signed(self._name, self._key.public_key(), ca=True)

    def server(self) -> tuple[bytes, bytes]:
        """(certificate, key) of a server on loopback, PEM."""
        local = [x509.IPAddress(ipaddress.ip_address(HOST)), x509.DNSName("localhost")]
        return self._issue("gateway", local, ExtendedKeyUsageOID.SERVER_AUTH)

    def caller(self, uri: str) -> tuple[bytes, bytes]:
        return self._issue("caller", [x509.UniformResourceIdentifier(uri)], ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(self, name: str, names: list[x509.GeneralName], use: x509.ObjectIdentifier) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._signed(subject, key.public_key(), names=names, use=use), pem

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *,
        names: list[x509.GeneralName] | None = None,
        use: x509.ObjectIdentifier | None = None,
        ca: bool = False,
    ) -> bytes:
        now = datetime.now(timezone.utc)
        draft = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        )
        if names:
            draft = draft.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if use:
            draft = draft.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        return draft.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Issuer:
    """Signs JSON Web Tokens with ES256; `claims` are those of a good token, to be changed by the test."""

    def __init__(self, issuer: str = "https://issuer.test", audience: str = "fraudserve", key_id: str = "k1") -> None:
        self.issuer, self.audience, self.key_id = issuer, audience, key_id
        self._key = ec.generate_private_key(ec.SECP256R1())

    def key_set(self, *others: Issuer) -> str:
        """The JWKS of this issuer's key, and of others' with it."""
        return json.dumps({"keys": [one._public() for one in (self, *others)]})

    def token(self, subject: str, *, algorithm: str = "ES256", **changes: Any) -> str:
        """A token for ten minutes; a change to None leaves the claim out."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": self.audience, "sub": subject, "iat": now, "exp": now + 600, **changes}
        kept = {name: value for name, value in claims.items() if value is not None}
        head = {"alg": algorithm, "typ": "JWT", "kid": self.key_id}
        signed = f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(kept).encode())}"
        return f"{signed}.{self._signature(signed.encode(), algorithm)}"

    def _signature(self, text: bytes, algorithm: str) -> str:
        if algorithm == "none":
            return ""
        r, s = decode_dss_signature(self._key.sign(text, ec.ECDSA(hashes.SHA256())))
        return _encoded(r.to_bytes(32, "big") + s.to_bytes(32, "big"))

    def _public(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        x, y = (_encoded(value.to_bytes(32, "big")) for value in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.key_id, "x": x, "y": y}


def _encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


class TlsFolder:
    """A folder of certificate files that is replaced as Kubernetes replaces a secret's: by moving a link."""

    def __init__(self, folder: Path, files: Mapping[str, bytes]) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._count = 0
        self.replace(files)
        for name in files:
            (folder / name).symlink_to(Path("..data") / name)

    def replace(self, files: Mapping[str, bytes]) -> None:
        self._count += 1
        new = self.folder / f"..{self._count}"
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
        link = self.folder / "..data_tmp"
        link.symlink_to(new.name)
        link.rename(self.folder / "..data")


class RunningGateway:
    """Envoy with the rendered files of `settings`, whose addresses and paths are replaced by ones of this test."""

    def __init__(self, folder: Path, settings: Gateway, *, authority: Authority, workers: int = 2) -> None:
        assert PROGRAM is not None, MISSING
        port, metrics, drain = free_ports()
        self.authority = authority
        folder.mkdir(parents=True, exist_ok=True)
        self.tls = TlsFolder(folder / "tls", self._tls_files(authority, authority))
        self.settings = replace(
            settings,
            listen=Address(HOST, port),
            metrics=Address(HOST, metrics),
            drain=Address(HOST, drain),
            tls=replace(settings.tls, folder=folder / "tls"),
            configuration=folder / "configuration",
            sockets=folder,
        )
        self.url, self.metrics_url = f"{HOST}:{port}", f"http://{HOST}:{metrics}"
        self._log = folder / "access.log"
        self._said = folder / "envoy.log"
        files = render(self.settings)
        self.settings.configuration.mkdir()
        for name, text in files.items():
            (self.settings.configuration / name).write_text(text)
        command = [
            PROGRAM,
            "-c",
            str(self.settings.configuration / MAIN),
            "--use-dynamic-base-id",
            "--concurrency",
            str(workers),
        ]
        command += [
            "--log-level",
            "warning",
            "--disable-hot-restart",
            "--drain-strategy",
            "immediate",
            "--file-flush-interval-msec",
            "50",
        ]
        with self._log.open("wb") as log, self._said.open("wb") as said:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=said)
        try:
            until(self._ready, 20)
        except BaseException:
            self.stop()
            raise

    @staticmethod
    def _tls_files(authority: Authority, clients: Authority) -> dict[str, bytes]:
        certificate, key = authority.server()
        return {"tls.crt": certificate, "tls.key": key, "ca.crt": clients.certificate}

    def __enter__(self) -> RunningGateway:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def rotate(self, authority: Authority, clients: Authority | None = None) -> None:
        """New certificates in place of the old ones."""
        self.tls.replace(self._tls_files(authority, clients or authority))

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        """(status, body) of the listener for figures."""
        request = urllib.request.Request(self.metrics_url + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()

    def drain(self) -> None:
        """Say that callers are to go elsewhere, by what the compose file runs before it stops its gateway."""
        stack = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
        hook = drain_hook(stack["services"]["gateway"])
        assert hook is not None
        told, slept, _ = hook.replace("/9465;", f"/{self.settings.drain.port};").rpartition("sleep ")
        assert slept
        answer = subprocess.run(["bash", "-c", f"{told}true"], capture_output=True, text=True, timeout=20, check=True)
        assert " 200 OK" in answer.stdout

    def figure(self, name: str, **labels: str) -> float:
        """The sum of a figure over the series that have these labels."""
        _, text = self.get("/stats/prometheus")
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(one in line for one in wanted))

    def access_log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def logged(self, request_id: str) -> dict[str, Any]:
        """The line of one request."""
        until(lambda: request_id in self._log.read_text())
        (line,) = [line for line in self.access_log() if line.get("request_id") == request_id]
        return line

    def certificate(self) -> bytes:
        """What it shows now, to a client without a certificate."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection((HOST, self.settings.listen.port), 10) as plain,
            context.wrap_socket(plain) as tls,
        ):
            return tls.getpeercert(binary_form=True) or b""

    def log_text(self) -> str:
        return self._log.read_text() + self._said.read_text()

    def listening(self) -> list[tuple[str, int]]:
        """The TCP addresses that the process listens on."""
        connections = psutil.Process(self._process.pid).net_connections("inet")
        return [(one.laddr.ip, one.laddr.port) for one in connections if one.status == psutil.CONN_LISTEN]

    def _ready(self) -> bool:
        assert self._process.poll() is None, self._said.read_text()
        with suppress(OSError):
            return self.get("/ready")[0] == 200
        return False


def credentials(authority: Authority, caller: tuple[bytes, bytes] | None = None) -> grpc.ChannelCredentials:
    """What a caller trusts, and its own certificate and key."""
    certificate, key = caller or (None, None)
    return grpc.ssl_channel_credentials(authority.certificate, key, certificate)
