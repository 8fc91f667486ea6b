"""The backend in C: taken where it is ready, else compiled once."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import pytest

from fraud_server.compiled import LIBRARY, SOURCE, coalesce_library
from fraud_server.errors import CannotServe


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SOURCE, tmp_path / "coalesce", ignore=shutil.ignore_patterns("*.so")))


def test_it_is_compiled_once_and_has_what_triton_asks_a_backend_for(source: Path, tmp_path: Path) -> None:
    library = coalesce_library(source, tmp_path / "compiled")
    made = library.stat().st_mtime_ns
    assert coalesce_library(source, tmp_path / "compiled") == library
    assert library.stat().st_mtime_ns == made
    assert [path.name for path in (tmp_path / "compiled").iterdir()] == [library.name]
    symbols = library.read_bytes()
    for name in ("Initialize", "ModelInitialize", "ModelInstanceInitialize", "ModelInstanceExecute"):
        assert f"TRITONBACKEND_{name}".encode() in symbols
    with pytest.raises(OSError, match="undefined symbol"):
        ctypes.CDLL(str(library), mode=ctypes.RTLD_LOCAL | 2)  # RTLD_NOW: what it lacks is in tritonserver


def test_another_source_is_another_library(source: Path, tmp_path: Path) -> None:
    before = coalesce_library(source, tmp_path / "compiled")
    with (source / "triton.h").open("a") as header:
        header.write("/* changed */\n")
    assert coalesce_library(source, tmp_path / "compiled") != before


def test_one_beside_its_source_is_taken_as_it_is(source: Path, tmp_path: Path) -> None:
    (source / LIBRARY).write_bytes(b"from the image")
    assert coalesce_library(source, tmp_path / "compiled") == source / LIBRARY
    assert not (tmp_path / "compiled").exists()


def test_what_the_compiler_says_is_told_with_the_remedy(source: Path, tmp_path: Path) -> None:
    (source / "coalesce.c").write_text("#error broken\n")
    with pytest.raises(
        CannotServe, match=r"coalesce cannot be compiled: .*; it needs a C compiler: apt-get install gcc"
    ):
        coalesce_library(source, tmp_path / "compiled")
    assert list((tmp_path / "compiled").iterdir()) == []


def test_without_a_compiler_it_says_what_to_install(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "nowhere" / "cc"))
    with pytest.raises(CannotServe, match="apt-get install gcc"):
        coalesce_library(source, tmp_path / "compiled")
