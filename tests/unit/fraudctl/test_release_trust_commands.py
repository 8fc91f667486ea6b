"""Signing, verifying, sealing and asking the gates from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.release import empty_repository


@pytest.fixture
def own_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key is named by the environment: the home folder's own is used."""
    monkeypatch.delenv("FRAUD_RELEASE_KEY")
    monkeypatch.delenv("FRAUD_RELEASE_SIGNING_KEY")


@pytest.mark.usefixtures("own_keys")
def test_the_first_signing_makes_the_keys_and_from_then_on_the_release_verifies(
    fraudctl, with_release: Path, tmp_path: Path
) -> None:
    where = ("--repository", with_release, "--home", tmp_path / "home")
    unknown = fraudctl("release", "verify", *where)
    assert unknown.code == 2
    assert "no key is pinned" in unknown.complaint
    signed = fraudctl("release", "sign", "r0001", *where, "--json")
    assert signed.code == 0
    verified = fraudctl("release", "verify", *where, "--json").json["verified"]["r0001"]
    assert {name: signed.json[name] for name in verified} == verified
    keys = fraudctl("release", "keys", "--home", tmp_path / "home", "--json").json
    assert keys == {"trusted": [signed.json["public_key"]], "verified": {}}
    assert fraudctl("release", "admit", "r0001", *where).code == 0
    assert "r0001" in fraudctl("release", "keys", "--home", tmp_path / "home", "--json").json["verified"]


def test_a_release_is_sealed_and_opened_elsewhere(fraudctl, with_release: Path, tmp_path: Path) -> None:
    store, key, home = tmp_path / "store", tmp_path / "sealing.key", tmp_path / "home"
    sealing = ("--sealing-key", key, "--home", home)
    sealed = fraudctl("release", "seal", "r0001", "--into", store, *sealing, "--repository", with_release, "--json")
    assert sealed.code == 0
    assert Path(sealed.json["folder"]).is_dir()
    target = empty_repository(tmp_path / "opened")
    opened = ("release", "unseal", "r0001", "--from", store, *sealing, "--repository", target)
    assert fraudctl(*opened).code == 0
    assert fraudctl("release", "verify", "r0001", "--repository", target, "--home", home).code == 0
    model = store / "r0001.sealed" / "fraud_model_r0001" / "1" / "model.onnx.sealed"
    model.chmod(0o644)
    model.write_bytes(model.read_bytes()[:-1])
    refused = fraudctl(*opened)
    assert refused.code == 1
    assert "fraud_model_r0001/1/model.onnx.sealed does not open" in refused.complaint


def test_gates_that_could_not_be_asked_fail_the_command(fraudctl, with_release: Path, tmp_path: Path) -> None:
    ran = fraudctl(
        *("release", "gates", "--candidate", "r0001", "--no-server", "--json"),
        *("--repository", with_release, "--home", tmp_path / "home"),
    )
    assert ran.code == 1
    found = {gate["name"]: gate["passed"] for gate in ran.json["gates"]}
    assert found == {"signature": True, "golden vectors": True, "quality": False}
    assert (ran.json["champion"], ran.json["passed"]) == (None, False)
