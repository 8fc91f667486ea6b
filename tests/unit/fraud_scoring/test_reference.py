"""What a release carries about its inputs, and exact counting against it."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_scoring import wire
from fraud_scoring.binning import ValidationPart, make_reference
from fraud_scoring.decision_log import Decisions
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.reference import (
    OWN_BINS,
    REFERENCE_FILE,
    SUMS,
    Int64,
    Reference,
    count,
    count_groups,
    count_values,
    hour_of_week,
)
from fraud_scoring.releases import ensemble_name
from support.rows import DEFAULT_SCHEMA, SEEDED

FEATURES = len(DEFAULT_SCHEMA.features)
DAY_US = 86_400_000_000
COSTS = {"chargeback_fee_minor": 2000.0, "false_decline_minor": 3000.0, "review_minor": 400.0, "review_miss_share": 0.1}


def validation_part(rows: int = 6000, seed: int = 1) -> ValidationPart:
    """Two weeks: feature 1 a flag, 2 mostly zero, 3 a small number with gaps (0, 2, 4), all others continuous."""
    rng = np.random.default_rng(seed)
    features = rng.gamma(2.0, 30.0, (rows, FEATURES)).astype(np.float32)
    features[:, 1] = rng.random(rows) < 0.3
    features[:, 2] = np.where(rng.random(rows) < 0.9, 0.0, rng.random(rows))
    features[:, 3] = rng.integers(0, 3, rows) * 2
    score = rng.beta(0.3, 8.0, rows).astype(np.float32)
    return ValidationPart(
        features=features,
        score=score,
        decision=np.digitize(score, [0.2, 0.5]).astype(np.int32),
        amount_minor=rng.integers(1, 10**7, rows),
        time_us=np.sort(rng.integers(20_000 * DAY_US, 20_014 * DAY_US, rows)),
        is_fraud=(rng.random(rows) < score).astype(np.int8),
    )


PART = validation_part()
REFERENCE = make_reference(7, DEFAULT_SCHEMA, PART, COSTS)


def decisions(part: ValidationPart = PART, release: int = 7, **changed: Any) -> Decisions:
    """The part's rows as the front door logs them."""
    rows = len(part.score)
    transaction = np.zeros((rows, 5), np.int64)
    transaction[:, 1], transaction[:, 4] = part.time_us, part.amount_minor
    verdict = np.zeros((rows, wire.VERDICT_WIDTH), np.int32)
    verdict[:, 0], verdict[:, 4] = part.decision, release
    found = {
        "transaction": transaction,
        "features": part.features,
        "score": part.score,
        "verdict": verdict,
        "repeat": np.zeros(rows, bool),
        "deadline_left_us": np.zeros(rows, np.int64),
        "stage_us": np.zeros(4, np.int64),
        **changed,
    }
    return Decisions(**found)


def some(batch: Decisions, rows: Any) -> Decisions:
    names = ("transaction", "features", "score", "verdict", "repeat", "deadline_left_us")
    return Decisions(**{name: getattr(batch, name)[rows] for name in names}, stage_us=batch.stage_us)


def cell(vector: Int64, series: int, place: str) -> int:
    return int(vector[REFERENCE.layout.of(series)][REFERENCE.binned[series].bins + OWN_BINS.index(place)])


def test_the_references_own_rows_give_the_references_own_counts() -> None:
    assert np.array_equal(count(REFERENCE, decisions())[: REFERENCE.layout.cells], REFERENCE.cells)


@given(st.lists(st.integers(0, len(PART.score)), max_size=6), st.randoms(use_true_random=False))
@settings(SEEDED, max_examples=25)
def test_counts_add_over_any_batches_in_any_order(cuts: list[int], random: Any) -> None:
    batch = decisions()
    edges = [0, *sorted(cuts), len(batch)]
    pieces = [some(batch, slice(a, b)) for a, b in itertools.pairwise(edges)]
    random.shuffle(pieces)
    added = sum((count(REFERENCE, piece) for piece in pieces), REFERENCE.empty())
    assert np.array_equal(added, count(REFERENCE, batch))


def test_each_row_is_in_one_bin_of_each_series() -> None:
    vector = count(REFERENCE, decisions())
    for series in range(len(REFERENCE.layout.names)):
        assert vector[REFERENCE.layout.of(series)].sum() == len(PART.score)


def test_groups_are_counted_as_if_each_was_alone() -> None:
    batch = decisions()
    group = np.random.default_rng(3).integers(0, 5, len(batch))
    together = count_groups(REFERENCE, batch, group, 5)
    for number in range(5):
        assert np.array_equal(together[number], count(REFERENCE, some(batch, group == number)))


def test_regular_bins_hold_what_lies_from_their_lower_edge_up_to_the_next() -> None:
    series = REFERENCE.features[0]
    values = PART.features[:, 0].astype(np.float64)
    expected = [
        int(((values >= low) & (values < high)).sum())
        for low, high in zip([-np.inf, *series.edges], [*series.edges, np.inf], strict=True)
    ]
    assert series.counts[: series.bins].tolist() == expected


@pytest.mark.parametrize(
    ("value", "place"),
    [(-1.0, "below"), (1e9, "above"), (np.nan, "missing"), (np.inf, "missing"), (-np.inf, "missing")],
)
def test_what_the_reference_never_saw_has_bins_of_its_own(value: float, place: str) -> None:
    features = PART.features[:10].copy()
    features[4, 0] = value
    vector = count(REFERENCE, some(decisions(), slice(0, 10)))
    changed = count(REFERENCE, decisions(validation_part_with(features)))
    assert cell(changed, 0, place) - cell(vector, 0, place) == 1
    assert changed[REFERENCE.layout.of(0)].sum() == 10


def validation_part_with(features: Any) -> ValidationPart:
    rows = len(features)
    return ValidationPart(
        features, PART.score[:rows], PART.decision[:rows], PART.amount_minor[:rows], PART.time_us[:rows], PART.is_fraud
    )


@pytest.mark.parametrize("value", [1.0, 3.0, 2.5])
def test_a_value_between_those_of_a_discrete_feature_is_unseen(value: float) -> None:
    features = PART.features[:10].copy()
    features[:, 3] = value
    assert cell(count(REFERENCE, decisions(validation_part_with(features))), 3, "unseen") == 10


def test_a_score_that_is_no_number_is_missing_and_adds_to_no_sum() -> None:
    score = PART.score[:10].copy()
    score[:] = np.nan
    vector = count_values(
        REFERENCE, PART.features[:10], score, PART.decision[:10], PART.amount_minor[:10], np.zeros(10, np.int64), 1
    )[0]
    assert cell(vector, len(REFERENCE.features), "missing") == 10
    assert vector[REFERENCE.layout.sums][SUMS.index("probability_millionths_approve")] == 0


def test_repeats_scorecard_answers_and_other_releases_are_not_compared() -> None:
    batch = decisions()
    verdict, repeat = batch.verdict.copy(), batch.repeat.copy()
    repeat[:100] = True
    verdict[100:200, 5] = wire.Source.SCORECARD
    verdict[200:300, 4] = 8
    assert np.array_equal(
        count(REFERENCE, decisions(verdict=verdict, repeat=repeat)), count(REFERENCE, some(batch, slice(300, None)))
    )


def test_a_scorecards_frame_without_features_counts_nothing() -> None:
    batch = some(decisions(), slice(0, 5))
    verdict = batch.verdict.copy()
    verdict[:, 5] = wire.Source.SCORECARD
    frame = Decisions(
        batch.transaction, np.zeros((5, 0), np.float32), batch.score, verdict, batch.repeat, batch.deadline_left_us,
        batch.stage_us,
    )  # fmt: skip
    assert not count(REFERENCE, frame).any()


def test_rows_with_other_features_are_refused() -> None:
    with pytest.raises(InvalidDefinition, match=f"rows have 3 features, and its reference {FEATURES}"):
        count(REFERENCE, decisions(features=PART.features[:, :3]))


def test_the_sums_are_those_of_each_row_rounded_to_an_integer() -> None:
    vector = count(REFERENCE, some(decisions(), slice(0, 500)))
    sums = dict(zip(SUMS, vector[REFERENCE.layout.sums].tolist(), strict=True))
    expected = dict.fromkeys(SUMS, 0)
    for score, decision, amount in zip(
        PART.score[:500].tolist(), PART.decision[:500].tolist(), PART.amount_minor[:500].tolist(), strict=True
    ):
        name = wire.Decision(decision).name.lower()
        expected[f"probability_millionths_{name}"] += round(Fraction(score) * 10**6)
        expected[f"amount_minor_{name}"] += amount
        expected["doubt_millionths"] += round((1 - abs(2 * Fraction(score) - 1)) * 10**6)
        expected[f"loss_thousandths_{name}"] += round(Fraction(score) * amount * 1000)
    for name, value in expected.items():
        assert sums[name] == pytest.approx(value, abs=500)  # half a unit a row, where a product is no exact double
        assert isinstance(sums[name], int)


def test_fifty_thousand_rows_a_second_are_counted() -> None:
    part = validation_part(65_536, seed=2)
    batch = decisions(part)
    group = np.arange(len(batch)) * 60 // len(batch)
    count_groups(REFERENCE, batch, group, 60)
    began = datetime.now(timezone.utc)
    for _ in range(3):
        count_groups(REFERENCE, batch, group, 60)
    seconds = (datetime.now(timezone.utc) - began).total_seconds()
    assert 3 * len(batch) / seconds > 50_000


def test_the_text_keeps_every_bit() -> None:
    again = Reference.from_json(REFERENCE.to_json())
    assert again.to_json() == REFERENCE.to_json()
    assert again.features[0].edges.tobytes() == REFERENCE.features[0].edges.tobytes()
    assert np.array_equal(again.by_hour, REFERENCE.by_hour)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"format": 1}'])
def test_a_broken_file_says_to_restore_the_release(text: str) -> None:
    with pytest.raises(InvalidDefinition, match="the file is broken; restore the release"):
        Reference.from_json(text)


def test_another_format_is_named() -> None:
    document = json.loads(REFERENCE.to_json())
    document["format"] = 99
    with pytest.raises(InvalidDefinition, match="format 99 is not known here"):
        Reference.from_json(json.dumps(document))


@pytest.mark.parametrize("entry", ["by_hour", "by_day"])
def test_counts_that_do_not_fit_each_other_are_refused(entry: str) -> None:
    document = json.loads(REFERENCE.to_json())
    document[entry] = [row[:-1] for row in document[entry]]
    with pytest.raises(InvalidDefinition, match="counts do not fit each other"):
        Reference.from_json(json.dumps(document))


@pytest.mark.parametrize(
    "costs", [{**COSTS, "review_hours": 3.0}, {"review_minor": 400.0}, {"chargeback": 1.0, **COSTS}]
)
def test_costs_by_other_names_are_refused_when_a_reference_is_made_and_when_it_is_read(
    costs: dict[str, float],
) -> None:
    (wrong, *_) = sorted(set(costs) ^ set(COSTS))
    document = {**json.loads(REFERENCE.to_json()), "costs": costs}
    with pytest.raises(InvalidDefinition, match=f"costs: {wrong}.*write chargeback_fee_minor, .*, review_miss_share"):
        Reference.from_json(json.dumps(document))
    with pytest.raises(InvalidDefinition, match=wrong):
        make_reference(7, DEFAULT_SCHEMA, PART, costs)


def test_a_release_without_a_reference_is_to_be_trained_again(tmp_path: Path) -> None:
    with pytest.raises(InvalidDefinition, match=r"release r0007 carries no reference.json; .* train it again"):
        Reference.load(tmp_path, 7)


def test_a_reference_is_read_from_its_releases_folder(tmp_path: Path) -> None:
    folder = tmp_path / ensemble_name(7)
    folder.mkdir()
    (folder / REFERENCE_FILE).write_text(REFERENCE.to_json(), encoding="utf-8")
    assert Reference.load(tmp_path, 7).release == 7


def test_a_reference_fits_the_schema_that_it_was_made_with_and_no_other() -> None:
    assert REFERENCE.fits(DEFAULT_SCHEMA.document)
    assert not REFERENCE.fits(DEFAULT_SCHEMA.document + " ")


def test_the_hour_of_the_week_begins_on_monday_at_midnight_utc() -> None:
    for offset in range(0, 400, 7):
        moment = datetime(2018, 4, 1, tzinfo=timezone.utc) + timedelta(hours=offset, minutes=59, seconds=59)
        found = hour_of_week(np.array([round(moment.timestamp() * 1e6)]))[0]
        assert found == moment.weekday() * 24 + moment.hour
