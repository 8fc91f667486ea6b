"""`fraudctl release evaluate`: a model on the folds of a protocol, several seeds, beside what the Handbook publishes.

Calibration looks at nothing of the test: a model that is trained two weeks earlier scores the days that the fold's own
model is trained on, cards and delay as in a test, and its margins are scaled to probabilities by the labels there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

from fraud_data import Transactions
from fraud_data.labels import fraud_known_at
from fraud_release.curves import Scored, cost_summary
from fraud_release.evaluation import calibration_error, quality
from fraud_release.learning import Costs, Progress, choose_thresholds, fit_calibration
from fraud_release.models import Margins, Trees, fit
from fraud_release.protocol import Cards, Fold, Protocol, cards, make_fold
from fraud_scoring.errors import InvalidInput
from fraud_scoring.features import Float32, Float64, replay
from fraud_scoring.schema import Schema

MEASURES: Final = ("average_precision", "auc", "card_precision_100", "calibration_error")
BOOK: Final[dict[str, float]] = {"average_precision": 0.694, "auc": 0.879, "card_precision_100": 0.305}
"""The best figures of the Handbook's tables, on 7 training days."""
AT_LEAST: Final[dict[str, float]] = {"average_precision": 0.715, "auc": 0.883, "card_precision_100": 0.308}
AT_LEAST_WITH_HISTORY: Final[dict[str, float]] = {**AT_LEAST, "average_precision": 0.740}
AT_MOST: Final[dict[str, float]] = {"calibration_error": 0.002}


@dataclass(frozen=True)
class Measured:
    """One fold with one seed."""

    start: int
    seed: int
    transactions: int
    frauds: int
    average_precision: float
    auc: float
    card_precision_100: float
    calibration_error: float


@dataclass(frozen=True)
class Study:
    """All folds and seeds of one model."""

    model: str
    protocol: Protocol
    measured: tuple[Measured, ...]
    scored: tuple[Scored, ...] = field(default=(), compare=False, repr=False)
    """The test rows of each fold, with the first seed."""
    gain: dict[str, float] = field(default_factory=dict)
    """Share of the trees' loss reduction by feature, over folds and seeds; empty where the model is no trees."""
    without: tuple[str, ...] = ()
    """The features that were left out."""

    @cached_property
    def mean(self) -> dict[str, float]:
        """The mean over folds and seeds."""
        return {name: float(np.mean([getattr(one, name) for one in self.measured])) for name in MEASURES}

    @cached_property
    def spread(self) -> dict[str, float]:
        """The standard deviation over seeds of the mean over folds; 0 for one seed."""
        seeds = sorted({one.seed for one in self.measured})
        means = {
            name: [np.mean([getattr(one, name) for one in self.measured if one.seed == seed]) for seed in seeds]
            for name in MEASURES
        }
        return {name: float(np.std(of, ddof=1)) if len(of) > 1 else 0.0 for name, of in means.items()}

    def as_dict(self) -> dict[str, Any]:
        protocol = {**asdict(self.protocol), "first_day": self.protocol.first_day.isoformat()}
        folds = [asdict(one) for one in self.measured]
        return {
            "model": self.model,
            "without": list(self.without),
            "protocol": protocol,
            "mean": self.mean,
            "spread": self.spread,
            "cost": cost_summary(self.scored, Costs()),
            "gain": self.gain,
            "folds": folds,
        }


def missed(study: Study) -> dict[str, float]:
    """The targets that a study of the published test folds does not reach."""
    least = AT_LEAST_WITH_HISTORY if study.protocol.history else AT_LEAST
    low = {name: target for name, target in least.items() if study.mean[name] < target}
    return low | {name: target for name, target in AT_MOST.items() if study.mean[name] > target}


def study_features(data: Transactions, schema: Schema, protocol: Protocol, progress: Progress) -> Float32:
    """Features FP32 [N, F] of the whole history; labels are known `delay_days` after their transactions."""
    progress(0.0, "features of the whole history")
    return np.ascontiguousarray(replay(schema, data.rows, fraud_known_at(data, schema, protocol.delay_days)))


def kept_columns(schema: Schema, without: Collection[str]) -> list[int]:
    """The positions of the features that are not left out; InvalidInput for a name that is none or where none stays."""
    if unknown := [name for name in without if name not in schema.feature_names]:
        names = ", ".join(schema.feature_names)
        raise InvalidInput(f"--without {unknown[0]}: schema {schema.name} has no such feature; it has {names}")
    kept = [place for place, name in enumerate(schema.feature_names) if name not in without]
    if not kept:
        raise InvalidInput("--without: no feature is left to learn from; leave out fewer")
    return kept


def run(
    data: Transactions,
    schema: Schema,
    protocol: Protocol,
    model: str,
    seeds: range,
    *,
    progress: Progress,
    features: Float32 | None = None,
    without: tuple[str, ...] = (),
) -> Study:
    """Each fold with each seed, on `study_features` (computed here if not given) `without` some of them."""
    kept = kept_columns(schema, without)
    if features is None:
        features = study_features(data, schema, protocol, progress)
    if without:
        features = np.ascontiguousarray(features[:, kept])
    of = cards(data, schema)
    amount_of_work = len(seeds) * len(
        {start for first in protocol.starts for start in (first, first - _back(protocol))}
    )
    models: dict[tuple[int, int], Margins] = {}

    def trained(start: int, seed: int) -> tuple[Fold, Float32]:
        """A fold, and the margins of its test rows."""
        fold = make_fold(protocol, start, of)
        if (start, seed) not in models:
            progress(0.05 + 0.95 * len(models) / amount_of_work, f"{model}, day {start}, seed {seed}")
            models[start, seed] = fit(model, features[fold.train], of.is_fraud[fold.train], seed)
        return fold, models[start, seed](features[fold.test])

    measured, scored = [], []
    for seed in seeds:
        for start in protocol.starts:
            earlier, margin_before = trained(start - _back(protocol), seed)
            calibration = fit_calibration(margin_before, of.is_fraud[earlier.test])
            fold, margin = trained(start, seed)
            measured.append(_measure(data, schema, of, fold, margin, calibration, seed))
            if seed == seeds[0]:
                before = _scored(data, schema, of, earlier, margin_before, calibration)
                chosen = choose_thresholds(before.score, before.is_fraud, before.amount_minor, Costs())
                now = _scored(data, schema, of, fold, margin, calibration)
                scored.append(replace(now, review_at=chosen[0], decline_at=chosen[1]))
    progress(1.0, "measured")
    names = [schema.feature_names[place] for place in kept]
    return Study(model, protocol, tuple(measured), tuple(scored), _gain(models, protocol, names), without)


def _gain(models: dict[tuple[int, int], Margins], protocol: Protocol, names: list[str]) -> dict[str, float]:
    """The mean over the models of the folds themselves, most first."""
    gains = [one.gain() for (start, _), one in models.items() if start in protocol.starts and isinstance(one, Trees)]
    if not gains:
        return {}
    mean = np.mean(gains, axis=0)
    return {names[place]: float(mean[place]) for place in np.argsort(-mean, kind="stable")}


def _calibrated(margin: Float32, calibration: tuple[Float64, Float64]) -> Float32:
    return np.interp(margin.astype(np.float64), *calibration).astype(np.float32)


def _scored(
    data: Transactions, schema: Schema, of: Cards, fold: Fold, margin: Float32, calibration: tuple[Float64, Float64]
) -> Scored:
    amount = data.rows[fold.test, schema.amount_index]
    return Scored(fold.start, _calibrated(margin, calibration), of.is_fraud[fold.test], amount)


def _back(protocol: Protocol) -> int:
    """How many days earlier the model is trained whose test days are the fold's training days."""
    return protocol.train_days + protocol.delay_days


def _measure(
    data: Transactions,
    schema: Schema,
    of: Cards,
    fold: Fold,
    margin: Float32,
    calibration: tuple[Float64, Float64],
    seed: int,
) -> Measured:
    is_fraud = of.is_fraud[fold.test]
    score = _calibrated(margin, calibration)
    # ranked by margin: far from all knots, different margins may have one probability
    ranked = quality(margin, is_fraud, of.customer[fold.test], data.rows[fold.test, schema.time_index])
    return Measured(
        fold.start,
        seed,
        ranked.transactions,
        ranked.frauds,
        ranked.average_precision,
        ranked.auc,
        ranked.card_precision_100,
        calibration_error(score, is_fraud),
    )
