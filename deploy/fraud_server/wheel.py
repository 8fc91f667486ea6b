"""Where the parts of Triton lie, in the wheel or in NVIDIA's image, and the backend folder that is made of them.

The wheel is for a laptop and for tests. NVIDIA's image has Triton in a folder of its own, which FRAUD_TRITON names.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import fraud_scoring
from fraud_server.compiled import LIBRARY, coalesce_library
from fraud_server.errors import CannotServe

TRITON_VARIABLE: Final = "FRAUD_TRITON"
_OTHER_BACKENDS: Final = ("tensorrt",)
"""Backends that a release may name beside python and onnxruntime; the wheel has none of them."""


@dataclass(frozen=True)
class TritonWheel:
    """Paths inside the installed wheel, or inside NVIDIA's installation; `beside`: further folders of libraries."""

    server: Path
    libraries: Path
    python_backend: Path
    stub: Path
    beside: str = ""

    @classmethod
    def find(cls, module: str = "pytriton", environment: Mapping[str, str] = os.environ) -> TritonWheel:
        """What FRAUD_TRITON names, else the wheel; CannotServe if it, or a part that fits this Python, is missing."""
        if folder := environment.get(TRITON_VARIABLE, ""):
            return cls.installed(Path(folder), environment.get("LD_LIBRARY_PATH", ""))
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise CannotServe("the package nvidia-pytriton, which holds tritonserver, is missing; run: make setup")
        return cls.inside(Path(spec.origin).parent)

    @classmethod
    def inside(cls, package: Path) -> TritonWheel:
        """The wheel whose package is installed in the folder `package`."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        wheel = cls(
            server=package / "tritonserver" / "bin" / "tritonserver",
            libraries=package.parent / "nvidia_pytriton.libs",
            python_backend=package / "tritonserver" / "backends" / "python",
            stub=package / "tritonserver" / "python_backend_stubs" / version / "triton_python_backend_stub",
        )
        for part in (wheel.server, wheel.libraries, wheel.python_backend, wheel.stub):
            if not part.exists():
                raise CannotServe(f"nvidia-pytriton has no {part.name} for Python {version}; run: make clean setup")
        return wheel

    @classmethod
    def installed(cls, folder: Path, library_path: str = "") -> TritonWheel:
        """Triton as NVIDIA's image has it in `folder`; the libraries of CUDA are found by `library_path`."""
        python = folder / "backends" / "python"
        found = cls(
            server=folder / "bin" / "tritonserver",
            libraries=folder / "lib",
            python_backend=python,
            stub=python / "triton_python_backend_stub",
            beside=library_path,
        )
        for part in (found.server, found.libraries, found.python_backend, found.stub):
            if not part.exists():
                raise CannotServe(
                    f"{TRITON_VARIABLE} is {folder}, which has no {part.relative_to(folder)}; "
                    "name the folder that holds bin/tritonserver, as /opt/tritonserver"
                )
        return found

    @property
    def library_path(self) -> str:
        """LD_LIBRARY_PATH: Triton's own libraries, the interpreter's for the stub, and what was asked for beside."""
        own = f"{self.libraries}:{sysconfig.get_config_var('LIBDIR')}"
        return f"{own}:{self.beside}" if self.beside else own

    def make_backends(self, folder: Path) -> None:
        """Make `folder` a backend directory: Triton's python and others, copied, and our coalesce and onnxruntime.

        Our onnxruntime serves in NVIDIA's image too: the library and version that answers is that which the release was
        made with.
        """
        shutil.rmtree(folder, ignore_errors=True)
        python = folder / "python"
        python.mkdir(parents=True)
        for part in (*self.python_backend.iterdir(), self.stub):
            if part.is_file():
                shutil.copy2(part, python / part.name)  # Triton follows no link out of a backend folder
        for name in _OTHER_BACKENDS:
            if (other := self.python_backend.parent / name).is_dir():
                shutil.copytree(other, folder / name)
        coalesce = folder / "coalesce"
        coalesce.mkdir()
        shutil.copyfile(coalesce_library(), coalesce / LIBRARY)
        onnxruntime = folder / "onnxruntime"
        onnxruntime.mkdir()
        source = Path(fraud_scoring.__file__).parent.parent / "onnxruntime" / "model.py"
        shutil.copyfile(source, onnxruntime / "model.py")
