"""Defences on records: exact counts, nothing made up, errors before any training."""

import numpy as np
import pytest

from helpers.defenses import KINDS, Defense, defended, noisy_features
from helpers.images import DataError

STREAM = np.random.default_rng(0)
ATTRIBUTE = (np.arange(1000) < 300).astype(np.uint8)
LABELS = STREAM.integers(0, 2, 1000).astype(np.uint8)
INDEX = np.stack([STREAM.permutation(np.r_[STREAM.permutation(300)[:40],
                                           300 + STREAM.permutation(700)[:160]])
                  for _ in range(5)])
SEEDS = np.arange(5)


def run(kind, strength=0.0, index=INDEX):
    return defended(index, LABELS, ATTRIBUTE, Defense(kind, strength), SEEDS)


def test_none_changes_nothing():
    index, own = run("none")
    np.testing.assert_array_equal(index, INDEX)
    np.testing.assert_array_equal(own, LABELS[INDEX])


@pytest.mark.parametrize("kind, strength, size", [("under", 0, 80), ("over", 0, 320),
                                                  ("fixed", 0.2, 40)])
def test_resampling_balances_with_the_models_own_records(kind, strength, size):
    index, own = run(kind, strength)
    assert index.shape == (5, size)
    np.testing.assert_array_equal(ATTRIBUTE[index].sum(1), size // 2)
    np.testing.assert_array_equal(own, LABELS[index])
    for row, before in zip(index, INDEX, strict=True):
        assert set(row) <= set(before)
        unique = len(set(row))
        assert unique == (200 if kind == "over" else size)  # over keeps all and repeats some


def test_fixed_size_does_not_depend_on_the_ratio():
    other = np.stack([np.r_[np.arange(100), 300 + np.arange(100)]] * 5)
    assert run("fixed", 0.2, other)[0].shape == run("fixed", 0.2)[0].shape
    assert run("under", index=other)[0].shape != run("under")[0].shape


def test_label_noise_flips_exactly_its_share_and_leaves_the_table_alone():
    before = LABELS.copy()
    index, own = run("label noise", 0.25)
    np.testing.assert_array_equal((own != LABELS[index]).sum(1), 50)
    np.testing.assert_array_equal(LABELS, before)
    flipped = {tuple(np.flatnonzero(row)) for row in own != LABELS[index]}
    assert len(flipped) == 5  # another set in every model


def test_feature_noise_is_a_records_own_and_a_partys_own():
    x = np.zeros((400, 3), np.float32)
    victim, adversary = (noisy_features(x, Defense("feature noise", 0.5), p) for p in (0, 1))
    assert victim.std() == pytest.approx(0.5, rel=0.1) and victim.dtype == np.float32
    assert not np.isclose(victim, adversary).any()
    part = noisy_features(x[:10], Defense("feature noise", 0.5), 0)
    np.testing.assert_array_equal(part, victim[:10])
    assert noisy_features(x, Defense("under"), 0) is x
    images = noisy_features(np.zeros((4, 1, 2, 2), np.float32), Defense("feature noise", 1.0), 0)
    assert images.shape == (4, 1, 2, 2)


def test_a_model_is_resampled_the_same_way_whoever_is_beside_it():
    all_of_them, _ = run("under")
    alone, _ = defended(INDEX[3:4], LABELS, ATTRIBUTE, Defense("under"), SEEDS[3:4])
    np.testing.assert_array_equal(alone[0], all_of_them[3])


@pytest.mark.parametrize("make, said", [
    (lambda: Defense("label nose"), "known: " + ", ".join(KINDS)),
    (lambda: Defense("label noise", 0.6), r"\[0, 0.5\]"),
    (lambda: Defense("feature noise", -1.0), "strength -1"),
    (lambda: Defense("fixed", 0.0), "above 0"),
    (lambda: run("fixed", 0.9), "at most 0.4"),
    (lambda: run("under", index=np.full((5, 10), 400)), "none of 10 records")])
def test_bad_input(make, said):
    with pytest.raises((ValueError, DataError), match=said):
        make()
