"""Defences on records: exact counts, nothing made up, errors before any training."""

import numpy as np
import pytest

from helpers.defenses import KINDS, Defense, altered, defended, noisy_features
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


COLUMNS = ("age", "place", "place", "place")
TABLE = np.concatenate([STREAM.normal(size=(1000, 1)), np.eye(3)[STREAM.integers(0, 3, 1000)]],
                       axis=1).astype(np.float32)


def augmented(features, strength, index=INDEX, seeds=SEEDS):
    defense = Defense("over augmented", strength)
    before, own = defended(index, LABELS, ATTRIBUTE, defense, seeds)
    return before, own, *altered(features, before, LABELS, ATTRIBUTE, defense, seeds, 0, COLUMNS)


def test_augmented_copies_replace_repetitions_and_nothing_else():
    before, own, pool, after = augmented(TABLE, 0.5)
    np.testing.assert_array_equal(pool[:1000], TABLE)
    assert len(pool) == 1000 + 5 * 120 and after.shape == (5, 320)
    old = after < 1000
    np.testing.assert_array_equal(after[old], before[old])
    for rows, mine, source in zip(after, old, before, strict=True):
        assert sorted(rows[mine]) == sorted(set(source))  # every record once as it is
    assert len(np.unique(after[~old])) == (~old).sum()  # and every copy a record of its own
    np.testing.assert_array_equal(own, LABELS[before])


def test_augmented_columns_come_whole_from_the_models_own_records_of_the_cell():
    before, own, pool, after = augmented(TABLE, 0.5)
    cell = 2 * ATTRIBUTE + LABELS
    for rows, source in zip(after, before, strict=True):
        copies = rows >= 1000
        for copy, original in zip(pool[rows[copies]], source[copies], strict=True):
            donors = np.unique(source[cell[source] == cell[original]])
            assert copy[0] in TABLE[donors, 0]
            assert (copy[1:] == TABLE[donors, 1:]).all(1).any() and copy[1:].sum() == 1
    copies = after >= 1000
    kept = (pool[after[copies]][:, 0] == TABLE[before[copies]][:, 0]).mean()
    assert kept == pytest.approx(0.5, abs=0.09)  # 600 copies: 4.4 standard errors, few donors


def test_augmented_models_do_not_depend_on_who_is_beside_them():
    before, _, pool, after = augmented(TABLE, 0.5)
    _, _, alone_pool, alone = augmented(TABLE, 0.5, INDEX[3:4], SEEDS[3:4])
    np.testing.assert_array_equal(pool[after[3]], alone_pool[alone[0]])


def test_augmented_pictures_are_moved_by_one_pixel_and_mirrored():
    pictures = STREAM.normal(size=(1000, 1, 6, 5)).astype(np.float32)
    before, _, pool, after = augmented(pictures, 0.5)
    copies, mirrored = after >= 1000, 0
    for copy, original in zip(pool[after[copies]], pictures[before[copies]], strict=True):
        found = [flip for flip in (False, True) for i in range(3) for j in range(3)
                 if (i, j) != (1, 1) and np.array_equal(copy[0, 1:-1, 1:-1], (
                     original[0, :, ::-1] if flip else original[0])[i : i + 4, j : j + 3])]
        assert len(found) == 1
        mirrored += found[0]
    assert mirrored / copies.sum() == pytest.approx(0.5, abs=0.08)


def test_other_defences_leave_the_pool_or_add_noise():
    for kind, strength in (("none", 0.0), ("under", 0.0), ("feature noise", 0.3)):
        defense = Defense(kind, strength)
        pool, index = altered(TABLE, INDEX, LABELS, ATTRIBUTE, defense, SEEDS, 1, COLUMNS)
        np.testing.assert_array_equal(pool, noisy_features(TABLE, defense, 1))
        assert index is INDEX


@pytest.mark.parametrize("make, said", [
    (lambda: Defense("label nose"), "known: " + ", ".join(KINDS)),
    (lambda: Defense("label noise", 0.6), r"\[0, 0.5\]"),
    (lambda: Defense("feature noise", -1.0), "strength -1"),
    (lambda: Defense("fixed", 0.0), "above 0"),
    (lambda: Defense("over augmented", 1.5), r"\[0, 1\]"),
    (lambda: run("over augmented", 0.5, np.full((5, 10), 400)), "none of 10 records"),
    (lambda: run("fixed", 0.9), "at most 0.4"),
    (lambda: run("under", index=np.full((5, 10), 400)), "none of 10 records")])
def test_bad_input(make, said):
    with pytest.raises((ValueError, DataError), match=said):
        make()
