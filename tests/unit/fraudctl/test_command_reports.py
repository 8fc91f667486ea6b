"""How commands report: results on standard output, progress on standard error."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from rich.table import Table

from fraudctl.report import emit, progress


def test_json_is_one_object_on_one_line_with_plain_values(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"n": np.int64(3), "at": date(2018, 4, 1), "file": Path("a"), "share": np.array([0.5])}, as_json=True)
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1
    assert json.loads(shown.out) == {"n": 3, "at": "2018-04-01", "file": "a", "share": [0.5]}
    assert shown.err == ""


def test_json_refuses_what_json_cannot_say() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        emit({"share": float("nan")}, as_json=True)
    with pytest.raises(TypeError, match="set has no form in JSON"):
        emit({"names": {1}}, as_json=True)


def test_without_a_table_names_and_values_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"frauds": 14681, "fraud_share": None, "by_scenario": {"1": 2}, "file": "a[b]"}, as_json=False)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["frauds       14,681", "fraud share  –", "by scenario  1: 2", "file         a[b]"]


def test_a_table_is_lines_of_name_and_text_or_anything_that_rich_renders(capsys: pytest.CaptureFixture[str]) -> None:
    emit({}, as_json=False, table=[("release", "fraud_r0001")])
    table = Table("score")
    table.add_row("0.97")
    emit({}, as_json=False, table=table)
    shown = capsys.readouterr().out
    assert "release  fraud_r0001" in shown
    assert "0.97" in shown


def test_a_long_value_is_not_broken_where_nobody_sees_it(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"file": "x" * 120}, as_json=False)
    assert "x" * 120 in capsys.readouterr().out


def test_progress_without_a_terminal_is_a_line_for_each_new_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("fraudctl.report.time.monotonic", lambda: now[0])
    with progress("train") as tell:
        tell(0.0, "reading")
        tell(0.1, "reading")
        now[0] = 6.0
        tell(0.25, "reading")
        tell(1.0, "done")
    shown = capsys.readouterr()
    assert shown.err.splitlines() == ["train: reading (0%)", "train: reading (25%)", "train: done (100%)"]
    assert shown.out == ""


def test_progress_on_a_terminal_is_a_bar_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("train") as tell:
        tell(0.5, "trees")
    shown = capsys.readouterr()
    assert "train: trees" in shown.err
    assert shown.out == ""
