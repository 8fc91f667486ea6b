"""Evidence that may be looked at whenever one likes: it stays below its bound, and sees what moves."""

from __future__ import annotations

import numpy as np
import pytest

from drift_sidecar import worlds
from drift_sidecar.betting import TILTS
from drift_sidecar.evidence import MINUTES_A_MONTH, EvidenceDetector, EvidenceState
from drift_sidecar.null_set import Tolerance, make_null_set
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.reference import Float64, Int64

REFERENCE = worlds.draw_reference(np.random.default_rng(1), 500_000, 0.0)
NULL = make_null_set(REFERENCE, Tolerance())
NOON = 36
SECOND = 1.0 / 60.0
GAUSSIAN = 0
CELLS = REFERENCE.layout.of(GAUSSIAN)


SHARES = [series.shares(NOON) for series in worlds.SERIES]


def counts(rng: np.random.Generator, rows: int, shift: float = 0.0) -> Int64:
    """A look of `rows` rows at noon; the first feature's mean is shifted, all else is as it should be."""
    vector = REFERENCE.empty()
    for k, shares in enumerate(SHARES):
        vector[REFERENCE.layout.of(k)] = rng.multinomial(rows, shares)
    if shift:
        vector[CELLS] = rng.multinomial(rows, worlds.SERIES[GAUSSIAN].shares(NOON, shift))
    return vector


def detector(pages: float = 1.0) -> EvidenceDetector:
    return EvidenceDetector(REFERENCE, NULL, pages)


def looks_until_crossing(found: EvidenceDetector, rng: np.random.Generator, shift: float, most: int = 600) -> int:
    for look in range(most):
        if found.look(NOON, counts(rng, 100, shift), SECOND)[GAUSSIAN]:
            return look + 1
    raise AssertionError("it never crossed")


def test_the_threshold_shares_the_budget_among_all_series_and_the_labels() -> None:
    assert detector().threshold == pytest.approx((NULL.series + 1) * MINUTES_A_MONTH)
    assert detector(4.0).threshold == pytest.approx(detector().threshold / 4.0)
    assert pytest.approx(30.44 * 1440, rel=1e-3) == MINUTES_A_MONTH


def test_at_the_edge_of_the_tolerance_evidence_grows_no_faster_than_time_on_average() -> None:
    """The mean of V over many short streams, each as unfavourable as the null set allows to one bet."""
    rng = np.random.default_rng(2)
    bet = TILTS.index(0.2)
    odds = detector().bets.odds(NOON)[GAUSSIAN, :, bet]
    edge = detector().bets.bets(NOON)[GAUSSIAN, bet] * np.exp(-odds)
    edge = edge[: NULL.size(GAUSSIAN)] / edge.sum()
    streams, looks = 600, 8
    total = np.zeros((looks, streams))
    for stream in range(streams):
        found = detector()
        for look in range(looks):
            vector = REFERENCE.empty()
            vector[CELLS] = rng.multinomial(20, edge)
            found.look(NOON, vector, 1.0)
            total[look, stream] = found.state.wealth[GAUSSIAN, bet]
    for look in (0, 3, 7):
        mean, error = total[look].mean(), total[look].std() / np.sqrt(streams)
        assert mean <= look + 1 + 4.0 * error
        assert mean >= look + 1 - 4.0 * error - 0.02  # nor slower: the bound is no idle one


def test_a_stream_as_the_reference_was_gives_no_evidence() -> None:
    rng, found = np.random.default_rng(3), detector()
    for _ in range(3000):
        assert not found.look(NOON, counts(rng, 100), SECOND).any()
    assert found.value.max() < found.threshold / 1000


def test_time_alone_is_no_evidence() -> None:
    rng, found = np.random.default_rng(4), detector()
    found.look(NOON, counts(rng, 100), SECOND)
    for _ in range(200):
        found.look(NOON, REFERENCE.empty(), 10_000.0)
    assert found.value.max() < 10.0


def test_a_shift_crosses_within_seconds_and_only_where_it_is() -> None:
    rng, found = np.random.default_rng(5), detector()
    for _ in range(300):
        found.look(NOON, counts(rng, 100), SECOND)
    assert looks_until_crossing(found, rng, 0.25) < 40
    assert found.state.evident.tolist() == [1.0] + [0.0] * (NULL.series - 1)


def test_after_a_crossing_evidence_begins_again_at_nothing() -> None:
    rng, found = np.random.default_rng(6), detector()
    looks_until_crossing(found, rng, 0.5)
    assert found.value[GAUSSIAN] == 0.0
    assert found.last_value[GAUSSIAN] >= found.threshold


def test_the_beginning_of_a_change_is_found_to_a_few_seconds() -> None:
    rng = np.random.default_rng(7)
    for _ in range(5):
        found = detector()
        for _ in range(300):
            found.look(NOON, counts(rng, 100), SECOND)
        looks = looks_until_crossing(found, rng, 0.5)
        lead = int(found.state.lead[GAUSSIAN])
        assert found.state.age[GAUSSIAN, lead] * 60.0 == pytest.approx(looks, abs=6.0)
        assert found.state.rows[GAUSSIAN, lead].sum() == pytest.approx(100.0 * looks, abs=600.0)
        assert found.state.foreseen[GAUSSIAN, lead].sum() == pytest.approx(found.state.rows[GAUSSIAN, lead].sum())


def test_what_has_come_back_is_evident_no_more() -> None:
    rng, found = np.random.default_rng(8), detector()
    for _ in range(120):
        found.look(NOON, counts(rng, 100, 0.5), SECOND)
    assert found.state.evident[GAUSSIAN] == 1.0
    for _ in range(60):
        found.look(NOON, counts(rng, 100), SECOND)
    assert found.state.evident[GAUSSIAN] == 0.0


def test_a_shape_that_no_fixed_bet_foresees_is_learned() -> None:
    """Two bins in the middle trade rows: the mean and the spread stay."""
    rng, found = np.random.default_rng(9), detector()
    shares = worlds.FEATURES[GAUSSIAN].shares(NOON).copy()
    shares[4:6] += [0.04, -0.04]
    crossed = False
    for _ in range(900):
        vector = counts(rng, 100)
        vector[CELLS] = rng.multinomial(100, shares)
        crossed = crossed or bool(found.look(NOON, vector, SECOND)[GAUSSIAN])
    assert crossed


@pytest.mark.parametrize("place", ["missing", "unseen", "below", "above"])
def test_values_that_the_reference_never_had_cross_soon(place: str) -> None:
    rng, found = np.random.default_rng(10), detector()
    for look in range(60):
        vector = counts(rng, 100)
        own = CELLS.stop - 4 + ["below", "above", "unseen", "missing"].index(place)
        vector[own] += 5
        if found.look(NOON, vector, SECOND)[GAUSSIAN]:
            assert look < 15
            return
    raise AssertionError("it never crossed")


def test_a_change_of_the_hour_is_no_change_of_the_stream() -> None:
    """From night to day the flags turn over within a second."""
    rng, found = np.random.default_rng(11), detector()
    for hour in (30, 31, 32, 33):
        shares = [series.shares(hour) for series in worlds.SERIES]
        for _ in range(200):
            vector = REFERENCE.empty()
            for k, of_series in enumerate(shares):
                vector[REFERENCE.layout.of(k)] = rng.multinomial(100, of_series)
            assert not found.look(hour, vector, SECOND).any()


def test_a_checkpoint_goes_on_as_if_nothing_had_happened() -> None:
    def run(found: EvidenceDetector, seed: int, looks: int) -> Float64:
        rng = np.random.default_rng(seed)
        for _ in range(looks):
            found.look(NOON, counts(rng, 100, 0.1), SECOND)
        return found.state.vector()

    first, second = detector(), detector()
    second.state.load(run(first, 1, 90))
    assert run(first, 2, 90).tobytes() == run(second, 2, 90).tobytes()


def test_a_checkpoint_of_another_reference_is_refused() -> None:
    with pytest.raises(InvalidDefinition, match="does not fit the release's reference; begin without it"):
        detector().state.load(EvidenceState.new(3, 5).vector())
