"""`fraudctl release build`: from a sealed release to a checked, sealed engine for this machine's GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import onnx

from fraud_release.agreement import ReducedPrecision
from fraud_release.assembly import verify_release
from fraud_release.engine.answers import AnswerCheck, PrecisionRefused
from fraud_release.engine.config import PROFILES, engine_config
from fraud_release.engine.cuda import Gpu, find_gpu
from fraud_release.engine.record import (
    ASKED_ENGINE,
    CONFIG_FILE,
    PLAN_FILE,
    EngineRecord,
    engine_name,
    file_hashes,
    manifest_sha256,
    seal_engine,
)
from fraud_release.engine.running import on_gpu
from fraud_release.engine.toolkit import Plan, Toolkit
from fraud_release.errors import ReleaseRefused
from fraud_release.learning import Progress
from fraud_release.plain_onnx import plain_form
from fraud_scoring.errors import InvalidInput
from fraud_scoring.pipeline import Margin, Pipeline, in_this_process
from fraud_scoring.releases import MODEL_FILE, part_name, release_name

PRECISIONS: Final = ("fp16", "fp32")
"""In the order in which they are tried."""


@dataclass(frozen=True)
class BuildOrder:
    """What is to be built; `compute_capability`, as 8.9, for tensorrt_rtx on a machine without that GPU."""

    engine: str
    precision: str = PRECISIONS[0]
    compute_capability: str | None = None
    gate: ReducedPrecision = field(default_factory=ReducedPrecision)


@dataclass(frozen=True)
class _Built:
    """A plan that answers as it must; `refused` says why it is not in the precision that was asked for."""

    plan: Plan
    precision: str
    answers: dict[str, Any]
    refused: str | None


def build_engine(
    repository: Path,
    number: int,
    order: BuildOrder,
    engines: Path,
    *,
    progress: Progress,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> EngineRecord:
    """Build, check and seal an engine of release `number` in the folder `engines`; returns its record.

    Raises before anything is written; whoever calls has verified the release's signature.

    FP16 that does not pass its gate is refused and FP32 built instead; the record says why. Where the GPU is not here
    (tensorrt_rtx), the same graph is asked on the CPU, the record says so, and no server takes the engine.
    """
    verify_release(repository, number)
    toolkit = Toolkit(order.engine)
    gpu = find_gpu()
    aim = _aim(order, gpu)
    here = gpu if gpu is not None and gpu.compute_capability == aim else None
    pipeline = Pipeline.load(repository, number)
    check = AnswerCheck(repository, number, pipeline, order.gate)
    timings = engines / f".timings_sm{aim.replace('.', '')}_{toolkit.version}.cache"
    served = onnx.load(repository / part_name("model", number) / "1" / MODEL_FILE)

    def build(graph: bytes) -> Plan:
        known = timings.read_bytes() if timings.exists() else b""
        return toolkit.build(graph, PROFILES, compute_capability=order.compute_capability, timing_cache=known)

    built = _first_that_answers(served, order, build, check, _asking(toolkit, here), progress)
    engines.mkdir(parents=True, exist_ok=True)
    if built.plan.timing_cache:
        timings.write_bytes(built.plan.timing_cache)
    name = engine_name(release_name(number), order.engine, toolkit.version, aim, built.precision)
    config = engine_config(name, len(pipeline.schema.features))
    contents = {PLAN_FILE: built.plan.content, CONFIG_FILE: config.encode()}
    record = EngineRecord(
        release=release_name(number),
        manifest_sha256=manifest_sha256(repository, number),
        engine=order.engine,
        version=toolkit.version,
        precision=built.precision,
        compute_capability=aim,
        gpu=here.name if here else None,
        profiles=PROFILES,
        built_at=now().isoformat(timespec="seconds"),
        answers=built.answers,
        refused_precision=built.refused,
        files=file_hashes(contents),
    )
    seal_engine(engines, record, contents)
    progress(1.0, f"{record.name} written")
    return record


Ask = Callable[[Plan, bytes], Any]
"""(plan, its graph) → a context in which (who answers, the margin) can be asked."""


def _first_that_answers(
    served: onnx.ModelProto,
    order: BuildOrder,
    build: Callable[[bytes], Plan],
    check: AnswerCheck,
    ask: Ask,
    progress: Progress,
) -> _Built:
    """The plan in the precision that was asked for, or, where that is refused, in FP32."""
    refused = None
    for precision in PRECISIONS[PRECISIONS.index(order.precision) :]:
        progress(0.1 if refused is None else 0.5, f"building in {precision}")
        graph = plain_form(served, half=precision == "fp16").SerializeToString()
        plan = build(graph)
        progress(0.4 if refused is None else 0.9, f"checking the answers in {precision}")
        try:
            with ask(plan, graph) as (asked, margin):
                answers = {"asked": asked, **check.check(margin, precision)}
        except PrecisionRefused as refusal:
            refused = f"{precision}: {refusal}"
            continue
        return _Built(plan, precision, answers, refused)
    raise AssertionError("FP32 passes or raises")


def _asking(toolkit: Toolkit, gpu: Gpu | None) -> Ask:
    """How a plan is asked: on the GPU that it is for, or, where that is not here, its graph on the CPU."""

    @contextmanager
    def ask(plan: Plan, graph: bytes) -> Iterator[tuple[str, Margin]]:
        if gpu is None:
            yield "the same graph in ONNX Runtime on a CPU", in_this_process(graph)
        else:
            with on_gpu(toolkit, plan.content, PROFILES) as margin:
                yield ASKED_ENGINE, margin

    return ask


def _aim(order: BuildOrder, gpu: Gpu | None) -> str:
    """The compute capability that is built for."""
    if order.compute_capability is not None:
        if order.engine == "tensorrt":
            raise InvalidInput("--compute-capability: tensorrt builds for the GPU that is here; leave it out")
        return order.compute_capability
    if gpu is None:
        remedy = (
            "build on the machine that serves"
            if order.engine == "tensorrt"
            else "say for which GPU, as in --compute-capability 8.9"
        )
        raise ReleaseRefused(f"no GPU here that an engine could be built for; {remedy}")
    return gpu.compute_capability
