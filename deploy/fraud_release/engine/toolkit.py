"""TensorRT as it is installed: `tensorrt` 10 or 11 for Triton, `tensorrt_rtx` for a check without a GPU.

Networks are strongly typed everywhere: a tensor has the type that the graph gives it. TensorRT 11 and RTX know nothing
else; in 10 the FP16 builder flag would let TensorRT compare with thresholds in FP16, and the trees' answers would no
longer be exact (docs/tensorrt.md).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fraud_release.errors import ReleaseRefused
from fraud_scoring.errors import InvalidInput

ENGINES: Final = ("tensorrt", "tensorrt_rtx")
PACKAGES: Final = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
LEAST_VERSIONS: Final = {"tensorrt": 10, "tensorrt_rtx": 1}
WORKSPACE_BYTES: Final = 2 << 30


@dataclass(frozen=True)
class Profile:
    """Batch sizes that kernels are chosen for: from `least` to `most`, fastest at `best`."""

    least: int
    best: int
    most: int


@dataclass(frozen=True)
class Plan:
    """A serialised engine, and the timings that were taken for it (empty where the library keeps none)."""

    content: bytes
    timing_cache: bytes


class Toolkit:
    """One of ENGINES."""

    def __init__(self, engine: str) -> None:
        """ReleaseRefused where the package is missing, or too old."""
        self.engine = engine
        try:
            self.library: Any = importlib.import_module(engine)
        except ImportError:
            raise ReleaseRefused(
                f"the package {PACKAGES[engine]} is not installed here; run: pip install {PACKAGES[engine]}"
            ) from None
        self.version: str = self.library.__version__
        typed = getattr(self.library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        if typed is None or int(self.version.split(".")[0]) < LEAST_VERSIONS[engine]:
            raise ReleaseRefused(
                f"{PACKAGES[engine]} is {self.version}; version {LEAST_VERSIONS[engine]} or newer is needed"
            )
        self._network_flags = 1 << int(typed)
        self._messages = _messages(self.library)

    def build(
        self,
        graph: bytes,
        profiles: Sequence[Profile],
        *,
        compute_capability: str | None = None,
        timing_cache: bytes = b"",
    ) -> Plan:
        """A plan of a serialised ONNX graph with one input; ReleaseRefused with TensorRT's own words where it has none.

        `compute_capability`, as 8.9: build for such a GPU, whether one is here or not (tensorrt_rtx only).
        """
        builder = self.library.Builder(self._messages)
        network = builder.create_network(self._network_flags)
        parser = self.library.OnnxParser(network, self._messages)
        if not parser.parse(graph):
            said = "; ".join(str(parser.get_error(number).desc()) for number in range(parser.num_errors))
            raise ReleaseRefused(f"{self.engine} cannot read the graph: {said}")
        config = builder.create_builder_config()
        config.set_memory_pool_limit(self.library.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        config.clear_flag(self.library.BuilderFlag.TF32)
        source = network.get_input(0)
        for profile in profiles:
            shapes = builder.create_optimization_profile()
            width = source.shape[1]
            shapes.set_shape(source.name, (profile.least, width), (profile.best, width), (profile.most, width))
            config.add_optimization_profile(shapes)
        if compute_capability is not None:
            self._aim(config, compute_capability)
        keeps_timings = self.engine == "tensorrt"
        # a cache of another GPU or version is refused by TensorRT, and then an empty one is begun
        if keeps_timings and not config.set_timing_cache(config.create_timing_cache(timing_cache), False):
            config.set_timing_cache(config.create_timing_cache(b""), False)
        content = builder.build_serialized_network(network, config)
        if content is None:
            raise ReleaseRefused(f"{self.engine} cannot build the graph: {self._messages.last or 'it gives no reason'}")
        timings = bytes(config.get_timing_cache().serialize()) if keeps_timings else b""
        return Plan(bytes(content), timings)

    def load(self, plan: bytes) -> Any:
        """The plan as an engine on this machine's GPU; ReleaseRefused where it is none of this library's."""
        runtime = self.library.Runtime(self._messages)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise ReleaseRefused(f"{self.engine} cannot load the plan here: {self._messages.last or 'no reason given'}")
        return engine

    def aims(self) -> list[str]:
        """Compute capabilities that can be built for from any machine."""
        members = getattr(getattr(self.library, "ComputeCapability", None), "__members__", {})
        digits = sorted(int(name[2:]) for name in members if name.startswith("SM"))
        return [f"{number // 10}.{number % 10}" for number in digits]

    def _aim(self, config: Any, compute_capability: str) -> None:
        if compute_capability not in self.aims():
            known = ", ".join(self.aims()) or "none: it builds for the GPU that is there"
            raise InvalidInput(
                f"{self.engine} cannot build for compute capability {compute_capability}; it can for: {known}"
            )
        config.num_compute_capabilities = 1
        name = "SM" + compute_capability.replace(".", "")
        config.set_compute_capability(getattr(self.library.ComputeCapability, name), 0)


def installed_version(engine: str) -> str | None:
    """The version of `engine` on this machine; None where it is not there, or too old."""
    try:
        return Toolkit(engine).version
    except ReleaseRefused:
        return None


def _messages(library: Any) -> Any:
    """A logger that keeps the last error and passes nothing on."""

    class Messages(library.ILogger):  # type: ignore[misc]
        last = ""

        def log(self, severity: Any, text: str) -> None:
            if severity in (library.ILogger.Severity.ERROR, library.ILogger.Severity.INTERNAL_ERROR):
                self.last = " ".join(text.split())

    return Messages()
