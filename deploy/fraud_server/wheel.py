"""Where the parts of Triton lie in the wheel, and the backend folder that is made of them."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import fraud_scoring
from fraud_server.errors import CannotServe


@dataclass(frozen=True)
class TritonWheel:
    """Paths inside the installed wheel."""

    server: Path
    libraries: Path
    python_backend: Path
    stub: Path

    @classmethod
    def find(cls, module: str = "pytriton") -> TritonWheel:
        """The wheel of this environment; CannotServe if it, or a part that fits this Python, is missing."""
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

    @property
    def library_path(self) -> str:
        """LD_LIBRARY_PATH: the wheel's own libraries, and the interpreter's for the stub."""
        return f"{self.libraries}:{sysconfig.get_config_var('LIBDIR')}"

    def make_backends(self, folder: Path) -> None:
        """Make `folder` a backend directory: python (copied from the wheel), and our onnxruntime on top of it."""
        shutil.rmtree(folder, ignore_errors=True)
        python = folder / "python"
        python.mkdir(parents=True)
        for part in (*self.python_backend.iterdir(), self.stub):
            if part.is_file():
                shutil.copy2(part, python / part.name)  # Triton follows no link out of a backend folder
        onnxruntime = folder / "onnxruntime"
        onnxruntime.mkdir()
        source = Path(fraud_scoring.__file__).parent.parent / "onnxruntime" / "model.py"
        shutil.copyfile(source, onnxruntime / "model.py")
