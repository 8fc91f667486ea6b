"""The machine's first GPU through its driver (libcuda), without a CUDA toolkit: facts, memory, a stream."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud_release.errors import ReleaseRefused

LIBRARY: Final = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
Pointer = ctypes.c_uint64


@dataclass(frozen=True)
class Gpu:
    """A GPU's name, as the driver gives it, and its compute capability, as 9.0 for an H100."""

    name: str
    compute_capability: str

    @property
    def architecture(self) -> str:
        """`sm90` for 9.0."""
        return "sm" + self.compute_capability.replace(".", "")


class Cuda:
    """The first GPU, its context current in this thread. ReleaseRefused where the driver refuses."""

    def __init__(self, library: str = LIBRARY) -> None:
        """OSError where there is no driver."""
        self._driver = ctypes.CDLL(library)
        self._call("cuInit", ctypes.c_uint(0))
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)
        self._device = device

    def gpu(self) -> Gpu:
        """The facts of the GPU."""
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, ctypes.c_int(len(name)), self._device)
        return Gpu(name.value.decode(), f"{self._attribute(_MAJOR)}.{self._attribute(_MINOR)}")

    @contextmanager
    def memory(self, size: int) -> Iterator[int]:
        """The address of `size` bytes on the GPU."""
        address = Pointer()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        try:
            yield int(address.value)
        finally:
            self._call("cuMemFree_v2", address)

    @contextmanager
    def stream(self) -> Iterator[int]:
        """A stream's handle."""
        handle = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(handle), ctypes.c_uint(1))  # does not wait for the default stream
        try:
            yield int(handle.value or 0)
        finally:
            self._call("cuStreamDestroy_v2", handle)

    def wait(self, stream: int) -> None:
        """Return when all work of the stream is done."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def write(self, address: int, values: npt.NDArray[Any]) -> None:
        """Copy an array to the GPU."""
        source = np.ascontiguousarray(values)
        pointer = ctypes.c_void_p(source.ctypes.data)
        self._call("cuMemcpyHtoD_v2", Pointer(address), pointer, ctypes.c_size_t(source.nbytes))

    def read(self, values: npt.NDArray[Any], address: int) -> None:
        """Copy from the GPU into a contiguous array."""
        pointer = ctypes.c_void_p(values.ctypes.data)
        self._call("cuMemcpyDtoH_v2", pointer, Pointer(address), ctypes.c_size_t(values.nbytes))

    def _attribute(self, which: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(which), self._device)
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._driver, name)(*arguments)
        if code:
            raise ReleaseRefused(f"the GPU's driver refuses {name} (code {code}); see nvidia-smi")


def find_gpu(library: str = LIBRARY) -> Gpu | None:
    """The machine's first GPU; None where there is no driver, or no GPU that it knows."""
    try:
        return Cuda(library).gpu()
    except (OSError, ReleaseRefused):
        return None
