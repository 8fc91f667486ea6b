"""Every gate lets a release through that is like the champion, and stops the one that is worse in that gate's way."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from fraud_data import Transactions
from fraud_release.errors import ArtifactRefused
from fraud_release.gates import GateResult, GateSettings, ServerFigures, Tolerances, judge
from fraud_release.gates.bootstrap import average_precision, interval, resampled
from fraud_release.gates.quality import calibration_error
from fraud_release.gates.service import quantile_interval, server_gates
from fraud_release.trust import TrustSettings
from support.rows import DEFAULT_SCHEMA
from support.variants import leaning_on_the_batch, shifted_where, upside_down, variant

AMOUNT = DEFAULT_SCHEMA.feature_names.index("amount")
QUICK = ServerFigures(np.linspace(2.0, 9.0, 1_500), 500.0, 1_500)
"""What a server of the release's own would have said; the real one is asked in tests/integration."""


@pytest.fixture(scope="module")
def repository(trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the trained release, to which the tests add variants of it."""
    return Path(shutil.copytree(trained.repository, tmp_path_factory.mktemp("gates") / "models"))


@pytest.fixture(scope="module")
def settings(history: Transactions, tmp_path_factory: pytest.TempPathFactory) -> GateSettings:
    trust = TrustSettings.read(tmp_path_factory.mktemp("home"), remember=False)
    return GateSettings(
        trust, history, lambda *_: QUICK, Tolerances(calibration_error=0.5, fraud_ratio=1.5), resamples=120
    )


Ask = Callable[..., dict[str, GateResult]]


@pytest.fixture(scope="module")
def ask(repository: Path, settings: GateSettings) -> Ask:
    """The gates' answers by name, for a candidate against release 1."""

    def asked(candidate: int, champion: int | None = 1, **changes: object) -> dict[str, GateResult]:
        results = judge(repository, candidate, champion, replace(settings, **changes))
        assert all("\n" not in result.detail for result in results)
        return {result.name: result for result in results}

    return asked


def failed(results: dict[str, GateResult]) -> set[str]:
    return {name for name, result in results.items() if not result.passed}


def test_a_release_like_the_champion_passes_every_gate(repository: Path, ask: Ask) -> None:
    results = ask(variant(repository))
    assert failed(results) == set()
    assert list(results) == [
        "signature",
        "golden vectors",
        "parity",
        "batch = single",
        "average precision",
        "cost",
        "calibration error",
        "expected frauds",
        "false positives by segment",
        "recall by segment",
        "latency",
        "memory",
        "answers",
    ]
    assert results["average precision"].figure == 0
    assert results["average precision"].interval == (0, 0)
    assert results["cost"].figure == 1


def test_the_first_release_is_judged_by_itself(ask: Ask) -> None:
    results = ask(1, champion=None)
    assert 0.05 < results["average precision"].bound < 0.2, "the share of frauds"
    assert results["average precision"].passed
    assert results["cost"].passed
    assert results["cost"].figure < 1


def test_a_release_that_was_changed_is_not_opened(repository: Path, ask: Ask) -> None:
    number = variant(repository)
    (repository / f"fraud_r{number:04d}" / "more").write_text("")
    results = ask(number)
    assert list(results) == ["signature"]
    assert not results["signature"].passed
    assert "more is not in its manifest" in results["signature"].detail
    with pytest.raises(ArtifactRefused):
        ask(1, champion=number)


def test_another_answer_to_a_golden_transaction_is_counted(repository: Path, ask: Ask) -> None:
    def nudged(content: bytes) -> bytes:
        golden = dict(np.load(io.BytesIO(content)))
        golden["score"][:3] = np.nextafter(golden["score"][:3], np.float32(2))
        buffer = io.BytesIO()
        np.savez(buffer, **golden)
        return buffer.getvalue()

    results = ask(variant(repository, golden=nudged), data=None)
    assert results["golden vectors"].figure == 3
    assert "golden vectors" in failed(results)


def test_an_export_that_differs_from_the_trained_model_fails_parity(repository: Path, ask: Ask) -> None:
    results = ask(variant(repository, graph=shifted_where(AMOUNT, 150.0, 1e-4)))
    assert failed(results) == {"parity"}
    assert 0 < results["parity"].figure < 20_000


def test_a_release_without_its_trained_model_fails_parity(repository: Path, ask: Ask, settings: GateSettings) -> None:
    from fraud_release.gates.evidence import Opened
    from fraud_release.gates.sameness import parity_gates
    from fraud_release.signing import verified_contents

    opened = Opened.of(*verified_contents(repository, 1, settings.trust))
    less = {path: content for path, content in opened.contents.items() if not path.endswith("trained.txt")}
    result = parity_gates(replace(opened, contents=less), np.zeros((3, len(DEFAULT_SCHEMA.features)), np.float32))[0]
    assert not result.passed
    assert "carries no trained model; train it again" in result.detail


def test_a_model_that_looks_at_the_batch_is_found(repository: Path, ask: Ask) -> None:
    results = ask(variant(repository, graph=leaning_on_the_batch()))
    assert {"parity", "batch = single"} <= failed(results)


def test_a_worse_ranking_fails_by_its_interval(repository: Path, ask: Ask) -> None:
    result = ask(variant(repository, graph=upside_down()))["average precision"]
    assert not result.passed
    assert result.interval[1] < result.bound < 0


def test_a_margin_that_the_interval_reaches_over_is_doubt_and_no_pass(repository: Path, ask: Ask) -> None:
    worse = variant(repository, graph=shifted_where(AMOUNT, 60.0, -0.7))
    result = ask(worse)["average precision"]
    assert result.interval[0] < result.figure < 0
    between = (result.interval[0] + result.figure) / 2
    tight = ask(worse, tolerances=Tolerances(ap_margin=-between))["average precision"]
    assert tight.figure > tight.bound
    assert not tight.passed
    assert ask(worse, tolerances=Tolerances(ap_margin=-2 * result.interval[0]))["average precision"].passed


def test_thresholds_that_cost_more_fail(repository: Path, ask: Ask) -> None:
    results = ask(variant(repository, rule=lambda rule: replace(rule, review_at=0.02, decline_at=0.02)))
    assert {"cost", "false positives by segment"} <= failed(results)
    assert results["cost"].interval[0] > results["cost"].bound
    assert results["average precision"].passed


def test_scores_that_are_no_probabilities_fail_both_gates_of_calibration(repository: Path, ask: Ask) -> None:
    tripled = variant(
        repository, rule=lambda rule: replace(rule, probabilities=np.minimum(3 * rule.probabilities, 1.0))
    )
    quartered = variant(repository, rule=lambda rule: replace(rule, probabilities=rule.probabilities / 4))
    for number, way in ((tripled, 1), (quartered, -1)):
        results = ask(number)
        assert {"calibration error", "expected frauds"} <= failed(results)
        assert (results["expected frauds"].figure - 1) * way > 0


def test_good_customers_of_one_segment_who_are_flagged_more_often_fail_the_gate(repository: Path, ask: Ask) -> None:
    lifted = variant(repository, graph=shifted_where(AMOUNT, 60.0, 2.0))
    result = ask(lifted)["false positives by segment"]
    assert not result.passed
    assert result.interval[0] > result.bound
    assert "amount" in result.explanation


def test_frauds_of_one_segment_that_are_found_less_often_fail_the_gate(repository: Path, ask: Ask) -> None:
    dimmed = variant(repository, graph=shifted_where(AMOUNT, 60.0, -4.0))
    result = ask(dimmed)["recall by segment"]
    assert not result.passed
    assert result.interval[1] < result.bound
    assert "amount" in result.explanation


def test_what_could_not_be_asked_does_not_pass(ask: Ask, history: Transactions) -> None:
    assert "name them with --data" in ask(1, None, data=None)["quality"].detail
    assert "no server was asked for" in ask(1, None, measure=None)["server"].detail
    old = ask(1, None, data=history.slice(0, 5_000))["quality"]
    assert not old.passed
    assert "the data ends before the test part" in old.detail
    few = ask(1, None, tolerances=Tolerances(least_frauds=10**6))
    assert {"average precision", "cost", "calibration error", "recall by segment"} <= failed(few)


def test_latency_memory_and_missing_answers_fail_by_their_budgets() -> None:
    late = replace(QUICK, latency_ms=np.where(np.arange(1_500) % 40 == 0, 500.0, 3.0))
    lost = replace(QUICK, latency_ms=np.where(np.arange(1_500) < 3, np.inf, 3.0), answered=1_497)
    large = replace(QUICK, memory_mib=4_000.0)
    for figures, wanted in ((QUICK, set()), (late, {"latency"}), (lost, {"answers"}), (large, {"memory"})):
        assert failed({one.name: one for one in server_gates(figures, Tolerances())}) == wanted


def test_too_few_answers_for_a_p99_have_no_upper_end() -> None:
    assert quantile_interval(np.arange(100.0))[1] == np.inf
    low, high = quantile_interval(np.arange(1_500.0))
    assert low < 1_485 < high < 1_500


def test_weighted_average_precision_is_scikit_learns() -> None:
    random = np.random.default_rng(4)
    score = np.round(random.random(3_000), 2).astype(np.float32)
    is_fraud = (random.random(3_000) < 0.2 * score).astype(np.int8)
    of = average_precision(score, is_fraud)
    for weights in (np.ones(3_000), random.integers(0, 4, 3_000).astype(float)):
        wanted = average_precision_score(is_fraud, score, sample_weight=weights)
        assert of(weights) == pytest.approx(wanted, rel=1e-12)
    assert np.isnan(of(np.zeros(3_000)))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Clusters of ten rows that share their fate: 95% of intervals hold the true mean, by the binomial's own spread."""
    random, held = np.random.default_rng(5), 0
    for trial in range(200):
        fate = random.normal(size=60).repeat(10)
        weights = resampled(np.arange(60).repeat(10), 200, trial)
        low, high = interval([float(one @ fate / one.sum()) for one in weights])
        held += low <= 0 <= high
    assert 180 <= held <= 198


def test_perfect_calibration_has_no_error_and_a_shift_has_its_size() -> None:
    is_fraud = np.tile(np.array([1, 0, 0, 0, 0, 0, 0, 0, 0, 0], np.int8), 200)
    right, ones = np.full(2_000, 0.1, np.float32), np.ones(2_000)
    assert calibration_error(right, is_fraud, ones) == pytest.approx(0, abs=1e-6)
    assert calibration_error(right * 2, is_fraud, ones) == pytest.approx(1.0, rel=1e-6)
