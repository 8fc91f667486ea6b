"""What is found before Triton is started: one line each, that says what to do."""

from __future__ import annotations

import re
import shutil
import socket
from dataclasses import replace

import pytest

from fraud_release.errors import ReleaseRefused
from fraud_scoring.errors import FraudError, InvalidDefinition, ReleaseUnavailable, StoreUnavailable
from fraud_server.errors import CannotServe
from fraud_server.preflight import check, own_home
from fraud_server.settings import Ports, ServeSettings
from fraud_server.supervisor import Supervisor
from support.server import free_ports


def finding(settings: ServeSettings, kind: type[FraudError], **options: int) -> str:
    """The message of the refusal, which is one line."""
    with pytest.raises(kind) as refusal:
        check(settings, **options)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_where_all_is_well_the_routed_release_is_named_and_the_folders_are_made(settings: ServeSettings) -> None:
    assert check(settings) == 1
    assert settings.run_folder.is_dir()
    assert (settings.home / "store").is_dir()


@pytest.mark.parametrize("name", ["grpc", "http", "metrics"])
def test_a_port_on_which_somebody_listens_is_named_with_its_option(settings: ServeSettings, name: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        found = finding(replace(settings, ports=replace(settings.ports, **{name: port})), CannotServe)
    assert found.startswith(f"port {port} ({name}) cannot be used: Address already in use")
    assert f"--{name}-port" in found


def test_a_port_on_which_somebody_listens_for_every_address_is_taken_too(settings: ServeSettings) -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        taken = replace(settings.ports, http=listener.getsockname()[1])
        assert "(http) cannot be used" in finding(replace(settings, ports=taken), CannotServe)


def test_a_port_that_is_given_twice_is_named(settings: ServeSettings) -> None:
    port = settings.ports.grpc
    found = finding(replace(settings, ports=Ports(port, port, settings.ports.metrics)), CannotServe)
    assert found == f"port {port} is given twice (grpc, http); choose another with --http-port"


def test_without_a_route_table_the_message_says_how_to_train_a_release(settings: ServeSettings) -> None:
    (settings.repository / "routes.json").unlink()
    assert "train a release with: fraudctl release train --data FILE" in finding(settings, ReleaseUnavailable)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"production": 1}'])
def test_a_broken_route_table_is_said_to_be_broken(settings: ServeSettings, text: str) -> None:
    (settings.repository / "routes.json").write_text(text)
    assert "routes.json is broken: " in finding(settings, InvalidDefinition)


def test_a_route_to_a_name_that_is_none_says_what_a_name_is(settings: ServeSettings) -> None:
    (settings.repository / "routes.json").write_text('{"production": "latest"}')
    assert "'latest' is not a release; write r and four digits" in finding(settings, InvalidDefinition)


def test_a_route_to_a_release_that_is_not_there_says_which_are(settings: ServeSettings) -> None:
    (settings.repository / "routes.json").write_text('{"production": "r0009"}')
    found = finding(settings, ReleaseUnavailable)
    assert "r0009, which is not in the repository; there is: r0001" in found
    shutil.rmtree(settings.repository / "fraud_r0001")
    assert "there is: none" in finding(settings, ReleaseUnavailable)


def test_a_release_that_was_changed_is_not_served(settings: ServeSettings) -> None:
    model = settings.repository / "fraud_model_r0001" / "1" / "model.onnx"
    model.chmod(0o644)
    model.write_bytes(model.read_bytes() + b"\0")
    found = finding(settings, ReleaseRefused)
    assert found == "release r0001: fraud_model_r0001/1/model.onnx was changed after it was made; restore the release"


def test_a_home_that_cannot_be_made_is_named(settings: ServeSettings, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    found = finding(replace(settings, home=tmp_path / "file" / "home"), CannotServe)
    assert re.search(r"Not a directory; choose another with --home$", found)


def test_a_disk_that_is_nearly_full_is_named_with_what_is_left(settings: ServeSettings) -> None:
    found = finding(settings, CannotServe, least_free_mib=2**50)
    assert re.search(r"has \d+ MiB left; the server wants \d+: free some, or choose another disk with --home", found)


def test_a_store_that_is_none_or_cannot_be_opened_is_named(settings: ServeSettings, tmp_path) -> None:
    assert "write lmdb:///folder" in finding(replace(settings, store_url="sqlite:"), InvalidDefinition)
    assert "write redis[s]://" in finding(replace(settings, store_url="redis:"), InvalidDefinition)
    nobody = replace(settings, store_url=f"redis://:secret@127.0.0.1:{free_ports()[0]}")
    said = finding(nobody, StoreUnavailable)
    assert re.search(r"the window store \(Redis\) cannot be used: connection refused; check that it runs", said)
    assert "secret" not in said
    assert "write lmdb:///folder" in finding(replace(settings, store_url="memory:"), InvalidDefinition)
    (tmp_path / "file").write_text("")
    blocked = replace(settings, store_url=f"lmdb://{tmp_path / 'file' / 'store'}")
    assert "the window store cannot be used" in finding(blocked, StoreUnavailable)


def test_a_home_that_another_server_runs_in_is_named_until_that_server_ends(settings: ServeSettings) -> None:
    check(settings)
    refused = pytest.raises(CannotServe, match=r"another server runs with folder .*--home")
    with own_home(settings), refused, own_home(settings):
        pass
    with own_home(settings):
        pass


def test_the_supervisor_starts_nothing_where_the_preflight_finds_something(settings: ServeSettings) -> None:
    (settings.repository / "routes.json").unlink()
    lines: list[str] = []
    supervisor = Supervisor(settings, lines.append)
    with pytest.raises(ReleaseUnavailable):
        supervisor.run()
    assert lines == []
    assert not supervisor.ready.is_set()
    assert not settings.run_folder.exists()
