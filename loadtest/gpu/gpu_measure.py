"""A release's model on a GPU, behind the real tritonserver: right or not, how fast, and how far from the floor.

    .venv/bin/python loadtest/gpu/gpu_measure.py --repository model_repository --release r0001 --out var/gpu

Exit code 1 if an answer is not the CPU's. Writes result.json and result.md. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from gpu_executors import DEVICES, KINDS, open_executor
from gpu_floor import Peak, cost_of, peak_of
from gpu_served import Caller, latencies_us, rows_per_second, served, write_repository

from fraud_release.agreement import Agreement, compare, in_batches, require_same
from fraud_release.check_rows import CheckRows
from fraud_release.engine.cuda import find_gpu
from fraud_release.errors import ReleaseRefused
from fraud_release.plain_onnx import plain_form
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.releases import MODEL_FILE, part_name, release_number

BATCHES: Final = (1, 8, 32, 64, 128, 256, 512, 1024, 2048, 4096)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as told; 0 if every answer was right."""
    options = _options(arguments)
    gpu = find_gpu() if options.device == "cuda" else None
    if options.device == "cuda" and gpu is None:
        raise SystemExit("no GPU here; --device cpu tries the script itself")
    number = release_number(options.release)
    pipeline = Pipeline.load(options.repository, number)
    rows = CheckRows.load(options.repository, number)
    graph = onnx.load(options.repository / part_name("model", number) / "1" / MODEL_FILE)
    plain = plain_form(graph, half=options.precision == "fp16")
    result: dict[str, Any] = {
        "release": options.release,
        "gpu": gpu.name if gpu else None,
        "device": options.device,
        "executor": options.executor,
        "precision": options.precision,
    }
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        width = len(pipeline.schema.features)
        write_repository(repository, plain.SerializeToString(), width, options.executor, options.device)
        with served(repository, Path(folder) / "home") as url:
            caller = Caller(url)
            wanted = in_batches(pipeline.margin, rows.features)
            agreement = compare(pipeline.rule, wanted, in_batches(caller.margin, rows.features), rows.is_fraud)
            caller.close()
            result["agreement"] = agreement.as_dict()
            result["served"] = [_served(url, _batch(rows.features, size), options) for size in options.batches]
        graph_file = Path(folder) / "plain.onnx"
        onnx.save(plain, graph_file)
        executor = open_executor(options.executor, graph_file, options.device)
        peak = peak_of(gpu.name) if gpu else None
        result["kernels"] = [
            _kernels(plain, executor.queued_us(_batch(rows.features, size), options.repeats), size, peak)
            for size in options.batches
        ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (options.out / "result.md").write_text(report(result), encoding="utf-8")
    sys.stdout.write(report(result))
    return _verdict(agreement, options.precision)


def report(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    agreement = result["agreement"]
    lines = [
        f"# {result['release']} on {result['gpu'] or 'a CPU (a trial of the script, no GPU)'}",
        "",
        f"{result['executor']}, {result['precision']}. {agreement['decisions_differ']} of {agreement['rows']:,} rows "
        "decided otherwise than on the CPU; largest difference of a margin "
        f"{agreement['largest_margin_difference']:.2g}.",
        "",
        "| rows | call p50 µs | call p99 µs | rows/s | queued µs | floor µs, fused | floor µs, by operator |",
        "|---|---|---|---|---|---|---|",
    ]
    for call, kernel in zip(result["served"], result["kernels"], strict=True):
        floor = kernel["floor_us"]
        floors = ("–", "–")
        if floor is not None:
            lowest = (max(floor["compute"], floor[f"memory_{which}"]) for which in ("fused", "by_operator"))
            floors = tuple(f"{value:.2f}" for value in lowest)  # type: ignore[assignment]
        lines.append(
            f"| {call['rows']:,} | {call['p50_us']:.0f} | {call['p99_us']:.0f} | {call['rows_per_second']:,.0f} "
            f"| {kernel['queued_us']:.1f} | {floors[0]} | {floors[1]} |"
        )
    return "\n".join([*lines, ""])


def _served(url: str, features: Any, options: argparse.Namespace) -> dict[str, Any]:
    found = latencies_us(url, features, options.calls)
    return {
        "rows": len(features),
        "calls": options.calls,
        "p50_us": float(np.percentile(found, 50)),
        "p99_us": float(np.percentile(found, 99)),
        "rows_per_second": rows_per_second(url, features, options.callers, options.seconds),
        "callers": options.callers,
    }


def _kernels(plain: onnx.ModelProto, queued_us: float, rows: int, peak: Peak | None) -> dict[str, Any]:
    cost = cost_of(plain, rows)
    return {**vars(cost), "queued_us": queued_us, "floor_us": None if peak is None else cost.floor_us(peak)}


def _batch(features: Any, rows: int) -> Any:
    """`rows` rows, from the front again where there are fewer."""
    return np.ascontiguousarray(np.resize(features, (rows, features.shape[1])))


def _verdict(agreement: Agreement, precision: str) -> int:
    if precision == "fp32":
        try:
            require_same(agreement, "the model on the device")
        except ReleaseRefused as refusal:
            sys.stderr.write(f"{refusal}\n")
            return 1
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--release", default="r0001")
    parser.add_argument("--executor", choices=KINDS, default="onnxruntime")
    parser.add_argument("--device", choices=DEVICES, default="cuda")
    parser.add_argument("--precision", choices=("fp32", "fp16"), default="fp32")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--calls", type=int, default=2_000, help="for the latency of each batch size")
    parser.add_argument("--callers", type=int, default=8, help="threads, for the throughput")
    parser.add_argument("--seconds", type=float, default=3.0, help="for the throughput of each batch size")
    parser.add_argument("--repeats", type=int, default=200, help="batches queued on the device without the server")
    parser.add_argument("--out", type=Path, default=Path("var/gpu"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
