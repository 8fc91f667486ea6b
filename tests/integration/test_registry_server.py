"""Two hosts on one shared MLflow server, whose artifacts lie in an S3: the same rules, and one audit for both."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fraud_release.errors import (
    PromotionRefused,
    RegistryConflict,
    RegistryDamaged,
    RegistryUnavailable,
    ReleaseRefused,
)
from fraud_release.registry.catalogue import Catalogue
from fraud_release.registry.people import Person
from fraud_release.registry.registry import Registry
from fraud_release.registry.rows import Act
from fraud_scoring.errors import InvalidInput
from fraud_scoring.releases import existing
from fraud_server.ports import free_ports
from support.mlflow_server import mlflow_server
from support.registries import ANN, BOB, another_release, copied, registry_of
from support.release import empty_repository

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as found:
        yield found


def trusting(one: Registry, other: Registry) -> None:
    """Each host trusts the other's key."""
    for host, colleague in ((one, other), (other, one)):
        colleague.home.key()
        for key in colleague.home.trusted():
            host.home.trust(key)


def test_two_hosts_share_releases_stages_and_the_audit(
    url: str, served_repository: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    anns = copied(served_repository, tmp_path / "ann")
    another_release(anns)
    another_release(anns)
    bobs = empty_repository(tmp_path / "bob")
    ann, bob = registry_of(anns, tmp_path / "anns home", url), registry_of(bobs, tmp_path / "bobs home", url)

    assert [row.act for row in ann.bring_in(1, ANN, "trained")] == [Act.REGISTERED, Act.BOOTSTRAPPED]
    with pytest.raises(RegistryDamaged, match="fraudctl release audit trust"):
        bob.stage_of(1)
    trusting(ann, bob)
    assert bob.stage_of(1) == "production"

    # what bob approves, bob has fetched
    row = ann.register(2, ANN, "trained")
    ann.promote(2, "staging", ANN, "looks right")
    ann.promote(2, "production", ANN, "is better " * 90)
    with pytest.raises(PromotionRefused, match="fetch it: fraudctl release fetch r0002"):
        bob.approve(2, BOB)
    assert [bob.fetch(release) for release in (1, 2)] == [True, True]
    assert existing(bobs) == [1, 2]
    for path in anns.glob("fraud_*r0002/**/*"):
        assert path.is_dir() or path.read_bytes() == (bobs / path.relative_to(anns)).read_bytes()
    with pytest.raises(PromotionRefused, match="a second person"):
        bob.approve(2, Person("Ann", "root@bobs"))
    bob.approve(2, BOB, "read the report")
    assert ann.book().stages.kept == (2, 1, None)
    assert ann.catalogue.aliases()["production"] == row.version
    assert ann.verify()[1] == bob.verify()[1] == []

    assert capfd.readouterr().out == "", "MLflow prints nothing beside a command's own report"

    # two at once: one of them gets the row
    ann.register(3, ANN, "trained")
    bob.fetch(3)

    def promote(host: Registry) -> str:
        try:
            host.promote(3, "staging", Person("carl", "carl@desk"), "at once")
        except (RegistryConflict, PromotionRefused) as refusal:
            return type(refusal).__name__
        return "promoted"

    with ThreadPoolExecutor(2) as pool:
        ended = sorted(pool.map(promote, (ann, bob)))
    assert ended in (["RegistryConflict", "promoted"], ["PromotionRefused", "promoted"])
    assert ann.book().stages.as_dict() == {"staging": "r0003", "production": "r0002", "previous-1": "r0001"}

    # an edited file, an edited row
    shutil.rmtree(bobs)
    empty_repository(bobs)
    client = ann.catalogue._client
    bad = tmp_path / "model.onnx"
    bad.write_bytes(b"another model")
    client.log_artifact(row.run, str(bad), "release/fraud_model_r0002/1")
    with pytest.raises(ReleaseRefused, match=r"fraud_model_r0002/1/model.onnx was changed after it was made"):
        bob.fetch(2)
    assert existing(bobs) == []
    first = client.get_experiment_by_name("fraudserve-audit/fraudserve/000000001")
    assert first is not None
    client.delete_experiment(first.experiment_id)
    assert ann.verify()[1] == [], "what MLflow calls deleted is still there, and counts"
    client.restore_experiment(first.experiment_id)
    client.set_experiment_tag(first.experiment_id, "row.000", first.tags["row.000"].replace("trained", "approved"))
    assert {finding.sequence for finding in bob.verify()[1]} >= {1, 2}
    with pytest.raises(RegistryDamaged):
        bob.fetch(1)


def test_a_registry_that_is_not_there_says_so(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with pytest.raises(RegistryUnavailable, match=r"the registry at 127.0.0.1 cannot be used"):
        Catalogue.shared(f"http://127.0.0.1:{port}")
    with pytest.raises(InvalidInput, match="write http://host:5000"):
        Catalogue.shared("sqlite:///registry.sqlite")
