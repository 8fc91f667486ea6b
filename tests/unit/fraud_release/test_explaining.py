"""What reasons are measured against: the groups of a schema's features, and the few payments that stand for many."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from fraud_release.explaining import choose, feature_groups, fit_explanation
from fraud_release.train import Plan, train
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.releases import decision_rule
from fraud_scoring.schema import Schema
from fraud_scoring.wire import Decision
from support.rows import DEFAULT_SCHEMA, default_document, schema_with


def with_entities(count: int) -> Schema:
    """The default schema, a category, and so many further entities with a feature each."""
    document = default_document()
    names = [f"entity{i}_key" for i in range(count)]
    columns = [{"name": name, "role": "entity"} for name in names] + [{"name": "merchant_code", "role": "category"}]
    features = [{"name": f"{name}_count", "of": "count", "entity": name, "days": [1]} for name in names]
    features.append({"name": "merchant_code", "of": "value", "column": "merchant_code"})
    return schema_with(columns=document["columns"] + columns, features=document["features"] + features)


def test_the_default_features_are_four_groups() -> None:
    groups = {
        group.name: [DEFAULT_SCHEMA.feature_names[i] for i in group.features]
        for group in feature_groups(DEFAULT_SCHEMA)
    }
    assert list(groups) == ["amount", "customer history", "terminal history", "time"]
    assert groups["amount"] == ["amount"]
    assert groups["time"] == ["is_weekend", "is_night"]
    for entity in ("customer", "terminal"):
        assert groups[f"{entity} history"] == [n for n in DEFAULT_SCHEMA.feature_names if n.startswith(entity)]


def test_an_entity_of_one_s_own_and_a_category_are_groups_too() -> None:
    names = [group.name for group in feature_groups(with_entities(1))]
    assert names == ["amount", "customer history", "terminal history", "entity0 history", "other values", "time"]


def test_more_groups_than_exact_values_take_are_refused_with_their_names_and_a_way_out() -> None:
    with pytest.raises(InvalidDefinition, match=r"make 7 groups \(amount, .*entity1 history.*--background 0"):
        feature_groups(with_entities(2))


def test_a_group_without_features_is_none() -> None:
    amount_only = schema_with(features=[{"name": "amount", "of": "value", "column": "amount_minor"}])
    assert [group.name for group in feature_groups(amount_only)] == ["amount"]


def test_the_chosen_few_have_nearly_the_mean_of_all() -> None:
    values = np.random.default_rng(1).lognormal(size=(300, 20))
    chosen = choose(values, 8)
    assert len(set(chosen.tolist())) == 8
    error = np.linalg.norm(values[chosen].mean(axis=0) - values.mean(axis=0))
    rng = np.random.default_rng(2)
    others = [values[rng.choice(300, 8, replace=False)].mean(axis=0) - values.mean(axis=0) for _ in range(200)]
    assert error < 0.5 * min(np.linalg.norm(other) for other in others)
    assert choose(values, 8).tolist() == chosen.tolist()


@pytest.mark.parametrize("count", [1, 5])
def test_all_of_them_are_chosen_where_there_are_no_more(count: int) -> None:
    assert choose(np.ones((count, 3)), count).tolist() == list(range(count))


def test_the_same_payments_give_the_same_background_and_its_margins(trained, history) -> None:
    pipeline = Pipeline.load(trained.repository, 1)
    features = pipeline.answer_alone(history.rows[:2_000]).features
    margin = pipeline.margin(features)[:, 0]
    flagged = features[np.argsort(-margin)[:40]]
    one, facts = fit_explanation(DEFAULT_SCHEMA, pipeline.margin, features, flagged, 8)
    other, _ = fit_explanation(DEFAULT_SCHEMA, pipeline.margin, features, flagged, 8)
    assert one.document() == other.document()
    assert one.margins.tobytes() == pipeline.margin(one.background)[:, 0].tobytes()
    errors = facts["error_share_p95_by_rows"]
    assert errors["32"] < errors["1"]
    assert facts["error_share_p95"] == errors["8"] < 0.1


class TestATrainedRelease:
    def test_carries_its_background_and_says_how_good_it_is(self, trained) -> None:
        rule = decision_rule(trained.repository, 1)
        assert rule.explanation is not None
        assert len(rule.explanation.background) == Plan().background == 2
        facts = trained.manifest["explanation"]
        assert facts["groups"] == [group.name for group in rule.explanation.groups]
        assert (facts["background_rows"], facts["large_background_rows"]) == (2, 512)
        assert 0 < facts["error_share_p95"] < 0.3
        assert "fraud_decision_r0001/1/decision.json" in trained.manifest["files"]

    def test_gives_reasons_that_push_the_margin_up(self, trained, history) -> None:
        pipeline = Pipeline.load(trained.repository, 1)
        explanation = pipeline.rule.explanation
        answers = pipeline.answer_alone(history.rows[:4_000])
        flagged = np.flatnonzero(answers.verdict[:, 0] != Decision.APPROVE)
        features = answers.features[flagged]
        margin = pipeline.margin(features)
        found = explanation.contributions(features, margin, pipeline.margin)
        assert found.sum(axis=1) == pytest.approx(margin[:, 0].astype(np.float64) - explanation.base, abs=2**-24)
        group_of = {
            DEFAULT_SCHEMA.features[i].reason: g for g, group in enumerate(explanation.groups) for i in group.features
        }
        for verdict, values in zip(answers.verdict[flagged], found, strict=True):
            given = [values[group_of[code]] for code in verdict[1:4] if code]
            assert given == sorted(given, reverse=True)
            assert min(given) > 0
            assert given[0] == values.max()

    def test_can_do_without_and_reasons_by_points_then(self, history, repository, train_into, plan) -> None:

        manifest = train_into(history, repository, plan=replace(plan, background=0))
        assert manifest["explanation"] is None
        rule = decision_rule(repository, 1)
        assert rule.explanation is None
        assert json.loads(rule.to_json())["version"] == 1

    def test_of_too_many_groups_is_refused_before_the_work(self, history, repository, plan) -> None:

        with pytest.raises(InvalidDefinition, match="make 7 groups"):
            train(history, with_entities(2), repository, plan, provenance={}, progress=lambda share, text: None)
