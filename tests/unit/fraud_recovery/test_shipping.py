"""A log that is shipped while it is written: the copy always verifies, and one that was written on stays as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from fraud_recovery.backup import back_up
from fraud_recovery.errors import ArchiveRefused, ShippingRefused
from fraud_recovery.restore import Target, restore
from fraud_recovery.shipping import Shipping
from fraud_scoring.decision_log import Context, LogWriter, Signer, verify_log
from fraud_scoring.decision_log.segments import HEAD_FILE, segment_path, segments
from fraudctl.cli import cli

if TYPE_CHECKING:
    from conftest import Kept  # the one beside this file


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "other-region" / "log"


def decisions(log: Path, kept: Kept) -> int:
    found = verify_log(log, Signer.open(kept.source.log_key).public_key)
    assert found.findings == []
    return found.decisions


def grow(kept: Kept, batches: int = 1) -> None:
    for _ in range(batches):
        kept.decide(kept.rows(12), kept.writer(), record=False)


def test_each_run_brings_what_is_new_over_the_ends_of_segments(kept: Kept, to: Path) -> None:
    shipping = Shipping(kept.source.log, to)
    first = shipping.run()
    assert (decisions(to, kept), first.writers) == (60, 2)
    for done in range(1, 9):
        grow(kept, 3)
        assert shipping.run().bytes > 0
        assert decisions(to, kept) == 60 + 36 * done
    assert len(segments(to / "front-door-0")) > 1
    assert shipping.run().bytes == 0


def test_another_process_goes_on_where_one_was_killed_in_the_middle_of_a_frame(kept: Kept, to: Path) -> None:
    Shipping(kept.source.log, to).run()
    last = segment_path(to / "front-door-0", segments(to / "front-door-0")[-1])
    grow(kept)
    whole = segment_path(kept.source.log / "front-door-0", int(last.stem)).read_bytes()
    last.write_bytes(whole[:-7])
    Shipping(kept.source.log, to).run()
    assert decisions(to, kept) == 72


def test_half_a_frame_of_the_source_waits_for_its_other_half(kept: Kept, to: Path, tmp_path: Path) -> None:
    log = Path(shutil.copytree(kept.source.log, tmp_path / "log"))
    last = segment_path(log / "front-door-0", segments(log / "front-door-0")[-1])
    whole = last.read_bytes()
    (log / "front-door-0" / HEAD_FILE).unlink()
    last.write_bytes(whole[:-7])
    shipping = Shipping(log, to)
    shipping.run()
    there = segment_path(to / "front-door-0", int(last.stem))
    assert 0 < there.stat().st_size < len(whole) - 7
    last.write_bytes(whole)
    shipping.run()
    assert there.read_bytes() == whole


def test_what_a_killed_shipping_left_is_good_enough_to_restore_from(kept: Kept, to: Path, target: Target) -> None:
    archive = back_up(kept.source, to.parent / "archives", with_keys=True).archive
    grow(kept)
    Shipping(kept.source.log, to).run()
    last = segment_path(to / "front-door-0", segments(to / "front-door-0")[-1])
    with last.open("ab") as file:
        file.write(last.read_bytes()[:100])
    where = Target(target.repository, target.home, target.store_url, surviving_log=to)
    done = restore(archive, where)
    assert done.replay is not None
    assert done.replay.transactions_added == 12


def test_bytes_that_are_not_the_end_of_a_killed_writer_are_refused_as_before(
    kept: Kept, to: Path, target: Target
) -> None:
    archive = back_up(kept.source, to.parent / "archives", with_keys=True).archive
    Shipping(kept.source.log, to).run()
    last = segment_path(to / "front-door-0", segments(to / "front-door-0")[-1])
    with last.open("ab") as file:
        file.write(b"no frame at all" * 20)
    where = Target(target.repository, target.home, target.store_url, surviving_log=to)
    with pytest.raises(ArchiveRefused, match="the surviving log"):
        restore(archive, where)


@pytest.mark.parametrize("serves", [True, False], ids=["it serves", "it ended"])
@pytest.mark.parametrize("goes_on", [True, False], ids=["both go on", "only the copy goes on"])
def test_a_copy_that_a_server_went_on_from_is_never_touched_again(
    kept: Kept, to: Path, serves: bool, goes_on: bool
) -> None:
    shipping = Shipping(kept.source.log, to)
    shipping.run()
    context = Context(1, kept.schema.document)
    other_region = LogWriter(to / "front-door-0", context, Signer.open(kept.source.log_key))
    kept.decide(kept.rows(12), other_region, record=False)
    if not serves:
        other_region.close()
    if goes_on:
        grow(kept, 9)
    before = contents(to)
    for again in (shipping, Shipping(kept.source.log, to)):
        with pytest.raises(ShippingRefused, match="a server went on from it, and answers in this one's place"):
            again.run()
    assert contents(to) == before
    if serves:
        other_region.close()
    assert decisions(to, kept) == 72


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != HEAD_FILE}


def test_a_log_in_place_of_another_is_not_put_behind_it(kept: Kept, to: Path) -> None:
    Shipping(kept.source.log, to).run()
    path = segment_path(to / "front-door-0", segments(to / "front-door-0")[-1])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    shipping = Shipping(kept.source.log, to)
    shipping.run()
    path.write_bytes(data)
    grow(kept)
    with pytest.raises(ShippingRefused):
        shipping.run()


def test_the_command_ships_once_and_says_what(kept: Kept, to: Path, tmp_path: Path) -> None:
    asked = ["log", "ship", "--home", str(kept.home), "--to", str(to), "--json"]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["writers"] == 2
    assert decisions(to, kept) == 60
    (tmp_path / "empty" / "log").mkdir(parents=True)
    with pytest.raises(ShippingRefused, match="is no decision log"):
        Shipping(tmp_path / "empty" / "log", to).run()
