"""Who vouches for callers at a gateway, for every module that runs one."""

from __future__ import annotations

import pytest

from support.gateway import Authority, Issuer


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()
