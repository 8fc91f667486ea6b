"""How a caller shows who it is: what goes together, and a token that is renewed under a running client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fraud_client import Access, AsyncFraudClient, FraudClient, GrpcTransport, InvalidRequest, NotAllowed, Overloaded
from fraud_client._transport import failure


def test_a_token_goes_with_every_call() -> None:
    assert Access(token="a.b.c").headers()() == {"authorization": "Bearer a.b.c"}
    assert Access().headers()() == {}


def test_a_token_is_in_no_text_of_its_access() -> None:
    assert "a.b.c" not in repr(Access(token="a.b.c"))


def replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_a_token_file_is_read_again_when_it_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    headers = Access(token_file=path).headers()
    assert headers()["authorization"] == "Bearer first"
    replace(path, "second")
    assert headers()["authorization"] == "Bearer second"


@pytest.mark.parametrize("content", ["", "two words", "tök", "\0"])
def test_a_token_file_that_turns_bad_leaves_the_token_there_was(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    headers = Access(token_file=path).headers()
    headers()
    replace(path, content)
    assert headers()["authorization"] == "Bearer first"
    path.unlink()
    assert headers()["authorization"] == "Bearer first"
    with pytest.raises(InvalidRequest, match=r"Access: token holds no token"):
        Access(token_file=path).headers()()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"certificate": "a"}, "certificate and key belong together"),
        ({"key": "a"}, "certificate and key belong together"),
        ({"token": "a", "token_file": "b"}, "give token or token_file, not both"),
        ({"token": ""}, "printable ASCII without spaces"),
        ({"token": "a\nb"}, "printable ASCII without spaces"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        Access(**options)


@pytest.mark.parametrize("kind", [FraudClient, AsyncFraudClient])
def test_a_file_that_is_not_there_is_named_without_its_folder(tmp_path: Path, kind: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^Access: ca \(ca\.crt\) cannot be read: No such file or directory$"):
        kind(access=Access(ca=tmp_path / "ca.crt"))


def test_access_and_a_transport_are_not_given_together() -> None:
    with pytest.raises(InvalidRequest, match="not both"):
        FraudClient(access=Access(), transport=GrpcTransport("127.0.0.1:1"))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("StatusCode.UNAUTHENTICATED", NotAllowed),
        ("StatusCode.PERMISSION_DENIED", NotAllowed),
        ("StatusCode.RESOURCE_EXHAUSTED", Overloaded),
    ],
)
def test_a_gateways_refusals_have_errors_of_their_own(status: str, error: type[Exception]) -> None:
    found = failure(status, "said by it", "gateway:8443", 1.0)
    assert type(found) is error
    assert "gateway:8443" in str(found)
    assert "said by it" in str(found)
