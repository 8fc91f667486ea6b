"""What true reasons cost: run as a module, prints JSON.

Two servers side by side serve the newest release of a repository, once with its background and once without; thresholds
are set so that a stated share of the load is flagged. They are loaded in turn, open loop; p99 with less p99 without is
taken round by round. And in this process: CPU per flagged row.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fraud_load import scenario
from fraud_load.workload import plan
from fraud_release.assembly import write_release
from fraud_release.golden import golden_file
from fraud_release.signing import sign_release
from fraud_release.trust import open_signing_key, public_key_file
from fraud_scoring import releases
from fraud_scoring.decision import DecisionRule
from fraud_scoring.decision_log.export import decisions
from fraud_scoring.decision_log.segments import frames_of, segments, writers
from fraud_scoring.features import Float32, replay
from fraud_scoring.pipeline import Pipeline, in_this_process
from fraud_scoring.reference import REFERENCE_FILE
from fraud_scoring.routes import Routes
from fraud_scoring.schema import default_schema
from support.release import empty_repository
from support.server import Server, json_of

SCENARIO = "steady"


def load_features(options: argparse.Namespace) -> Float32:
    """Features of what the load will send: of new customers, whose windows begin empty."""
    changes = {"arrivals.rate": str(options.rate), "arrivals.duration_s": str(options.seconds), "warmup_s": "3"}
    asked = scenario.load(SCENARIO, changes)
    rows = plan(asked, 1).stamped(1_700_000_000_000_000, default_schema())
    return np.ascontiguousarray(replay(default_schema(), rows))


def flagging(rule: DecisionRule, score: Float32, share: float) -> DecisionRule:
    """The rule with thresholds from which on about `share` of the scores are reviewed, half of them declined."""
    values = np.unique(score)
    over = 1 - np.searchsorted(np.sort(score), values) / len(score)
    review, decline = (float(values[np.abs(over - wanted).argmin()]) for wanted in (share, share / 2))
    return replace(rule, review_at=review, decline_at=decline)


def write(folder: Path, trained: Path, number: int, rule: DecisionRule, key: Path) -> Pipeline:
    """A repository whose release r0001 is the trained one under another rule."""
    loaded, repository = Pipeline.load(trained, number), empty_repository(folder)
    graph = (trained / releases.part_name("model", number) / "1" / releases.MODEL_FILE).read_bytes()
    pipeline = Pipeline(loaded.schema, rule, in_this_process(graph))
    ensemble = trained / releases.ensemble_name(number)
    artifacts = {
        releases.SCHEMA_FILE: loaded.schema.document.encode(),
        releases.MODEL_FILE: graph,
        releases.DECISION_FILE: rule.to_json().encode(),
        releases.GOLDEN_FILE: golden_file(pipeline, 7),
        REFERENCE_FILE: (ensemble / REFERENCE_FILE).read_bytes(),
    }
    write_release(repository, 1, loaded.schema, artifacts, {"created_at": "", "evaluation": {}})
    sign_release(repository, 1, open_signing_key(key))
    Routes(1).write(repository)
    return pipeline


def in_process(pipeline: Pipeline, flagged: Float32, rounds: int = 30) -> dict[str, Any]:
    """CPU microseconds and model rows for each explained row, alone and 20 together."""
    explanation, out = pipeline.rule.explanation, {}
    assert explanation is not None
    for size in (1, 20):
        took, asked = [], [0]

        def counted(rows: Float32, asked: list[int] = asked) -> Float32:
            asked[0] += len(rows)
            return pipeline.margin(rows)

        for number in range(rounds):
            start = number * size % (len(flagged) - size)
            rows = flagged[start : start + size]
            margin = pipeline.margin(rows)
            began = time.process_time()
            pipeline.rule.explained_reasons(explanation.values(rows, margin, counted), rows)
            took.append((time.process_time() - began) / size * 1e6)
        out[f"cpu_us_{size}_together"] = round(statistics.median(took))
        out["model_rows"] = round(asked[0] / rounds / size, 1)
    return out


def logged(home: Path) -> dict[str, float]:
    """From the server's log: the share of flagged answers, and the milliseconds of all stages of a batch that holds one
    and of one that holds none."""
    took: dict[bool, list[float]] = {True: [], False: []}
    flagged = answers = 0
    for name in writers(home / "log"):
        for number in segments(home / "log" / name):
            for _, _, content in decisions(frames_of(home / "log" / name, number)):
                here = int((content.verdict[:, 0] > 0).sum())
                flagged, answers = flagged + here, answers + len(content)
                took[here > 0].append(float(content.stage_us.sum()) / 1e3)
    found = {"flagged_share": flagged / answers}
    for holds, name in ((True, "with"), (False, "without")):
        found |= {f"batch_{name}_flagged_p{p}_ms": float(np.percentile(took[holds], p)) for p in (50, 90)}
    return found


def runs(servers: dict[str, Server], folder: Path, options: argparse.Namespace) -> Iterator[dict[str, float]]:
    """p99 in milliseconds of each server, in turn; who is first changes from round to round."""
    for number in range(options.rounds):
        found = {}
        for name in sorted(servers, reverse=bool(number % 2)):
            out = folder / f"{name}-{number}"
            try:
                json_of(
                    "load", "run", SCENARIO, "--url", servers[name].url, "--out", out, "--rate", options.rate,
                    "--duration", options.seconds, "--seed", 100 + number, "--set", "warmup_s=3", within=600,
                )  # fmt: skip
            except AssertionError:
                if not (out / "run.json").exists():  # a target that was missed is no matter here
                    raise
            requests = np.load(out / "requests.npz")
            judged = requests["intended_s"] >= 3
            latency = (requests["done_s"] - requests["intended_s"])[judged] * 1e3
            failed = int((requests["status"][judged] != 0).sum())
            found |= {f"{name}_p50": np.quantile(latency, 0.5), f"{name}_p99": np.quantile(latency, 0.99)}
            found[f"{name}_failed"] = failed
        print({key: round(float(value), 2) for key, value in found.items()}, file=sys.stderr, flush=True)  # noqa: T201
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--share", type=float, default=0.02, help="of the load that is flagged")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        number = releases.existing(options.repository)[-1]
        pipeline, features = Pipeline.load(options.repository, number), load_features(options)
        score = pipeline.rule.calibrate(pipeline.margin(features)[:, 0])
        rule = replace(flagging(pipeline.rule, score, options.share), release=1)
        rules = {"explained": rule, "points": replace(rule, explanation=None)}
        key = folder / "release.key"
        written = {name: write(folder / name, options.repository, number, one, key) for name, one in rules.items()}
        result = in_process(written["explained"], features[score >= np.float32(rule.review_at)])
        trusted = ("--release-key", str(public_key_file(key)))
        servers = {
            name: stack.enter_context(Server(folder / name, folder / f"home-{name}", *trusted)) for name in rules
        }
        rounds = list(runs(servers, folder, options))
        for name in rules:
            result[f"{name}_p50_ms"] = statistics.median(one[f"{name}_p50"] for one in rounds)
            result[f"{name}_p99_ms"] = statistics.median(one[f"{name}_p99"] for one in rounds)
            result[f"{name}_failed"] = sum(one[f"{name}_failed"] for one in rounds)
            result |= {f"{name}_{what}": value for what, value in logged(folder / f"home-{name}").items()}
        added = sorted(one["explained_p99"] - one["points_p99"] for one in rounds)
        result |= {"rounds": len(rounds), "added_p99_ms": statistics.median(added), "added_p99_ms_of_rounds": added}
    print(json.dumps(result, indent=1, default=float))  # noqa: T201


if __name__ == "__main__":
    main()
