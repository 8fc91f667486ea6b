"""Where Triton is in the installed wheel, and what is said where a part of it is missing."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from fraud_server.errors import CannotServe
from fraud_server.wheel import TritonWheel

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
PARTS = {
    "tritonserver": "pytriton/tritonserver/bin/tritonserver",
    "nvidia_pytriton.libs": "nvidia_pytriton.libs/libtriton.so",
    "python": "pytriton/tritonserver/backends/python/libtriton_python.so",
    "triton_python_backend_stub": f"pytriton/tritonserver/python_backend_stubs/{VERSION}/triton_python_backend_stub",
}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The package's folder in an installation of empty files."""
    for part in PARTS.values():
        path = tmp_path / "site" / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    (tmp_path / "site" / "pytriton/tritonserver/backends/python/triton_python_backend_utils.py").write_text("utils")
    return tmp_path / "site" / "pytriton"


def test_the_wheel_of_this_environment_has_every_part() -> None:
    wheel = TritonWheel.find()
    assert wheel.server.is_file()
    assert wheel.stub.is_file()
    assert (wheel.python_backend / "triton_python_backend_utils.py").is_file()
    libraries, of_python = wheel.library_path.split(":")
    assert Path(libraries).is_dir()
    assert Path(of_python).is_dir()


def test_an_environment_without_the_package_is_told_to_set_up() -> None:
    with pytest.raises(CannotServe, match="nvidia-pytriton, which holds tritonserver, is missing; run: make setup"):
        TritonWheel.find("a_package_that_nobody_has")


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_is_missing_is_named(installed: Path, name: str) -> None:
    TritonWheel.inside(installed)
    part = installed.parent / PARTS[name]
    (part if part.name == name else part.parent).rename(installed / "away")
    with pytest.raises(CannotServe, match=rf"nvidia-pytriton has no {name} for Python {VERSION}; run: make clean"):
        TritonWheel.inside(installed)


IMAGE = ("bin/tritonserver", "lib/libtritonserver.so", "backends/python/triton_python_backend_stub")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Triton's folder as NVIDIA's image has it, of empty files, with a backend for TensorRT."""
    for part in (*IMAGE, "backends/python/libtriton_python.so", "backends/tensorrt/libtriton_tensorrt.so"):
        path = tmp_path / "tritonserver" / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    return tmp_path / "tritonserver"


def test_an_image_with_triton_in_it_is_served_by_that_triton_and_finds_its_libraries(image: Path) -> None:
    found = TritonWheel.find(environment={"FRAUD_TRITON": str(image), "LD_LIBRARY_PATH": "/usr/local/cuda/lib64"})
    assert found.server == image / "bin/tritonserver"
    assert found.library_path.startswith(f"{image / 'lib'}:")
    assert found.library_path.endswith(":/usr/local/cuda/lib64")


@pytest.mark.parametrize("part", IMAGE)
def test_a_part_that_the_image_has_not_is_named_with_the_variable(image: Path, part: str) -> None:
    path = image / part
    (path.parent if path.suffix == ".so" else path).rename(image / "away")
    missing = "lib" if path.suffix == ".so" else part
    with pytest.raises(CannotServe, match=rf"FRAUD_TRITON is .* has no {missing}; name the folder"):
        TritonWheel.find(environment={"FRAUD_TRITON": str(image)})


def test_the_backends_of_an_image_are_pythons_tensorrts_and_our_own(image: Path, tmp_path: Path) -> None:
    TritonWheel.installed(image).make_backends(tmp_path / "backends")
    assert {str(path.relative_to(tmp_path / "backends")) for path in (tmp_path / "backends").rglob("*.*")} == {
        "python/libtriton_python.so",
        "tensorrt/libtriton_tensorrt.so",
        "coalesce/libtriton_coalesce.so",
        "onnxruntime/model.py",
    }


def test_the_backend_folder_holds_pythons_backend_and_ours_as_plain_files(installed: Path, tmp_path: Path) -> None:
    backends = tmp_path / "backends"
    TritonWheel.inside(installed).make_backends(backends)
    assert {str(path.relative_to(backends)) for path in backends.rglob("*") if path.is_file()} == {
        "python/libtriton_python.so",
        "python/triton_python_backend_utils.py",
        "python/triton_python_backend_stub",
        "coalesce/libtriton_coalesce.so",
        "onnxruntime/model.py",
    }
    assert not any(path.is_symlink() for path in backends.rglob("*"))


def test_what_an_earlier_version_left_in_the_backend_folder_is_removed(installed: Path, tmp_path: Path) -> None:
    stale = tmp_path / "backends" / "tensorrt" / "model.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("old")
    TritonWheel.inside(installed).make_backends(tmp_path / "backends")
    assert not stale.exists()
    shutil.rmtree(tmp_path / "backends")
