"""Releases come in, rise and are thrown out; each act has its row, and who stands against it is named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fraud_release.errors import PromotionRefused, RegistryConflict, RegistryDamaged, ReleaseRefused
from fraud_release.registry import stage_of
from fraud_release.registry.catalogue import Place, documents_of
from fraud_release.registry.people import Person
from fraud_release.registry.registry import Registry, Settings
from fraud_release.registry.rows import Act
from fraud_release.signing import sign_release
from fraud_release.trust import open_signing_key
from fraud_scoring.errors import InvalidInput
from fraud_scoring.releases import existing
from support.registries import ANN, BOB, WantedGates, registry_of, to_production


def acts(registry: Registry) -> list[Act]:
    return [row.act for row in registry.book().rows]


def test_a_release_that_comes_in_is_dev_and_says_what_it_is(registry: Registry) -> None:
    row = registry.register(1, ANN, "trained")
    assert registry.stage_of(1) == "dev"
    assert registry.stage_of(2) is None
    place = Place(row.version, row.run)
    tags = registry.catalogue.tags(place)
    assert tags["release"] == "r0001"
    assert tags["manifest_sha256"] == row.manifest
    documents = documents_of(tags)
    assert {"input_schema", "output_schema", "expected_latency", "resource_needs", "data", "signature"} <= set(
        documents
    )
    assert documents["input_schema"]["columns"][0]["name"] == "transaction_id"
    assert documents["output_schema"]["verdict"]["columns"][0] == "decision"
    assert 0 < documents["expected_latency"]["rows_1_p50_ms"] <= documents["expected_latency"]["rows_1_p99_ms"]
    assert documents["resource_needs"]["disk_bytes"] > 10_000
    metrics = registry.catalogue.metrics(place)
    assert 0.5 < metrics["evaluation.all.auc"] <= 1
    assert registry.catalogue.parameters(place)["plan.trees"] == "60"
    assert registry.catalogue.aliases() == {"dev": row.version}


def test_a_second_registration_changes_nothing(registry: Registry) -> None:
    first = registry.register(1, ANN, "trained")
    assert registry.register(1, BOB, "again") == first
    assert acts(registry) == [Act.REGISTERED]


def test_another_release_of_the_same_name_is_refused(registry: Registry, repository: Path, release_keys: Path) -> None:
    registry.register(1, ANN, "trained")
    manifest = repository / "fraud_r0001" / "manifest.json"
    manifest.chmod(0o644)
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**document, "created_at": "2000-01-01"}))
    sign_release(repository, 1, open_signing_key(release_keys))
    with pytest.raises(PromotionRefused, match="another release is registered as r0001"):
        registry.register(1, ANN, "trained")


def test_a_release_whose_files_were_changed_does_not_come_in(registry: Registry, repository: Path) -> None:
    model = repository / "fraud_model_r0001" / "1" / "model.onnx"
    model.chmod(0o644)
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    with pytest.raises(ReleaseRefused, match="was changed after it was made"):
        registry.register(1, ANN, "trained")
    assert registry.book().rows == ()


def test_production_takes_a_request_and_a_second_person(registry: Registry) -> None:
    registry.register(1, ANN, "trained")
    registry.promote(1, "staging", ANN, "looks right")
    asked = registry.promote(1, "production", ANN, "is better")
    assert (asked.act, registry.stage_of(1)) == (Act.REQUESTED, "staging")
    approved = registry.approve(1, BOB, "seen the report")
    assert registry.stage_of(1) == "production"
    assert (approved.actor, approved.account, approved.approver, approved.approver_account) == (
        "ann",
        "ann@desk",
        "bob",
        "bob@desk",
    )
    assert (approved.reason, approved.request) == ("is better / approved: seen the report", asked.sequence)
    assert registry.book().pending() == []


@pytest.mark.parametrize("name", ["ann", "Ann ", "ＡＮＮ", "a\u200bnn"])
def test_who_asked_cannot_approve_however_the_name_is_written(registry: Registry, name: str) -> None:
    registry.register(1, ANN, "trained")
    registry.promote(1, "staging", ANN, "looks right")
    registry.promote(1, "production", ANN, "is better")
    with pytest.raises(PromotionRefused, match="production takes a second person"):
        registry.approve(1, Person(name, "ann@desk"))
    with pytest.raises(PromotionRefused, match=r"that is one person|asked for production of r0001 already"):
        registry.promote(1, "production", ANN, "is better", approver=name)
    assert registry.stage_of(1) == "staging"


def test_who_asks_cannot_name_itself_as_approver_and_only_the_named_one_may(registry: Registry) -> None:
    registry.register(1, ANN, "trained")
    registry.promote(1, "staging", ANN, "looks right")
    with pytest.raises(PromotionRefused, match="that is one person"):
        registry.promote(1, "production", ANN, "is better", approver="ANN")
    registry.promote(1, "production", ANN, "is better", approver="Bob")
    with pytest.raises(PromotionRefused, match="Bob was asked to approve it, and not carl"):
        registry.approve(1, Person("carl", "carl@desk"))
    registry.approve(1, BOB)
    assert registry.stage_of(1) == "production"


def test_two_accounts_are_wanted_where_that_is_set(registry: Registry) -> None:
    strict = replace(registry, settings=Settings(distinct_accounts=True))
    strict.register(1, ANN, "trained")
    strict.promote(1, "staging", ANN, "looks right")
    strict.promote(1, "production", ANN, "is better")
    with pytest.raises(PromotionRefused, match="this registry wants two accounts"):
        strict.approve(1, Person("bob", ANN.account))
    strict.approve(1, BOB)
    assert strict.stage_of(1) == "production"


def test_nothing_is_approved_that_nobody_asked_for(registry: Registry) -> None:
    with pytest.raises(PromotionRefused, match="r0001 is not registered; register it: fraudctl release register r0001"):
        registry.approve(1, BOB)
    registry.register(1, ANN, "trained")
    registry.promote(1, "staging", ANN, "looks right")
    with pytest.raises(PromotionRefused, match="nobody has asked for production of r0001"):
        registry.approve(1, BOB)


def test_a_request_ends_when_it_is_rejected_and_when_its_release_leaves_staging(registry: Registry) -> None:
    for release in (1, 2):
        registry.register(release, ANN, "trained")
    registry.promote(1, "staging", ANN, "looks right")
    registry.promote(1, "production", ANN, "is better")
    registry.reject(1, BOB, "not on a Friday")
    with pytest.raises(PromotionRefused, match="nobody has asked"):
        registry.approve(1, BOB)
    registry.promote(1, "production", ANN, "is Monday")
    registry.promote(2, "staging", ANN, "is better still")
    registry.promote(1, "staging", ANN, "the first one after all")
    with pytest.raises(PromotionRefused, match="nobody has asked"):
        registry.approve(1, BOB)


def test_two_that_were_in_production_are_kept(registry: Registry) -> None:
    for release in (1, 2, 3, 4):
        to_production(registry, release)
    assert registry.book().stages.kept == (4, 3, 2)
    assert [registry.stage_of(release) for release in (1, 2, 3, 4)] == [
        "retired",
        "previous-2",
        "previous-1",
        "production",
    ]
    versions = {row.release: row.version for row in registry.book().rows}
    assert registry.catalogue.aliases() == {
        "production": versions["r0004"],
        "previous-1": versions["r0003"],
        "previous-2": versions["r0002"],
    }
    registry.roll_back(ANN, "declines doubled")
    assert registry.book().stages.kept == (3, 2, None)
    assert registry.stage_of(4) == "retired"


@pytest.mark.parametrize("failing", ["quality", "latency"])
def test_a_gate_that_fails_refuses_with_its_name_and_leaves_a_row(registry: Registry, failing: str) -> None:
    registry.register(1, ANN, "trained")
    gates = WantedGates(failing={failing})
    refusing = replace(registry, checks=gates)
    with pytest.raises(
        PromotionRefused, match=f"refused for staging by 1 of 2 gates: {failing}: {failing} was measured"
    ):
        refusing.promote(1, "staging", ANN, "looks right")
    last = registry.book().rows[-1]
    assert (last.act, last.to) == (Act.REFUSED, "staging")
    assert (failing, False, f"{failing} was measured") in last.gates
    assert registry.stage_of(1) == "dev"


def test_the_gates_are_asked_at_every_promotion_and_again_before_approval(registry: Registry) -> None:
    to_production(registry, 1)
    gates = WantedGates()
    asking = replace(registry, checks=gates)
    to_production(asking, 2)
    assert gates.asked == [(2, 1), (2, 1), (2, 1)]
    asking.register(3, ANN, "trained")
    asking.promote(3, "staging", ANN, "looks right")
    asking.promote(3, "production", ANN, "is better")
    gates.failing.add("quality")
    with pytest.raises(PromotionRefused, match="quality was measured"):
        asking.approve(3, BOB)
    assert registry.stage_of(3) == "staging"
    assert registry.book().pending() == [], "a refused request is answered"


def test_a_release_that_is_not_here_is_fetched_before_the_gates_look_at_it(
    registry: Registry, repository: Path
) -> None:
    registry.register(2, ANN, "trained")
    for folder in repository.glob("fraud_*r0002"):
        shutil.rmtree(folder)
    with pytest.raises(PromotionRefused, match="fetch it: fraudctl release fetch r0002"):
        registry.promote(2, "staging", ANN, "looks right")


def test_the_first_release_may_be_bootstrapped_and_the_row_says_that_nobody_approved(registry: Registry) -> None:
    registry.register(1, ANN, "trained")
    row = registry.bootstrap(1, ANN, "first release")
    assert (row.act, row.approver, registry.stage_of(1)) == (Act.BOOTSTRAPPED, None, "production")
    registry.register(2, ANN, "trained")
    with pytest.raises(PromotionRefused, match="only the first release of an empty registry"):
        registry.bootstrap(2, ANN, "me too")


def test_what_has_no_reason_or_an_odd_target_is_refused(registry: Registry) -> None:
    registry.register(1, ANN, "trained")
    with pytest.raises(InvalidInput, match="a reason has"):
        registry.promote(1, "staging", ANN, "  ")
    with pytest.raises(PromotionRefused, match="staging needs no approver"):
        registry.promote(1, "staging", ANN, "looks right", approver="bob")
    with pytest.raises(PromotionRefused, match="no stage is skipped"):
        registry.promote(1, "production", ANN, "at once")


def test_of_two_who_act_on_the_same_state_the_second_one_is_told(registry: Registry) -> None:
    registry.register(1, ANN, "trained")
    stale = registry.book()
    registry.register(2, ANN, "trained")
    row = registry._draft(stale, Act.REJECTED, 1, BOB, "late", stale.stages)
    with pytest.raises(RegistryConflict, match="ask again"):
        registry._write(row)
    assert acts(registry) == [Act.REGISTERED, Act.REGISTERED]


def test_an_alias_that_was_set_by_other_means_stops_promotions_until_it_is_restored(registry: Registry) -> None:
    to_production(registry, 1)
    row = registry.register(2, ANN, "trained")
    registry.catalogue.set_alias("production", row.version)
    for attempt in (lambda: registry.promote(2, "staging", ANN, "looks right"), registry.book):
        with pytest.raises(RegistryDamaged, match=r"alias production is at version .*, where the audit never put it"):
            attempt()
    assert [finding.what[:32] for finding in registry.verify()[1]] == ["does not explain the aliases: al"]
    registry.restore(BOB, "somebody used the web page")
    assert registry.verify()[1] == []
    assert (registry.stage_of(1), registry.stage_of(2)) == ("production", "dev")


def test_a_fetched_release_is_what_was_registered(registry: Registry, repository: Path, home: Path) -> None:
    registry.register(2, ANN, "trained")
    assert registry.fetch(2) is False
    before = {path.name: path.read_bytes() for path in repository.glob("fraud_*r0002/**/*") if path.is_file()}
    for folder in repository.glob("fraud_*r0002"):
        shutil.rmtree(folder)
    assert 2 not in existing(repository)
    assert registry.fetch(2) is True
    assert {path.name: path.read_bytes() for path in repository.glob("fraud_*r0002/**/*") if path.is_file()} == before
    assert all(path.stat().st_mode & 0o222 == 0 for path in repository.glob("fraud_*r0002/**/*") if path.is_file())
    assert (repository / "fraud_r0002" / "1").is_dir()


@pytest.mark.parametrize(
    "part",
    ["fraud_r0002/release.sig", "fraud_model_r0002/1/model.onnx", "fraud_r0002/manifest.json", "fraud_r0002/more.py"],
)
def test_what_was_changed_in_the_registry_never_gets_its_name(registry: Registry, repository: Path, part: str) -> None:
    row = registry.register(2, ANN, "trained")
    for folder in repository.glob("fraud_*r0002"):
        shutil.rmtree(folder)
    stored = repository / ".registry" / "artifacts" / row.run / "artifacts" / "release" / part
    if stored.exists():
        stored.write_bytes(stored.read_bytes().replace(b"0", b"1", 1))
    else:
        stored.write_bytes(b"import os")
    with pytest.raises(ReleaseRefused, match="r0002"):
        registry.fetch(2)
    assert list(repository.glob("fraud_*r0002")) == []
    assert list(repository.glob(".staging*")) == []


def test_a_repository_that_was_moved_keeps_its_registry(registry: Registry, repository: Path, tmp_path: Path) -> None:
    registry.register(1, ANN, "trained")
    moved = Path(shutil.move(repository, tmp_path / "elsewhere"))
    home = tmp_path / "home"
    after = registry_of(moved, home)
    after.register(2, ANN, "trained")
    for release in (1, 2):
        for folder in moved.glob(f"fraud_*r000{release}"):
            shutil.rmtree(folder)
        assert after.fetch(release) is True


def test_traffic_asks_for_stages_without_opening_mlflow(registry: Registry, repository: Path, home: Path) -> None:
    assert stage_of(1, repository, home) is None
    for release in (1, 2):
        to_production(registry, release)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from fraud_release.registry import kept, stage_of\n"
        "repository, home = map(Path, sys.argv[1:])\n"
        "print(stage_of(1, repository, home), kept(repository, home), 'mlflow' in sys.modules)\n"
    )
    command = [sys.executable, "-c", program, str(repository), str(home)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout == "previous-1 (2, 1, None) False\n"
