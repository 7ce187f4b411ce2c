"""Black-box attacks and decision rules: oracles, properties and bad input."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score

from helpers import attacks, decisions
from helpers.attacks import Views
from helpers.intervals import calibrate_threshold
from helpers.outputs import CLIP, Logits, Probabilities, as_released


def models(count, shift, seed, records=60, spread=0.6):
    """Views of toy models whose logits move with the world by `shift` along one direction."""
    stream = np.random.default_rng(seed)
    direction = np.linspace(-1, 1, 2 * records)
    base = np.sin(np.arange(2 * records))
    values = base + shift * direction + spread * stream.normal(size=(count, 2 * records))
    return Views(*(Logits(part).probabilities() for part in np.split(values, 2, axis=1)))


def truth(records=60):
    labels = np.linspace(-1, 1, 2 * records) > 0  # world 1 is right more often
    return labels[:records], labels[records:]


@pytest.fixture(scope="module")
def game():
    return {"victims": (models(40, -0.5, 1), models(40, 0.5, 2)), "a": models(20, -0.5, 3),
            "b": models(20, 0.5, 4), "labels": truth()}


def test_divergence_is_scipys_entropy():
    a, v = models(3, -1, 0).zero, models(2, 1, 5).zero
    found = attacks.divergence(a, v)
    p, q = a.clipped(), v.clipped()
    for i in range(3):
        for j in range(2):
            wanted = np.mean(entropy(np.stack([p[i], 1 - p[i]]), np.stack([q[j], 1 - q[j]])))
            assert found[i, j] == pytest.approx(wanted, rel=1e-10)


def test_divergence_puts_the_shadow_first():
    sure, unsure = Probabilities(np.full((1, 4), 0.999)), Probabilities(np.full((1, 4), 0.5))
    wanted = 0.999 * np.log(0.999 / 0.5) + 0.001 * np.log(0.001 / 0.5)
    assert attacks.divergence(sure, unsure)[0, 0] == pytest.approx(wanted)
    assert attacks.divergence(unsure, sure)[0, 0] != pytest.approx(wanted, rel=0.5)


def test_divergence_clips_as_the_paper():
    far = attacks.divergence(Probabilities(np.ones((1, 1))), Probabilities(np.zeros((1, 1))))
    assert far[0, 0] == pytest.approx((1 - 2 * CLIP) * np.log((1 - CLIP) / CLIP))


def test_pairs_by_hand(game):
    a, b, victims = game["a"].take([0, 1, 2]), game["b"].take([0, 1, 2]), game["victims"][0]
    pairs = attacks.kl_pairs(victims, a, b, every_pair=False)
    assert pairs.shape == (2 * 3, len(victims))
    near = attacks.divergence(a.zero, victims.zero), attacks.divergence(b.zero, victims.zero)
    np.testing.assert_allclose(pairs[:3], [near[0][i] - near[1][j]
                                           for i, j in ((0, 1), (0, 2), (1, 2))])
    fifty = models(50, 0, 9), models(50, 0, 10)
    kept = attacks.kl_pairs(victims, *fifty, every_pair=False, share=0.8)
    assert len(kept) == 2 * 980  # 50 * 49 / 2 pairs, 80 % of them


def test_mean_of_all_pairs_is_the_score(game):
    pairs = attacks.kl_pairs(game["victims"][0], game["a"], game["b"])
    np.testing.assert_allclose(attacks.kl(game["victims"][0], game["a"], game["b"]), pairs.mean(0))


# Not zhang: a network trained by minibatches depends on the order of its rows.
@pytest.mark.parametrize("name", [name for name in decisions.ATTACKS if name != "zhang"])
def test_relabelling_shadows_changes_nothing(name, game):
    order = np.random.default_rng(0).permutation(20)
    run = decisions.ATTACKS[name]
    plain = run(game["victims"][0], game["a"], game["b"], game["labels"], 0)
    mixed = run(game["victims"][0], game["a"].take(order), game["b"].take(order[::-1]),
                game["labels"], 0)
    np.testing.assert_allclose(mixed, plain, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in decisions.ATTACKS if name.startswith("kl")])
def test_swapping_worlds_flips_the_answer(name, game):
    run = decisions.ATTACKS[name]
    victims, a, b = game["victims"][0], game["a"], game["b"]
    swapped = [Views(part.one, part.zero) for part in (victims, b, a)]
    np.testing.assert_allclose(run(*swapped, game["labels"][::-1], 0),
                               -run(victims, a, b, game["labels"], 0), atol=1e-12)


@pytest.mark.parametrize("name", [name for name in decisions.ATTACKS if name != "loss"])
def test_attacks_win_where_worlds_differ_and_not_where_they_are_equal(name, game):
    found = decisions.judge(name, **game)
    assert found.rule == "calibrated" and found.accuracy().low > 0.6, found.accuracy()
    same = (models(100, 0, 11), models(100, 0, 12))
    null = decisions.judge(name, same, models(20, 0, 13), models(20, 0, 14), game["labels"])
    assert null.accuracy().value == pytest.approx(0.5, abs=0.13)  # 3.5 standard errors
    assert null.auc().value == pytest.approx(0.5, abs=0.145)


def test_loss_test_compares_the_two_accuracies():
    labels = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    zero, one = Probabilities([[0.1, 0.2, 0.9, 0.8]]), Probabilities([[0.9, 0.9, 0.9, 0.1]])
    assert attacks.loss_test(Views(zero, one), labels)[0] == pytest.approx(0.5 - 1.0)


def test_cuts_split_as_well_as_the_exact_threshold():
    from helpers.intervals import calibrate_threshold

    stream = np.random.default_rng(3)
    a, b = stream.normal(size=(15, 30)), stream.normal(0.7, size=(11, 30)) * np.where(
        np.arange(30) % 2, 1, -1)
    cut, sign = attacks._cuts(a, b)
    for column in range(30):
        rule = calibrate_threshold(a[:, column], b[:, column])
        share = ((sign[column] * (b[:, column] - cut[column]) > 0).mean()
                 + (sign[column] * (a[:, column] - cut[column]) <= 0).mean()) / 2
        assert share == pytest.approx(rule.accuracy)


def test_auc_is_scikit_learns():
    zero, one = np.array([0.0, 1.0, 1.0, 3.0]), np.array([1.0, 2.0, 5.0])
    wanted = roc_auc_score([0] * 4 + [1] * 3, np.concatenate([zero, one]))
    assert decisions.auc(zero, one) == pytest.approx(wanted)


def test_batch_rule_depends_on_the_other_victims_and_the_calibrated_rule_does_not(game):
    """What the paper's rule hides: a victim's answer changes with its company."""
    crowd, a, b = game["victims"][1], game["a"], game["b"]
    together = decisions.batch_scores(attacks.kl_pairs(crowd, a, b, every_pair=False))
    assert (together < 0).any()  # a batch of one world only is still split in two
    alone = attacks.kl(crowd.take([0]), a, b)
    assert alone[0] == pytest.approx(attacks.kl(crowd, a, b)[0])
    found = decisions.judge("kl", **game, batch=True)
    assert set(found.correct) == {"zero", "calibrated", "batch"}


def test_batch_rule_survives_a_constant_pair():
    scores = decisions.batch_scores(np.array([[2.0, 2.0, 2.0], [0.0, 1.0, 3.0]]))
    np.testing.assert_allclose(scores, [-0.25, 0.5 * (0.5 + 1 / 3) - 0.5, 0.25])


def test_held_out_shadows_are_scored_by_others_only(game):
    scores_a, scores_b = decisions.held_out("kl", game["a"], game["b"], game["labels"])
    assert np.mean(scores_a) < 0 < np.mean(scores_b)
    own = attacks.kl(game["a"], game["a"], game["b"])
    assert (scores_a > own).all()  # its own copy among the templates would pull it to world 0


def test_too_few_shadows_fall_back_to_the_zero_rule(game):
    few = {**game, "a": game["a"].take([0, 1]), "b": game["b"].take([0, 1])}
    assert decisions.judge("kl", **few).rule == "zero"
    with pytest.raises(ValueError, match="at least 4 a side"):
        decisions.held_out("kl", few["a"], few["b"], game["labels"])


def test_top_half_keeps_the_telling_records(game):
    chosen = attacks.pick_records(game["a"], game["b"], 0.25)
    assert [len(part) for part in chosen] == [15, 15]
    assert np.abs(np.linspace(-1, 1, 120)[chosen[0]]).mean() > 0.7  # the ends differ most


def test_label_only_loses_the_size_of_an_output():
    hard = Probabilities([[0.51, 0.5, 0.49]]).hardened()
    np.testing.assert_allclose(hard.values, [[0.99, 0.99, 0.01]])


def test_the_released_defect_is_only_reached_on_purpose():
    logits = Logits([[-3.0, 0.3, 4.0]])
    np.testing.assert_allclose(as_released(logits).values, [[CLIP, 0.3, 1 - CLIP]])
    np.testing.assert_allclose(logits.probabilities().values, expit(logits.values))
    with pytest.raises(TypeError, match="Logits"):
        as_released(logits.probabilities())
    with pytest.raises(TypeError, match="takes Probabilities, got Logits"):
        Views(logits, logits)
    extreme = Logits([[-1e5, 1e5]]).probabilities()
    np.testing.assert_array_equal(extreme.values, [[0.0, 1.0]])


@pytest.mark.parametrize("values, said", [
    ([[0.2, 1.4]], "record 1 is 1.4"), ([[0.2, np.nan]], "outside"), ([0.2], "shape"),
    (np.zeros((0, 3)), "at least one"), ([["a"]], "numbers")])
def test_bad_probabilities(values, said):
    with pytest.raises(ValueError, match=said):
        Probabilities(np.array(values))


def test_bad_logits_and_mismatches(game):
    with pytest.raises(ValueError, match="finite"):
        Logits([[0.0, np.inf]])
    with pytest.raises(ValueError, match="same probe records"):
        attacks.divergence(Probabilities([[0.2]]), Probabilities([[0.2, 0.3]]))
    with pytest.raises(ValueError, match="unknown attack 'kll'"):
        decisions.judge("kll", **game)
    uneven = {**game, "victims": (game["victims"][0], game["victims"][1].take([0]))}
    with pytest.raises(ValueError, match="balanced"):
        decisions.judge("kl", **uneven)
    with pytest.raises(ValueError, match="labels for"):
        attacks.loss_test(game["victims"][0], (np.zeros(3), np.zeros(3)))
    with pytest.raises(ValueError, match="same models on both"):
        Views(Probabilities([[0.1]]), Probabilities([[0.1], [0.2]]))
    with pytest.raises(ValueError, match="at least two a side"):
        attacks.kl_pairs(game["victims"][0], game["a"].take([0]), game["b"].take([0]),
                         every_pair=False)


def test_folds_may_be_given_and_are_checked(game):
    a, b, labels = game["a"], game["b"], game["labels"]
    fold = np.arange(len(a)) % 2
    scores = decisions.held_out("kl", a, b, labels, fold=fold)
    for k in (0, 1):
        alone = attacks.kl(a.take(fold == k), a.take(fold != k), b.take(fold != k))
        assert np.array_equal(scores[0][fold == k], alone)
    with pytest.raises(ValueError, match="at least two folds"):
        decisions.held_out("kl", a, b, labels, fold=np.zeros(len(a), int))


def test_every_fold_has_its_own_threshold():
    stream, fold = np.random.default_rng(0), np.arange(60) % 2
    shift = np.where(fold == 0, -50.0, 50.0)  # what each half's judges add to all scores
    held = tuple(shift + world + 0.3 * stream.normal(size=60) for world in (-1, 1))
    scores = np.stack([world + 0.3 * stream.normal(size=40) for world in (-1, 1)])
    together, apart = (decisions.answered(scores, held, part) for part in (None, fold))
    assert apart.accuracy().value > 0.95 and together.accuracy().value < 0.6
    same = decisions.answered(scores, held, np.zeros(60, int))
    assert np.array_equal(same.correct["calibrated"], together.correct["calibrated"])


def test_the_best_cut_is_the_calibrated_threshold_on_the_right_side():
    stream = np.random.default_rng(5)
    for _ in range(30):
        a, b = stream.normal(size=20), stream.normal(size=15) + 0.5
        rule = calibrate_threshold(a, b)
        cut = decisions.best_cut(a, b)
        gain = ((a <= cut).mean() + (b > cut).mean()) / 2
        if rule.sign == 1:
            assert gain == pytest.approx(rule.accuracy)
        every = np.concatenate([a, b, [a.min() - 1]])
        assert gain == pytest.approx(max(((a <= at).mean() + (b > at).mean()) / 2 for at in every))
    assert decisions.best_cut(b + 9, a) in (pytest.approx(a.min() - 1), pytest.approx(b.max() + 10))
