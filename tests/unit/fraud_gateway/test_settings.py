"""A gateway's settings: whatever breaks a rule is refused by its name in the file, with the rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fraud_gateway.__main__ import main
from fraud_gateway.settings import Address, CallerLimits, Gateway, InvalidGateway

EXAMPLES = sorted((Path(__file__).parents[3] / "deploy" / "gateway").glob("*.yaml"))
GOOD: dict[str, Any] = {
    "servers": ["server-a:8001"],
    "callers": {"spiffe://fraudserve/payments": {"rate": 10, "burst": 20, "concurrency": 3}},
}
TOKENS = {"issuer": "https://issuer.example", "audience": "fraudserve"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_good(path: Path) -> None:
    assert Gateway.read(path).servers


def test_there_is_an_example_for_each_kind_of_identity() -> None:
    assert {Gateway.read(path).identity for path in EXAMPLES} == {"certificate", "token", "either"}


def test_what_is_not_given_is_the_safe_choice() -> None:
    gateway = Gateway.parse(GOOD)
    assert (gateway.tls.least, gateway.tls.client_certificates, gateway.identity) == ("1.3", "required", "certificate")
    assert gateway.other_callers is None
    assert gateway.metrics.host == "127.0.0.1"


def test_settings_are_read_as_they_are_written() -> None:
    gateway = Gateway.parse({**GOOD, "listen": "[::1]:9000", "metrics": "0.0.0.0:9464", "limits": {"seconds": 2.5}})
    assert gateway.servers == (Address("server-a", 8001),)
    assert gateway.listen == Address("::1", 9000)
    assert gateway.limits.seconds == 2.5
    assert gateway.callers == {"spiffe://fraudserve/payments": CallerLimits(10, 20, 3)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"servers": []}, "servers must name one server or more"),
        ({"servers": "server-a:8001"}, "servers must be a list of host:port"),
        ({"servers": ["server-a"]}, r"servers\[0\] must be host:port"),
        ({"servers": ["server-a:99999"]}, r"servers\[0\] must be host:port"),
        ({"servers": ["server a:1"]}, r"servers\[0\] must be host:port"),
        ({"callers": {}}, "callers must list a caller"),
        ({"callers": {"a b": {}}}, r"callers\.a b must be 1 to 200 printable"),
        ({"callers": {"a,b": {}}}, r"callers\.a,b must be 1 to 200 printable"),
        ({"callers": {"-": {}}}, r"callers\.- must not be"),
        ({"callers": {"a": {"rate": 0}}}, r"callers\.a\.rate must be a whole number above 0"),
        ({"callers": {"a": {"rate": True}}}, r"callers\.a\.rate must be a whole number above 0"),
        ({"callers": {"a": {"speed": 1}}}, r"callers\.a\.speed must not be there: the settings are rate, burst"),
        ({"callers": ["a"]}, "callers must be a mapping"),
        ({"identity": "password"}, "identity must be one of token, certificate, either"),
        ({"identity": "token"}, "tokens must be given when identity is token"),
        ({"tls": {"client_certificates": "optional"}}, r"tls\.client_certificates must be required when identity is"),
        ({"tls": {"least": 1.1}}, r"tls\.least must be one of 1\.3, 1\.2"),
        ({"tls": {"folder": "here"}}, r"tls\.folder must be an absolute path"),
        ({"tokens": {"issuer": "x"}}, "tokens must have issuer, audience"),
        ({"tokens": {**TOKENS, "audience": ""}}, r"tokens\.audience must be text"),
        ({"tokens": {**TOKENS, "clock_skew_s": -1}}, r"tokens\.clock_skew_s must be a whole number, 0 or more"),
        ({"limits": {"seconds": 0}}, r"limits\.seconds must be seconds from 0\.1 to 60"),
        ({"limits": {"message_bytes": 1.5}}, r"limits\.message_bytes must be a whole number above 0"),
        ({"retries": {"share": 2}}, r"retries\.share must be a share from 0 to 1"),
        ({"port": 1}, "port must not be there: the settings are servers"),
        ({"drain": "0.0.0.0:9465"}, "drain must be on loopback"),
        ({"listen": 8443}, "listen must be host:port"),
    ],
)
def test_a_setting_that_breaks_a_rule_is_refused_by_its_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidGateway, match=said):
        Gateway.parse({**GOOD, **change})


@pytest.mark.parametrize("text", ["", "servers", "[]", "a: [", "servers: [a:1"])
def test_a_file_that_holds_no_settings_is_refused_in_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    assert main([str(path), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gateway: gateway.yaml: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_and_a_wrong_call_are_refused(tmp_path: Path, capsys: Any) -> None:
    assert main([str(tmp_path / "none.yaml"), str(tmp_path)]) == 2
    assert capsys.readouterr().err == "gateway: none.yaml: No such file or directory\n"
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: ")


def test_the_command_writes_the_files(tmp_path: Path) -> None:
    (path,) = [path for path in EXAMPLES if path.name == "certificates.yaml"]
    assert main([str(path), str(tmp_path / "out")]) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "certificate.yaml",
        "clients.yaml",
        "envoy.yaml",
    ]
