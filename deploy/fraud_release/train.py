"""`fraudctl release train`: a file of transactions becomes a release in the served repository."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from fraud_data import Transactions
from fraud_data.labels import DEFAULT_LABEL_DAYS, fraud_known_at
from fraud_release.agreement import check_plain_form
from fraud_release.assembly import next_release, write_release
from fraud_release.check_rows import check_rows_file
from fraud_release.errors import ReleaseRefused
from fraud_release.evaluation import not_known_as_compromised, quality
from fraud_release.explaining import FLAGGED, feature_groups, fit_explanation
from fraud_release.files import CHECK_ROWS_FILE
from fraud_release.golden import golden_file
from fraud_release.learning import (
    PARAMETERS,
    Costs,
    Progress,
    choose_thresholds,
    fit_calibration,
    fit_scorecard,
)
from fraud_release.reference import reference_file
from fraud_release.signing import new_statement
from fraud_release.splits import Split, SplitDays, split_by_time
from fraud_release.statement import sign
from fraud_release.trained import TrainedModel, fit_model
from fraud_release.trust import named_signing_key, open_signing_key
from fraud_scoring.decision import DecisionRule
from fraud_scoring.errors import InvalidInput
from fraud_scoring.features import Float32, replay
from fraud_scoring.pipeline import Pipeline, in_this_process
from fraud_scoring.reference import REFERENCE_FILE
from fraud_scoring.releases import DECISION_FILE, GOLDEN_FILE, MODEL_FILE, SCHEMA_FILE
from fraud_scoring.schema import Schema
from fraud_scoring.stores import Answers
from fraud_scoring.wire import Decision

LEAST_AUC: Final = 0.6
PARITY_ROWS: Final = 20_000


@dataclass(frozen=True)
class Plan:
    """Everything that a training run is told."""

    days: SplitDays = field(default_factory=SplitDays)
    costs: Costs = field(default_factory=Costs)
    label_days: float = DEFAULT_LABEL_DAYS
    trees: int = 300
    model: str = "trees"
    """One of models.MODELS: boosted trees, a network, or a blend of both."""
    seed: int = 7
    background: int = 2
    """Genuine payments that the reasons are measured against; 0: reasons by the scorecard's points."""


def train(
    data: Transactions,
    schema: Schema,
    repository: Path,
    plan: Plan,
    *,
    provenance: Mapping[str, Any],
    progress: Progress,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    signing_key: Path | None = None,
) -> dict[str, Any]:
    """Train, check, sign and write a release; returns its manifest. Raises before anything is written.

    It is signed with the key in `signing_key`, or in the file that FRAUD_RELEASE_SIGNING_KEY names (made there if there
    is none); without either it stays unsigned until `fraudctl release sign`, and no server takes it.
    """
    if data.is_fraud is None:
        raise InvalidInput("is_fraud: the data has no labels; map the column that says which transactions were fraud")
    if plan.background:
        feature_groups(schema)  # refused before the work, and not after it
    signer = _signer(repository, signing_key)
    with next_release(repository) as number:
        known_at = fraud_known_at(data, schema, plan.label_days)
        split = split_by_time(data.rows[:, schema.time_index], plan.days)
        _check_classes(data, split)
        progress(0.02, "features of the whole history")
        features = np.ascontiguousarray(replay(schema, data.rows, known_at))
        model = fit_model(
            plan.model,
            features[split.train],
            data.is_fraud[split.train],
            seed=plan.seed,
            trees=plan.trees,
            progress=lambda share, text: progress(0.10 + 0.7 * share, text),
        )
        graph = model.graph(len(schema.features)).SerializeToString()
        progress(0.82, "calibration, thresholds, reasons")
        rule = _fit_rule(number, graph, schema, data, features, split, plan.costs)
        pipeline = Pipeline(schema, rule, in_this_process(graph))
        rule, explained = _explain(rule, pipeline, data, features[split.validation], split, plan)
        pipeline = Pipeline(schema, rule, pipeline.margin)
        progress(0.88, "parity of the exported model")
        test = features[split.test]
        _check_parity(model, pipeline, test[:PARITY_ROWS])
        plain_form = check_plain_form(pipeline, graph, features)
        progress(0.92, "evaluation")
        evaluation = _evaluate(pipeline.decide(test), data, known_at, split, schema)
        progress(0.97, "reference for drift")
        validated = pipeline.decide(features[split.validation])
        artifacts = {
            SCHEMA_FILE: schema.document.encode(),
            MODEL_FILE: graph,
            DECISION_FILE: rule.to_json().encode(),
            GOLDEN_FILE: golden_file(pipeline, plan.seed),
            **model.files(),
            CHECK_ROWS_FILE: check_rows_file(test, data.is_fraud[split.test], plan.seed),
            REFERENCE_FILE: reference_file(number, schema, data, features, validated, split.validation, plan.costs),
        }
        facts = {
            "created_at": now().isoformat(timespec="seconds"),
            "commit": _commit(),
            "versions": _versions(),
            "data": {**provenance, "transactions": len(data), "frauds": int(data.is_fraud.sum())},
            "test_from_us": split.test_from_us,
            "plan": asdict(plan),
            "parameters": PARAMETERS,
            "thresholds": {"review_at": rule.review_at, "decline_at": rule.decline_at},
            "explanation": explained,
            "evaluation": evaluation,
            "plain_form": plain_form,
        }
        manifest = write_release(repository, number, schema, artifacts, facts, signer and partial(signer, number))
        progress(1.0, f"release {manifest['release']} written")
        return manifest


def _signer(repository: Path, key_file: Path | None) -> Callable[[int, Mapping[str, str]], bytes] | None:
    """(release's number, its files' hashes) → signature; None where no key is given."""
    if key_file is None and not (key_file := named_signing_key()):
        return None
    key = open_signing_key(key_file)
    return lambda number, digests: sign(new_statement(repository, number, digests, key), key)


def _check_classes(data: Transactions, split: Split) -> None:
    assert data.is_fraud is not None
    for part in ("train", "validation", "test"):
        frauds = int(data.is_fraud[getattr(split, part)].sum())
        rows = int(getattr(split, part).sum())
        if frauds in (0, rows):
            held = "no fraud" if frauds == 0 else "nothing but fraud"
            raise InvalidInput(
                f"is_fraud: the {part} part ({rows:,} rows) holds {held}; both classes are needed in each part: "
                "check the column, or give more days"
            )


def _fit_rule(
    number: int, graph: bytes, schema: Schema, data: Transactions, features: Float32, split: Split, costs: Costs
) -> DecisionRule:
    """Calibration and thresholds from the validation part, reasons from the training part."""
    assert data.is_fraud is not None
    validation = split.validation
    margin = in_this_process(graph)(features[validation])[:, 0]
    margins, probabilities = fit_calibration(margin, data.is_fraud[validation])
    calibrated = DecisionRule(number, margins, probabilities, 0.0, 0.0, ()).calibrate(margin)
    amount = data.rows[validation, schema.amount_index]
    review_at, decline_at = choose_thresholds(calibrated, data.is_fraud[validation], amount, costs)
    scorecard = fit_scorecard(schema, features[split.train], data.is_fraud[split.train])
    base = float(data.is_fraud[split.train].mean())
    return DecisionRule(
        number, margins, probabilities, review_at, decline_at, scorecard, base_log_odds=float(np.log(base / (1 - base)))
    )


def _explain(
    rule: DecisionRule, pipeline: Pipeline, data: Transactions, validation: Float32, split: Split, plan: Plan
) -> tuple[DecisionRule, dict[str, Any] | None]:
    """The rule with what its reasons are measured against, and facts about that; as it was where none is wanted."""
    if not plan.background:
        return rule, None
    assert data.is_fraud is not None
    margin = pipeline.margin(validation)
    flagged = int((rule.verdict(rule.calibrate(margin[:, 0]))[:, 0] > 0).sum())
    riskiest = np.argsort(-margin[:, 0], kind="stable")[: max(flagged, FLAGGED)]
    genuine = validation[data.is_fraud[split.validation] == 0]
    explanation, facts = fit_explanation(
        pipeline.schema, pipeline.margin, genuine, validation[riskiest], plan.background
    )
    return replace(rule, explanation=explanation), facts


def _check_parity(model: TrainedModel, pipeline: Pipeline, features: Float32) -> None:
    """The exported graph gives the trained model's margin, and a row alone what it gives in a batch: to the bit."""
    trained = model.margin(features)
    exported = pipeline.margin(features)[:, 0]
    differ = np.flatnonzero(trained.view(np.uint32) != exported.view(np.uint32))
    if len(differ):
        raise ReleaseRefused(
            f"parity: {len(differ)} of {len(features)} margins of the exported model differ from the trained one's"
        )
    for row in range(min(200, len(features))):
        if pipeline.margin(features[row : row + 1])[0, 0].tobytes() != exported[row].tobytes():
            raise ReleaseRefused(f"parity: row {row} alone gets another margin than in a batch")


def _evaluate(
    answers: Answers, data: Transactions, known_at: np.ndarray[Any, Any], split: Split, schema: Schema
) -> dict[str, Any]:
    """Quality on the test part, all of it and by the Handbook's protocol; ReleaseRefused below the gate."""
    assert data.is_fraud is not None
    rows, test = data.rows, split.test
    times = rows[:, schema.time_index]
    customer = rows[:, schema.entities[0][0]]
    score = answers.score[:, 0]
    measured = quality(score, data.is_fraud[test], customer[test], times[test])
    if measured.auc < LEAST_AUC:
        raise ReleaseRefused(
            f"gate: AUC on the test part is {measured.auc:.3f}, below {LEAST_AUC}; the labels or the features are wrong"
        )
    unknown = not_known_as_compromised(customer, times, known_at, split)
    out: dict[str, Any] = {"all": measured.as_dict()}
    inside = unknown[test]
    if 0 < data.is_fraud[unknown].sum() < unknown.sum():
        out["new_cards"] = quality(score[inside], data.is_fraud[unknown], customer[unknown], times[unknown]).as_dict()
    decisions = answers.verdict[:, 0]
    fraud = data.is_fraud[test] == 1
    out["decisions"] = {
        decision.name.lower(): {
            "transactions": int((decisions == decision).sum()),
            "frauds": int(((decisions == decision) & fraud).sum()),
        }
        for decision in Decision
    }
    return out


def _versions() -> dict[str, str]:
    packages = ("fraudserve", "numpy", "numba", "lightgbm", "scikit-learn", "onnx", "onnxruntime")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def _commit() -> str | None:
    """The commit of the code that trained; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
