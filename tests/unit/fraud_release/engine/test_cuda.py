"""The GPU through its driver's own calls, on a driver whose device is the main memory (tests/support/fake_cuda.c)."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

import support
from fraud_release.engine.cuda import Cuda, Gpu, find_gpu
from fraud_release.errors import ReleaseRefused
from support.shims import compiled, gcc

SOURCE = Path(support.__file__).parent / "fake_cuda.c"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    if gcc() is None:
        pytest.skip("gcc is not installed")
    return str(compiled(SOURCE, tmp_path_factory.mktemp("driver") / "libcuda.so.1"))


def test_it_tells_which_gpu_is_there(driver: str) -> None:
    gpu = find_gpu(driver)
    assert gpu == Gpu("Main Memory 1", "8.9")
    assert gpu.architecture == "sm89"


def test_a_machine_without_a_driver_or_without_a_gpu_has_none(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_gpu(str(tmp_path / "libcuda.so.1")) is None
    monkeypatch.setenv("FAKE_CUDA_NONE", "1")
    assert find_gpu(driver) is None


def test_what_was_written_is_read_back_and_everything_is_given_back(driver: str) -> None:
    cuda, in_use = Cuda(driver), ctypes.CDLL(driver).in_use
    values = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float32)
    with cuda.stream() as stream, cuda.memory(values.nbytes) as first, cuda.memory(64) as second:
        assert in_use() == 2
        assert first != second
        cuda.write(first, values[:, ::-1])  # not contiguous: copied in its own order
        cuda.wait(stream)
        found = np.empty_like(values)
        cuda.read(found, first)
    assert (found == values[:, ::-1]).all()
    assert in_use() == 0


def test_what_the_driver_refuses_is_said_with_its_call_and_code_and_the_memory_is_given_back(driver: str) -> None:
    cuda, in_use = Cuda(driver), ctypes.CDLL(driver).in_use
    with (
        pytest.raises(ReleaseRefused, match=r"refuses cuMemcpyHtoD_v2 \(code 1\); see nvidia-smi"),
        cuda.memory(8) as here,
    ):
        cuda.write(here, np.zeros(3, np.float32))
    assert in_use() == 0
