"""Keys for loads and checks."""

from __future__ import annotations

import numpy as np

from fraud_load.fresh_keys import fresh_keys
from fraud_scoring.card_numbers import pass_for_card_numbers


def test_none_of_two_million_keys_passes_for_a_card_number() -> None:
    assert pass_for_card_numbers(np.random.default_rng(1).integers(-(2**63), 2**63 - 1, 2_000_000)).any()
    assert not pass_for_card_numbers(fresh_keys(np.random.default_rng(1), 2_000_000)).any()


def test_keys_are_of_64_bits_and_their_own() -> None:
    keys = fresh_keys(np.random.default_rng(7), 10_000)
    assert len(np.unique(keys)) == len(keys)
    assert 0.45 < (keys < 0).mean() < 0.55
    assert (np.abs(keys.astype(float)) > 2**60).mean() > 0.8
