"""`fraudctl release …`: what is on record, as a shell sees it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from support.registries import BOB, registry_of, to_production


def where(repository: Path, home: Path) -> tuple[object, ...]:
    return "--repository", repository, "--home", home, "--json"


def test_a_release_goes_on_record_and_comes_back(fraudctl, with_release: Path, home: Path) -> None:
    options = where(with_release, home)
    first = fraudctl("release", "register", "r0001", *options)
    assert [row["act"] for row in first.json["rows"]] == ["registered", "bootstrapped"]
    assert fraudctl("release", "stages", *options).json["stages"] == {"production": "r0001"}
    shown = fraudctl("release", "show", "r0001", *options).json
    assert shown["stage"] == "production"
    assert shown["data"]["simulated"] is True
    assert shown["signature"].keys() == {"release.sig"}
    assert fraudctl("release", "fetch", "r0001", *options).json == {"release": "r0001", "fetched": False}
    for folder in with_release.glob("fraud_*r0001"):
        shutil.rmtree(folder)
    assert fraudctl("release", "fetch", "r0001", *options).json == {"release": "r0001", "fetched": True}
    assert fraudctl("release", "verify", "--repository", with_release, "--home", home).code == 0


def test_refusals_are_one_line_and_code_1_and_bad_usage_is_code_2(fraudctl, with_release: Path, home: Path) -> None:
    options = where(with_release, home)
    ran = fraudctl("release", "promote", "r0001", "--to", "staging", "--reason", "looks right", *options)
    assert (ran.code, "r0001 is not registered" in ran.complaint) == (1, True)
    assert fraudctl("release", "promote", "r0001", "--to", "staging", *options).code == 2
    assert fraudctl("release", "promote", "r0001", "--to", "previous-1", "--reason", "x", *options).code == 2
    assert fraudctl("release", "register", "newest", *options).code == 2
    assert fraudctl("release", "register", "r0001", "--actor", "\u0430nn", *options).code == 2
    assert fraudctl("release", "stages", "--registry", "ftp://host", *options).code == 2
    assert fraudctl("release", "audit", "trust", "abc", *options).code == 2
    forced = fraudctl("release", "promote", "r0001", "--to", "staging", "--reason", "x", "--force", *options)
    assert (forced.code, "No such option" in forced.err) == (2, True)


def test_gates_that_have_nothing_to_look_at_refuse(fraudctl, with_release: Path, home: Path) -> None:
    options = where(with_release, home)
    registry_of(with_release, home).register(1, BOB, "trained")
    ran = fraudctl("release", "promote", "r0001", "--to", "staging", "--reason", "looks right", *options)
    assert (ran.code, "quality: not measured: there are no labelled transactions" in ran.complaint) == (1, True)
    last = fraudctl("release", "history", *options).json["rows"][-1]
    assert (last["act"], last["to"]) == ("refused", "staging")
    said = {name: passed for name, passed, _ in last["gates"]}
    assert (said["signature"], said["quality"]) == (True, False)


def test_the_audit_is_verified_and_what_was_edited_is_code_1(fraudctl, with_release: Path, home: Path) -> None:
    options = where(with_release, home)
    to_production(registry_of(with_release, home), 1)
    good = fraudctl("release", "audit", "verify", *options)
    assert (good.code, good.json["rows"], good.json["findings"]) == (0, 4, [])
    assert fraudctl("release", "audit", "verify", "--head", good.json["head"]["digest"], *options).code == 0
    assert fraudctl("release", "audit", "verify", "--head", "0" * 64, *options).code == 1
    assert len(fraudctl("release", "audit", "key", *options).json["key"]) == 64
    with closing(sqlite3.connect(with_release / ".registry" / "audit.sqlite")) as connection:
        connection.execute("DROP TRIGGER audit_is_not_updated")
        connection.execute("UPDATE audit SET line = replace(line, 'bob', 'eve') WHERE sequence = 4")
        connection.commit()
    bad = fraudctl("release", "audit", "verify", *options)
    assert (bad.code, {finding["sequence"] for finding in bad.json["findings"]}) == (1, {4})
    refused = fraudctl("release", "rollback", "--reason", "declines doubled", *options)
    assert (refused.code, "audit is not what was written" in refused.complaint) == (1, True)
