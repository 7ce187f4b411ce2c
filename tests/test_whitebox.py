"""White-box attacks on toy networks whose weights move with the world."""

import numpy as np
import pytest
import torch
from torch import nn

from helpers import decisions, whitebox
from helpers.intervals import calibrate_threshold


def networks(count, shift, seed, widths=(5, 8, 4, 1)):
    """Stacked perceptrons, hidden neurons in random order, first weights moved by `shift`."""
    stream = np.random.default_rng(seed)
    weights = {}
    for layer, (inner, outer) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        weight = stream.normal(size=(count, outer, inner)).astype(np.float32)
        if layer == 0:
            weight[:, :, 0] += shift * np.sign(weight[:, :, 1])
        weights[f"{2 * layer}.weight"] = weight
        weights[f"{2 * layer}.bias"] = stream.normal(size=(count, outer)).astype(np.float32)
    return whitebox.layers_of(weights)


@pytest.fixture(scope="module")
def sides():
    return {"a": networks(150, -0.8, 1), "b": networks(150, 0.8, 2)}


RECORDS = np.random.default_rng(9).normal(size=(12, 5)).astype(np.float32)


def right(answers):
    rule = calibrate_threshold(answers.held_a, answers.held_b)
    half = len(answers.victims) // 2
    said = rule.says_b(answers.victims)
    return (~said[:half]).mean() / 2 + said[half:].mean() / 2


def both(count, seed, shift):
    zero, one = networks(count, -shift, seed), networks(count, shift, seed + 1)
    return [tuple(np.concatenate(parts) for parts in zip(x, y, strict=True))
            for x, y in zip(zero, one, strict=True)]


def test_layers_come_in_order_whatever_the_order_of_the_names():
    weights = {name: np.zeros((1, 1, 1)) for name in ("10.weight", "2.weight", "0.weight")}
    weights |= {name.replace("weight", "bias"): np.full((1, 1), float(name.split(".")[0]))
                for name in list(weights)}
    assert [float(bias[0, 0]) for _, bias in whitebox.layers_of(weights)] == [0.0, 2.0, 10.0]


def test_the_invariant_network_ignores_the_order_of_hidden_neurons():
    torch.manual_seed(0)
    net = whitebox._Invariant(5, 3).eval()
    layers = networks(6, 0.0, 3)
    mixed = [tuple(part.copy() for part in layer) for layer in layers]
    order = np.random.default_rng(0).permutation(8)
    mixed[0] = (mixed[0][0][:, order], mixed[0][1][:, order])
    mixed[1] = (mixed[1][0][:, :, order], mixed[1][1])
    plain, other = ([torch.from_numpy(part) for layer in side for part in layer]
                    for side in (layers, mixed))
    torch.testing.assert_close(net(*plain), net(*other), atol=1e-5, rtol=1e-5)
    assert net(*plain).std() > 1e-4


def test_activations_are_torchs():
    layers = networks(2, 0.0, 4)
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1))
    state = {f"{2 * n}.{kind}": torch.from_numpy(part[1]) for n, layer in enumerate(layers)
             for kind, part in zip(("weight", "bias"), layer, strict=True)}
    net.load_state_dict(state)
    found = whitebox.activations_of(layers, RECORDS)
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found[-1][1]),
                                   net(torch.from_numpy(RECORDS)), atol=1e-5, rtol=1e-5)


def test_affinities_are_cosines():
    layer = np.random.default_rng(1).normal(size=(2, 3, 4))
    found = whitebox.affinities([layer])[0]
    x, y = layer[1, 0], layer[1, 2]
    assert found[1, 1] == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-6)


def test_both_attacks_win_where_worlds_differ(sides):
    victims = both(60, 5, 0.8)
    pin = whitebox.permutation_invariant(victims, **sides, epochs=60)
    aga = whitebox.affinity(victims, **sides, records=RECORDS, epochs=30)
    for found in (pin, aga):  # a coin's standard error is .05 for both numbers
        assert right(found) > 0.65 and decisions.auc(*np.split(found.victims, 2)) > 0.66


def test_a_trained_reader_answers_with_the_same_bits(sides):
    victims = both(6, 5, 0.8)
    answers = whitebox.permutation_invariant(victims, **sides, epochs=3)
    found = whitebox.reader(**sides, epochs=3)
    flat = [torch.from_numpy(part) for layer in victims for part in layer]
    np.testing.assert_array_equal(found.log_odds(flat).detach().numpy(), answers.victims)
    np.testing.assert_array_equal(np.concatenate(found.places), np.concatenate(answers.places))


def test_equal_worlds_are_a_coin(sides):
    found = whitebox.permutation_invariant(both(100, 7, 0.0), **sides, epochs=10)
    assert decisions.auc(*np.split(found.victims, 2)) == pytest.approx(0.5, abs=0.145)


def test_the_same_seed_gives_the_same_bits_and_leaves_torchs_generator_alone(sides):
    victims, before = both(5, 5, 0.8), torch.get_rng_state()
    runs = [whitebox.permutation_invariant(victims, **sides, epochs=2, seed=seed).victims
            for seed in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    assert torch.equal(before, torch.get_rng_state())


def test_bad_input(sides):
    few = [tuple(part[:5] for part in layer) for layer in sides["a"]]
    with pytest.raises(ValueError, match="at least 20 a side"):
        whitebox.permutation_invariant(few, few, sides["b"])
    with pytest.raises(ValueError, match="one architecture"):
        whitebox.permutation_invariant(networks(3, 0, 1, (5, 6, 1)), **sides)


def test_a_ratio_is_read_off_the_weights():
    shadows = {ratio: networks(60, 3 * (ratio - 0.5), 20 + round(10 * ratio))
               for ratio in (0.0, 0.5, 1.0)}
    victims = both(30, 40, 1.5)
    before = torch.get_rng_state()
    found, again = (whitebox.ratio_from_weights(victims, shadows, epochs=60) for _ in range(2))
    assert found.victims.shape == (60,) and found.held.shape == found.wanted.shape == (45,)
    assert np.unique(found.wanted, return_counts=True)[1].tolist() == [15] * 3
    zero, one = found.victims[:30], found.victims[30:]
    assert zero.mean() < 0.4 and one.mean() > 0.6 and decisions.auc(zero, one) > 0.8
    assert np.mean((found.held - found.wanted) ** 2) < 0.8 * np.var(found.wanted)
    np.testing.assert_array_equal(found.victims, again.victims)
    assert torch.equal(before, torch.get_rng_state())


def test_a_ratio_needs_shadows_of_one_architecture_at_two_ratios():
    few, other = networks(5, 0.0, 1), networks(30, 0.0, 1, (5, 6, 1))
    for shadows, said in (({0.0: few, 1.0: few}, "at least 20"),
                          ({0.0: networks(30, 0.0, 1)}, "two ratios"),
                          ({0.0: other, 1.0: networks(30, 0.0, 1)}, "one architecture")):
        with pytest.raises(ValueError, match=said):
            whitebox.ratio_from_weights(few, shadows)
