"""Connections that dribble: as many as asked for, never idle, never whole, and gone with the run."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

from fraud_client import Access
from fraud_load.access import for_connection
from fraud_load.slow_clients import SlowClients
from support.certificates import Certificates


def test_each_connection_begins_http2_and_goes_on_with_a_byte_now_and_then() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        with SlowClients("127.0.0.1", server.getsockname()[1], 3):
            connections = [server.accept()[0] for _ in range(3)]
            for one in connections:
                one.settimeout(10)
                begun = b""
                while len(begun) < 24 + 9 + 9 + 2:  # preface, SETTINGS, the head of HEADERS, two bytes of its content
                    begun += one.recv(64)
                assert begun.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                assert len(begun) < 100
        for one in connections:
            while one.recv(64):
                pass
            one.close()
    assert "slow-clients" not in {thread.name for thread in threading.enumerate()}


def test_a_connection_that_the_server_closes_is_opened_anew() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        with SlowClients("127.0.0.1", server.getsockname()[1], 1):
            server.accept()[0].close()
            server.accept()[0].close()


def test_to_a_gateway_they_speak_tls_and_show_who_they_are(tmp_path: Path) -> None:
    certificates, mine = Certificates(tmp_path / "gateway"), Certificates(tmp_path / "caller")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=mine.ca)
    context.load_cert_chain(certificates.certificate, certificates.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    access = Access(ca=certificates.ca, certificate=mine.certificate, key=mine.key)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        with SlowClients("127.0.0.1", server.getsockname()[1], 1, for_connection(access)):
            plain, _ = server.accept()
            plain.settimeout(10)
            with context.wrap_socket(plain, server_side=True) as tls:
                assert tls.recv(64).startswith(b"PRI * HTTP/2.0")
                assert tls.selected_alpn_protocol() == "h2"


def test_none_is_none() -> None:
    with SlowClients("127.0.0.1", 9, 0):
        pass
