"""Attacks on samples, in a world of exact scores where the answer is known.

Records come from a mixture of two unit Gaussians, 5 apart on the first of four axes; the second
has the property. A model is the exact denoiser of the mixture fitted to 2000 records of its own.
The flow of the true law is known as well: on the first axis it keeps quantiles.
"""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.spatial.distance import cdist, pdist
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from helpers import attacks, shared_noise
from helpers.gaussians import Mixture
from helpers.noise import generator, noise
from helpers.outputs import Probabilities
from helpers.readers import Reader
from helpers.sampling import sample
from helpers.shared_noise import EVIDENCE, FRESH, Tools, evidence, telling

torch.set_num_threads(1)
D, FAR, N, NOISES, VICTIMS = 4, 2.5, 2000, 300, 30
RATIOS = (0.5, 0.4)
LEARNT = ("fresh classifier", "shared classifier")
EXACT = [name for name in EVIDENCE if name not in LEARNT]  # a network's start knows an order
SAME = [name for name in EVIDENCE if name not in FRESH and not name.startswith("permuted")]


class Laws(NamedTuple):
    """Mixtures: weights [M, 2], means [M, 2, D], variances [M, 2, D]."""

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray


def fitted(ratio, count, *name) -> Laws:
    """Mixtures fitted to `count` sets of N records, drawn at a ratio."""
    stream = generator("test/mixture", round(100 * ratio), *name)
    has = stream.random((count, N)) < ratio
    x = stream.standard_normal((count, N, D))
    x[..., 0] += np.where(has, FAR, -FAR)
    part = np.stack([~has, has], axis=1)[..., None]
    means = (part * x[:, None]).sum(2) / part.sum(2)
    squares = (part * (x[:, None] - means[:, :, None]) ** 2).sum(2)
    return Laws(part.mean(2)[..., 0], means, squares / part.sum(2))


def exact(laws: Laws):
    """The posterior means of all laws at once, ``D(x [M, n, D], sigma)``."""
    weights, means, variances = (torch.from_numpy(part) for part in laws)

    def call(x, sigma):
        total = (variances + sigma**2)[:, None]
        gap = x[:, :, None] - means[:, None]
        logs = weights.log()[:, None] - 0.5 * (gap**2 / total + total.log()).sum(-1)
        mean = means[:, None] + variances[:, None] / total * gap
        return (torch.softmax(logs, -1)[..., None] * mean).sum(2)

    return call


def drawn(laws: Laws, start: np.ndarray) -> np.ndarray:
    start = np.broadcast_to(start, (len(laws.means), *start.shape[-2:]))
    return sample(exact(laws), torch.from_numpy(start.copy())).to(torch.float32).numpy()


def groups(ratios, victims, noises, seed):
    """Samples of victims and shadows (10 a side): of one bank, and of noises of their own."""
    laws = [fitted(ratio, count, seed, i) for i, (ratio, count) in enumerate(
        zip((*ratios, *ratios), (victims, victims, 10, 10), strict=True))]
    own = [noise(range(noises * len(part.means)), (D,), 10 * seed + i, "own").reshape(-1, noises, D)
           for i, part in enumerate(laws)]
    bank = noise(range(noises), (D,), seed)
    return tuple([drawn(part, start) for part, start in zip(laws, starts, strict=True)]
                 for starts in ([bank] * 4, own))


def first_axis(slope=2.0) -> Reader:
    """A reader whose log-odds are ``slope * x[0]``."""
    inner, outer = np.zeros((D, 2), np.float32), np.array([[slope], [-slope]], np.float32)
    inner[0] = 1, -1
    return Reader(((inner, np.zeros(2, np.float32)), (outer, np.zeros(1, np.float32))))


TOOLS = Tools(first_axis(), RATIOS)


@pytest.fixture(scope="module")
def world():
    """Samples of the bank and of own noises: victims of .5 and .4, shadows of .5 and .4."""
    return groups(RATIOS, VICTIMS, NOISES, 1)


@pytest.fixture(scope="module")
def equal():
    """The same with one ratio, and more victims."""
    return groups((0.5, 0.5), 100, 60, 2)


@pytest.fixture(scope="module")
def found(world):
    """Evidence of every attack on the victims of the two worlds."""
    return {name: played(name, world) for name in EVIDENCE}


@pytest.fixture
def few():
    """Samples of no law: three victims, four and five shadows, seven noises."""
    stream = np.random.default_rng(0)
    return [stream.normal(shift, 1, (count, 7, D)).astype(np.float32)
            for count, shift in ((3, 0.2), (4, 0.0), (5, 0.5))]


def played(name, both, tools=TOOLS):
    part = both[1] if name in FRESH else both[0]
    return evidence(name, np.concatenate(part[:2]), part[2], part[3], tools)


def judged(found, count):
    """Accuracy of the zero rule and area under the curve, mean over disjoint sets of noises."""
    half = len(found) // 2
    scores = found.reshape(2 * half, -1, count).mean(2)
    right = ((scores[:half] <= 0).mean(0) + (scores[half:] > 0).mean(0)) / 2
    truth = np.repeat([0, 1], half)
    return right.mean(), np.mean([roc_auc_score(truth, one) for one in scores.T])


# --- what theory says ------------------------------------------------------------------------


def shown(ratio):
    """Share of samples with a positive first value."""
    return ratio * norm.cdf(FAR) + (1 - ratio) * norm.cdf(-FAR)


def counted(count):
    """Accuracy and area of counting `count` fresh samples, and each one's standard error.

    A victim's count varies with its samples and with the share among its N records, which its
    ``NOISES / count`` sets of noises have in common.
    """
    fresh, own = (np.mean([spread(a) for a in RATIOS]) for spread in (
        lambda a: shown(a) * (1 - shown(a)) / count, lambda a: a * (1 - a) / N))
    gap, sd = shown(RATIOS[0]) - shown(RATIOS[1]), np.sqrt(fresh + own)
    right, area = norm.cdf(gap / 2 / sd), norm.cdf(gap / sd / 2**0.5)
    sets = NOISES // count
    share = np.sqrt((1 + (sets - 1) * own / sd**2) / sets)
    return (right, np.sqrt(right * (1 - right) / (2 * VICTIMS)) * share,
            area, np.sqrt((2 * VICTIMS + 1) / 12) / VICTIMS * share)


def between() -> np.ndarray:
    """Noises that the two true laws send to different components.

    In one dimension the flow keeps quantiles: from the law at noise level 80, where the start is
    taken from N(0, 80^2), to the data.
    """
    cuts = []
    for ratio in RATIOS:
        def start(x, ratio=ratio):
            low, high = norm.cdf((x + FAR) / 80.00625), norm.cdf((x - FAR) / 80.00625)
            return (1 - ratio) * low + ratio * high - (1 - shown(ratio))

        cuts.append(brentq(start, -300, 300) / 80)
    bank = noise(range(NOISES), (D,), 1)[:, 0]
    return (bank > min(cuts)) != (bank > max(cuts))


def test_the_denoisers_are_exact():
    laws, x = fitted(0.4, 3), torch.from_numpy(noise(range(20), (3, D)).copy()).double()
    x = 4 * x.transpose(0, 1)
    for sigma in (0.05, 1.0, 30.0):
        found = exact(laws)(x, torch.tensor(sigma))
        for i, (weights, means, variances) in enumerate(zip(*laws, strict=True)):
            other = Mixture(torch.from_numpy(weights), torch.from_numpy(means).view(2, D, 1, 1),
                            torch.stack([torch.diag(torch.from_numpy(v)) for v in variances]))
            assert torch.allclose(found[i], other(x[i].view(-1, D, 1, 1), sigma).view(-1, D))


def test_models_send_noises_where_the_flow_of_the_true_law_does(world):
    has = [part[..., 0] > 0 for part in world[0]]
    moved = np.abs(has[2].mean(0) - has[3].mean(0)) > 0.5
    assert moved.mean() == pytest.approx(0.1, abs=0.05)
    assert (moved == between()).mean() > 0.98
    for part, ratio in zip(world[1], (*RATIOS, *RATIOS), strict=True):
        assert (part[..., 0] > 0).mean() == pytest.approx(
            shown(ratio), abs=4 * np.sqrt(0.25 / (len(part) * NOISES) + 0.25 / (len(part) * N)))


# --- every attack finds the worlds -----------------------------------------------------------


@pytest.mark.parametrize("count", [10, 30, 100, 300])
@pytest.mark.parametrize("name", ["fresh nominal", "fresh counting"])
def test_counting_is_as_good_as_theory_says(name, count, found):
    right, error, area, spread = counted(count)
    seen = judged(found[name], count)
    assert seen[0] == pytest.approx(right, abs=3.5 * error)
    assert seen[1] == pytest.approx(area, abs=3.5 * spread)


@pytest.mark.parametrize("name", ["fresh MMD", "fresh classifier"])
def test_no_fresh_attack_beats_counting_by_much(name, found):
    """The laws differ in the share alone, so counting is the best test but for reading errors."""
    for count in (30, 100, 300):
        _, _, area, error = counted(count)
        loss = 0.15 if name in LEARNT else 0.0  # a network trained on 6000 samples
        seen = judged(found[name], count)[1]
        assert area - loss - 3.5 * error < seen < area + 3.5 * error
    assert seen > 0.85


@pytest.mark.parametrize("name", SAME)
def test_attacks_on_shared_noises_beat_counting(name, found):
    """One noise between the two laws' cuts is enough: chance is left where a set has none."""
    for count in (30, 100):
        known = between().reshape(-1, count).any(1)
        right = judged(found[name], count)[1]
        assert right > (1 + known.mean()) / 2 - 0.05
        assert right > counted(count)[2] + 0.08
    right, area = judged(found[name], 300)
    assert area > 0.99
    if not name.startswith("shared"):  # theirs is a threshold that shadows have to tell
        assert right > 0.95


@pytest.mark.parametrize("name", ["paired pixels", "likelihood ratio", "paired descriptor",
                                  "paired KL", "shared classifier"])
def test_what_does_not_flip_tells_too(name, found):
    """Noises of one component move within it, so ten of them tell more than flips can."""
    assert judged(found[name], 10)[1] > 0.95
    assert judged(found["paired flips"], 10)[1] < 0.9


@pytest.mark.parametrize("name", ["permuted pixels", "permuted ratio"])
def test_permuted_noises_fall_to_the_fresh_level(name, world, found):
    for count in (10, 30, 100):
        _, _, area, error = counted(count)
        assert judged(found[name], count)[1] < area + 3.5 * error
    assert judged(found[name], 30)[1] < 0.8  # .78 for counting
    plain = {"permuted pixels": "paired pixels", "permuted ratio": "likelihood ratio"}[name]
    assert judged(found[plain], 30)[1] > 0.99
    np.testing.assert_array_equal(found[name], played(name, world))


@pytest.mark.parametrize("name", EVIDENCE)
def test_equal_worlds_are_a_coin(name, equal):
    found = played(name, equal, Tools(first_axis(), (0.5, 0.5)))
    right, area = judged(found, 60)
    assert right == pytest.approx(0.5, abs=3.5 * 0.5 / 200**0.5)
    assert area == pytest.approx(0.5, abs=3.5 * (201 / 12) ** 0.5 / 100)


def test_chosen_noises_are_those_between_the_cuts(world, found):
    order = np.argsort(-telling(*world[0][2:], TOOLS))
    near = between()
    assert near[order[: near.sum()]].mean() > 0.8 and not near[order[-NOISES // 2:]].any()
    for name in ("chosen pixels", "chosen ratio"):
        best, worst = (judged(found[name][:, some], 3)[1] for some in (order[:3], order[-3:]))
        assert best > 0.99 and best > worst


# --- symmetries ------------------------------------------------------------------------------


def close(name, found, wanted):
    """Equal but for rounding; MMD's kernel has the median of 200 distances picked by place.

    They spread by nearly a half of it, so its standard error is 1.25 * .45 / 200^.5, 4 per cent.
    """
    slack = 0.1 if name == "fresh MMD" else 1e-4
    np.testing.assert_allclose(found, wanted, atol=slack * np.abs(wanted).max())


@pytest.mark.parametrize("name", EXACT)
def test_swapping_worlds_flips_the_evidence(name, world, few):
    part = world[1] if name in FRESH else world[0]
    victims = part[0][:8]
    found = evidence(name, victims, part[2], part[3], TOOLS)
    other = evidence(name, victims, part[3], part[2], Tools(TOOLS.reader, RATIOS[::-1]))
    close(name, other, -found)
    found = evidence(name, *few, TOOLS)
    other = evidence(name, few[0], few[2], few[1], Tools(TOOLS.reader, RATIOS[::-1]))
    np.testing.assert_allclose(other, -found, atol=1e-5 * np.abs(found).max())


@pytest.mark.parametrize("name", EXACT)
def test_the_order_of_shadows_changes_nothing(name, world, few):
    part = world[1] if name in FRESH else world[0]
    victims, order = part[1][:8], np.random.default_rng(0).permutation(10)
    found = evidence(name, victims, part[2], part[3], TOOLS)
    other = evidence(name, victims, part[2][order], part[3][order[::-1]], TOOLS)
    close(name, other, found)
    found = evidence(name, *few, TOOLS)
    other = evidence(name, few[0], few[1][[2, 0, 3, 1]], few[2][::-1], TOOLS)
    np.testing.assert_allclose(other, found, atol=1e-5 * np.abs(found).max())


@pytest.mark.parametrize("name", EVIDENCE)
def test_a_victim_is_judged_by_itself(name, few):
    found, alone = (evidence(name, few[0][:count], *few[1:], TOOLS) for count in (3, 1))
    np.testing.assert_allclose(alone[0], found[0], atol=1e-5 * np.abs(found).max())


@pytest.mark.parametrize("name", [name for name in EXACT if not name.startswith("permuted")])
def test_noises_may_come_in_any_order(name, few):
    order = np.random.default_rng(1).permutation(7)
    found, other = (evidence(name, *(part[:, some] for part in few), TOOLS)
                    for some in (np.arange(7), order))
    np.testing.assert_allclose(other, found[:, order], atol=1e-4 * np.abs(found).max())
    assert found.shape == (3, 7) and np.isfinite(found).all()


# --- each attack against another way to compute it -------------------------------------------


def test_nominal_is_a_count_by_hand(few):
    victims, a, b = few
    for ratios, sign in ((RATIOS, -1), ((0.2, 0.9), 1)):
        found = evidence("fresh nominal", victims, a, b, Tools(first_axis(), ratios))
        for model in range(3):
            positive = sum(float(value) > 0 for value in victims[model, :, 0])
            assert found[model].mean() == pytest.approx(
                sign * (positive / 7 - sum(ratios) / 2), abs=1e-6)
        assert set(np.round(np.unique(found), 6)) == {
            round(sign * (value - sum(ratios) / 2), 6) for value in (0, 1)}


@pytest.mark.parametrize("name", ["fresh counting", "shared counting"])
def test_counting_is_against_the_shadows_middle(name, few):
    victims, a, b = few
    found = evidence(name, victims, a[:, :5], b, Tools(first_axis(), (0.2, 0.9)))
    middle = ((a[:, :5, 0] > 0).mean() + (b[..., 0] > 0).mean()) / 2
    np.testing.assert_allclose(found, (victims[..., 0] > 0) - middle, atol=1e-6)


def dense(victims, a, b, width):
    """Difference of the squared kernel distances to a and to b, for every sample."""
    def kernel(x, y):
        return np.exp(-cdist(x, y, "sqeuclidean") / (2 * width**2))

    a, b = (part.reshape(-1, D).astype(np.float64) for part in (a, b))
    flat = victims.reshape(-1, D)
    own = kernel(a, a).mean() - kernel(b, b).mean()
    return (own + 2 * (kernel(flat, b).mean(1) - kernel(flat, a).mean(1))).reshape(
        victims.shape[:2])


def test_mmd_is_the_difference_of_two_kernel_distances(few, monkeypatch):
    """Half of it, up to 1 / sqrt(features): each of them is a cosine of at most 1."""
    monkeypatch.setattr(shared_noise, "FEATURES", 40_000)
    victims, a, b = few
    pool = np.concatenate([a, b]).reshape(-1, D)
    width = np.median(np.linalg.norm(pool - pool.mean(0), axis=1))
    found = 2 * evidence("fresh MMD", victims, a, b, TOOLS)
    wanted = dense(victims, a, b, width)
    assert np.abs(found - wanted).max() < 4 / 40_000**0.5 < 0.2 * np.abs(wanted).max()
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.99


def test_mmd_takes_the_median_distance_of_many_samples(world):
    part = [group[:5, :60] for group in world[1]]
    width = np.median(pdist(np.concatenate(part[2:]).reshape(-1, D)))
    found, wanted = 2 * evidence("fresh MMD", *part[1:], TOOLS), dense(*part[1:], width)
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.97
    assert np.abs(found - wanted).max() < 4 / 512**0.5
    assert found.std() == pytest.approx(wanted.std(), rel=0.25)


def test_pixels_by_a_loop(few):
    victims, a, b = few
    for name in ("paired pixels", "chosen pixels"):
        found = evidence(name, victims, a, b, TOOLS)
        for v in range(3):
            for i in range(7):
                far = [np.mean([sum(abs(float(x) - float(y)) for x, y in
                                    zip(victims[v, i], one[i], strict=True)) / D for one in side])
                       for side in (a, b)]
                assert found[v, i] == pytest.approx(far[0] - far[1], abs=1e-5)


def test_flips_and_descriptors_by_a_loop(few):
    victims, a, b = few
    stream = np.random.default_rng(5)
    layers = [(stream.normal(size=(D, 6)).astype(np.float32), stream.normal(size=6)),
              (stream.normal(size=(6, 1)).astype(np.float32), stream.normal(size=1))]
    tools = Tools(Reader(tuple(layers)), RATIOS, 0.5, 0.3)

    def hidden(x):
        return np.maximum(layers[0][0].T @ (0.5 * x + 0.3) + layers[0][1], 0)

    def has(x):
        return float(layers[1][0][:, 0] @ hidden(x) + layers[1][1][0]) > 0

    flips, near = (evidence(f"paired {what}", *few, tools) for what in ("flips", "descriptor"))
    for v in range(3):
        for i in range(7):
            x = victims[v, i]
            wanted = [np.mean([has(x) != has(one[i]) for one in side]) for side in (a, b)]
            assert flips[v, i] == pytest.approx(wanted[0] - wanted[1], abs=1e-6)
            wanted = [np.mean([np.linalg.norm(hidden(x) - hidden(one[i])) for one in side])
                      for side in (a, b)]
            assert near[v, i] == pytest.approx(wanted[0] - wanted[1], abs=1e-5)


def test_divergence_is_that_of_the_attack_on_classifiers(few):
    few[0][0, 0, 0] = 40.0  # a probability of one, which is clipped
    found = evidence("paired KL", *few, TOOLS)
    seen = [expit(2 * part[..., 0].astype(np.float64)) for part in few]
    for i in range(7):
        v, a, b = (Probabilities(part[:, i : i + 1]) for part in seen)
        wanted = attacks.divergence(a, v).mean(0) - attacks.divergence(b, v).mean(0)
        np.testing.assert_allclose(found[:, i], wanted, rtol=1e-4, atol=1e-5)


def test_likelihood_ratio_is_scipys(few):
    """Mean over values and hidden units, of the log-density under b less that under a."""
    found = evidence("likelihood ratio", *few, TOOLS)
    v, a, b = (np.concatenate([part, np.maximum(part[..., :1], 0), np.maximum(-part[..., :1], 0)],
                              axis=2).astype(np.float64) for part in few)
    own = (a.var(0, ddof=1) + b.var(0, ddof=1)) / 2
    scale = np.sqrt(own / 2 + own.mean(0) / 2)
    wanted = norm.logpdf(v, b.mean(0), scale) - norm.logpdf(v, a.mean(0), scale)
    np.testing.assert_allclose(found, wanted.mean(2), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found, evidence("chosen ratio", *few, TOOLS))
    one = evidence("likelihood ratio", few[0], few[1][:1], few[2][:1], TOOLS)
    assert np.isfinite(one).all()  # one shadow a side has no spread


def test_learnt_evidence_follows_the_log_odds_of_the_two_laws():
    """At shares .2 and .8 a sample's log-odds are those of its component, log 4 either way.

    The network stops when it tells no more samples apart, before it is as sure as it might be.
    """
    stream = np.random.default_rng(2)

    def law(share, models):
        x = stream.normal(size=(models, 300, D)).astype(np.float32)
        x[..., 0] += np.where(stream.random((models, 300)) < share, FAR, -FAR)
        return x

    victims, a, b = law(0.5, 5), law(0.2, 10), law(0.8, 10)
    found, shared = (evidence(name, victims, a, b, TOOLS) for name in LEARNT)
    np.testing.assert_array_equal(shared, found)
    for side, sign in ((victims[..., 0] > 0, 1), (victims[..., 0] < 0, -1)):
        assert 0.3 < sign * np.mean(found[side]) / np.log(4) < 1.2
    assert np.corrcoef(found.ravel(), victims[..., 0].ravel() > 0)[0, 1] > 0.9
    swapped, mixed = (evidence("fresh classifier", victims, *sides, TOOLS)
                      for sides in ((b, a), (a[::-1], b)))
    assert np.corrcoef(found.ravel(), swapped.ravel())[0, 1] < -0.9
    assert np.corrcoef(found.ravel(), mixed.ravel())[0, 1] > 0.9
    a[..., 0], b[..., 0] = -FAR, FAR  # and laws that have nothing in common
    found = evidence("fresh classifier", np.concatenate([a[:1], b[:1]]), a, b, TOOLS)
    assert (found[0] < 0).all() and (found[1] > 0).all()


def test_telling_is_the_gap_in_units_of_the_spread():
    """Nine noises with gaps of 0 to 8 on one axis, spread 1; the tenth's spread is 11."""
    blind = Reader(((np.zeros((1, 2), np.float32), np.zeros(2, np.float32)),
                    (np.ones((2, 1), np.float32), np.zeros(1, np.float32))))
    spread = np.r_[np.ones(9), 11.0]
    a = (np.array([-1.0, 0.0, 1.0])[:, None] * spread)[..., None].astype(np.float32)
    b = a + np.r_[np.arange(9), 8.0].astype(np.float32)[:, None]
    found = telling(a, b, Tools(blind, RATIOS))
    whole = (9 + 121) / 10
    wanted = np.r_[np.arange(9), 8.0] ** 2 / (spread**2 / 2 + whole / 2) / 3  # of three values
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert np.argsort(-found, kind="stable").tolist() == [8, 7, 6, 5, 4, 3, 9, 2, 1, 0]
    np.testing.assert_allclose(telling(b, a, Tools(blind, RATIOS)), found)


# --- tools and errors ------------------------------------------------------------------------


def test_grey_levels_are_brought_to_the_readers_scale(few):
    grey = [127.5 * (part + 1) for part in few]
    tools = Tools(TOOLS.reader, RATIOS, 1 / 127.5, -1.0)
    for name in ("fresh counting", "paired flips", "paired KL", "paired descriptor"):
        np.testing.assert_allclose(evidence(name, *grey, tools), evidence(name, *few, TOOLS),
                                   rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(evidence("paired pixels", *grey, tools),
                               127.5 * evidence("paired pixels", *few, TOOLS), atol=1e-2)
    assert (Tools(TOOLS.reader, (0.3, 0.5)).sign, TOOLS.sign) == (1.0, -1.0)


def test_what_does_not_fit_is_refused(few):
    victims, a, b = few
    with pytest.raises(ValueError, match="unknown attack 'paired pixel'; known: fresh nominal, "):
        evidence("paired pixel", victims, a, b, TOOLS)
    for wrong in ((victims[0], a, b), (victims, a[..., :3], b), (victims, a, b[:0]),
                  (victims[:, :0], a, b)):
        with pytest.raises(ValueError, match=r"samples of shape \(.*need \[models, noises, 4\]"):
            evidence("fresh counting", *wrong, TOOLS)
    for name in EVIDENCE:
        if name in FRESH or name.startswith("shared"):
            assert evidence(name, victims, a[:, :5], b[:, :5], TOOLS).shape == (3, 7)
        else:
            with pytest.raises(ValueError, match=f"{name}: 7 noises of the victims, 5 and 6 of the "
                               "shadows; it pairs them"):
                evidence(name, victims, a[:, :5], b[:, :6], TOOLS)
