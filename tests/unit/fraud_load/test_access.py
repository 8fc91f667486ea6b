"""Who calls, as the generators hand it on."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraud_client import Access, InvalidRequest
from fraud_load.access import for_connection, for_process, for_transport, of_process
from fraud_load.runner import Target


@pytest.mark.parametrize(
    "access",
    [Access(ca="ca.crt", token_file="token"), Access(ca="ca.crt", certificate="a.crt", key="a.key"), None],
    ids=["token", "certificate", "nobody"],
)
def test_a_process_is_told_the_names_of_the_files_and_finds_them_again(access: Access | None) -> None:
    assert of_process({"HOME": "/", **for_process(access)}) == access


def test_without_a_gateway_nothing_is_shown() -> None:
    assert (for_transport(None), for_connection(None), for_process(None)) == ({}, None, {})


def test_a_file_that_cannot_be_read_is_named_and_not_where_it_lies(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"ca \(nowhere\.crt\) cannot be read") as refused:
        for_transport(Access(ca=tmp_path / "nowhere.crt"))
    assert str(tmp_path) not in str(refused.value)


def test_processes_are_looked_for_behind_a_server_and_not_behind_a_gateway() -> None:
    assert Target("localhost:8001").watched == "localhost:8001"
    assert Target("localhost:8443", access=Access()).watched is None
