"""Distribution-inference attacks against what amuletml 0.6.0 and propinfer 1.3.0 answer.

`tests/oracles/make.py` ran both libraries once, in an environment of its own, on toy models; the
inputs and the answers lie beside it. Quirks that a comparison has to account for:

- amulet reads the logit of class 0 of a two-output network and takes a sigmoid of it. That is the
  probability of a class only where the other logit is 0 (case ``tied``: the proper probabilities
  agree); in the case ``free`` ours are fed ``expit(class-0 logit)``.
- amulet always keeps half of the records, by the mean over i of |log-odds(A_i) - log-odds(B_i)|,
  which depends on the order of the shadows; `attacks.pick_records` takes |mean - mean|. They are
  the same for one shadow a side. amulet rounds half a record down, and adds 1e-4 to both
  probabilities in a log-odds where ours are clipped; the sets have even sizes.
- amulet draws 80 % of the pairs i < j with numpy's global generator; the draws were recorded.
- amulet cuts scores at >= 1/2, the batch rule at >= 0 once 1/2 is taken off.
- propinfer returns the accuracy over its targets, so every victim was the only target of a run.
- propinfer's labels are an argmax (1/2 is class 0); `Probabilities.labels` says class 1 from 1/2
  on. No toy output is 1/2.
- propinfer's threshold test uses all records, the probe set on which the worlds' accuracies differ
  most, and the first of the best thresholds on a grid of 0.01. Ours tries shares of the records,
  takes the set that splits the shadows best, and the middle one of the best thresholds.

Not comparable, hence not compared: the point-wise test, the label-only KL attack, voting, the
zero and the calibrated rule and the affinity graph attack have no counterpart in either library;
Zhang's network is (20, 8) on fixed records here and (128, 64) on a random draw of them, without a
seed, in propinfer; trained white-box attacks depend on the training. Their untrained networks are
compared where they are the same function: for one layer. Beyond it they differ, see the last test.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import expit

from helpers import attacks, decisions, whitebox
from helpers.attacks import Views
from helpers.intervals import calibrate_threshold
from helpers.outputs import CLIP, Logits, Probabilities

FOLDER = Path(__file__).resolve().parent / "oracles"
SETS = (0, 1)
ROLES = ("victims_0", "victims_1", "a", "b")
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def opened(name):
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


AMULET, PROPINFER = opened("amulet"), opened("propinfer")


def views(case, output=0):
    """Views of the toy models as amulet sees them: a sigmoid of one logit."""
    return {role: Views(*(Probabilities(expit(AMULET[f"{case}_{role}_{place}"][..., output]))
                          for place in SETS)) for role in ROLES}


def chosen(case, kind="records"):
    return [AMULET[f"{case}_{kind}_{place}"] for place in SETS]


def halved(case, shown):
    return {role: part.records(chosen(case)) for role, part in shown.items()}


def both_worlds(shown, compare=attacks.kl_pairs, **options):
    return np.concatenate([compare(shown[role], shown["a"], shown["b"], **options)
                           for role in ("victims_0", "victims_1")], axis=1)


def picked(case, pairs):
    """Rows of the pairs that amulet drew: 80 % for each probe set."""
    count = len(pairs) // 2
    picks = [pick[: int(0.8 * count)] for pick in chosen(case, "pick")]
    return np.concatenate([pairs[:count][picks[0]], pairs[count:][picks[1]]])


def test_the_files_name_the_versions():
    assert {"amuletml 0.6.0", "numpy 1.26.4"} <= set(AMULET["versions"])
    assert {"propinfer 1.3.0", "scikit-learn 1.8.0"} <= set(PROPINFER["versions"])


@pytest.mark.parametrize("case", ["free", "tied"])
def test_kl_pairs_are_amulets(case):
    shown = halved(case, views(case))
    beyond = [np.abs(part.values - 0.5).max() > 0.5 - CLIP for part in shown["a"]]
    assert any(beyond) == (case == "free")  # the clip is compared too
    found = picked(case, both_worlds(shown, every_pair=False))
    wanted = np.concatenate(chosen(case, "pairs"))
    np.testing.assert_allclose(found, wanted, **CLOSE)


@pytest.mark.parametrize("case", ["free", "tied"])
def test_batch_rule_is_amulets(case):
    pairs = picked(case, both_worlds(halved(case, views(case)), every_pair=False))
    scores = decisions.batch_scores(pairs)
    np.testing.assert_allclose(scores + 0.5, AMULET[f"{case}_scores"], **CLOSE)
    assert np.abs(scores).min() > 1e-6  # no answer hangs on the last bit
    assert decisions.auc(*np.split(scores, 2)) == pytest.approx(float(AMULET[f"{case}_auc"]))


@pytest.mark.parametrize("case", ["free", "tied"])
def test_judge_by_the_batch_rule_is_right_as_often_as_amulet(case, monkeypatch):
    """The whole way, with amulet's draws of pairs in place of our own."""
    picks = chosen(case, "pick")
    monkeypatch.setattr(attacks, "generator", lambda name, seed, place: SimpleNamespace(
        permutation=lambda kept: kept[picks[place]]))
    shown = halved(case, views(case))
    labels = [np.zeros(len(part), bool) for part in chosen(case)]
    found = decisions.judge("kl", (shown["victims_0"], shown["victims_1"]), shown["a"], shown["b"],
                            labels, batch=True)
    wanted = float(AMULET[f"{case}_accuracy"])
    assert 0.5 < wanted < 1 and found.correct["batch"].mean() == wanted
    np.testing.assert_array_equal(found.correct["batch"],
                                  (AMULET[f"{case}_scores"].reshape(2, -1) >= 0.5)
                                  == decisions.TRUTH)


def test_proper_probabilities_agree_where_amulets_logit_is_one():
    """With the other logit at 0 class 1 has probability 1 - sigmoid(logit); KL takes either."""
    shown = {role: Views(*(Logits(logits[..., 1] - logits[..., 0]).probabilities() for logits in (
        AMULET[f"tied_{role}_{place}"] for place in SETS))) for role in ROLES}
    pairs = picked("tied", both_worlds(halved("tied", shown), every_pair=False))
    np.testing.assert_allclose(decisions.batch_scores(pairs) + 0.5, AMULET["tied_scores"], **CLOSE)


def backwards(victims, a, b):
    """All pairs i < j with the victim first: the wrong direction."""
    rows = []
    for seen, of_a, of_b in zip(victims, a, b, strict=True):
        i, j = np.triu_indices(len(a), 1)
        rows.append(attacks.divergence(seen, of_a).T[i] - attacks.divergence(seen, of_b).T[j])
    return np.concatenate(rows)


def proper(case):
    return {role: Views(*(Logits(np.subtract(*AMULET[f"{case}_{role}_{place}"].T[::-1]).T)
                          .probabilities() for place in SETS)) for role in ROLES}


WRONG = {
    "victim first": lambda: picked("free", both_worlds(halved("free", views("free")), backwards)),
    "class 1": lambda: picked("free", both_worlds(halved("free", views("free", 1)),
                                                  every_pair=False)),
    "softmax": lambda: picked("free", both_worlds(halved("free", proper("free")),
                                                  every_pair=False)),
    "all records": lambda: picked("free", both_worlds(views("free"), every_pair=False)),
    "every pair": lambda: both_worlds(halved("free", views("free"))),
    "no draw": lambda: both_worlds(halved("free", views("free")), every_pair=False),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_comparison_can_fail(name):
    scores = decisions.batch_scores(WRONG[name]()) + 0.5
    assert np.abs(scores - AMULET["free_scores"]).max() > 1e-3


def test_each_world_scaled_by_itself_is_not_amulets_batch_rule():
    pairs = picked("free", both_worlds(halved("free", views("free")), every_pair=False))
    alone = np.concatenate([decisions.batch_scores(part) for part in np.split(pairs, 2, axis=1)])
    assert np.abs(alone + 0.5 - AMULET["free_scores"]).max() > 0.01


def test_records_picked_are_amulets_for_one_shadow_a_side():
    shown = views("tied")
    found = attacks.pick_records(shown["a"].take([0]), shown["b"].take([0]))
    for ours, theirs in zip(found, chosen("tied", "lone_records"), strict=True):
        np.testing.assert_array_equal(ours, np.sort(theirs))


def test_records_picked_for_more_shadows_differ_by_the_order_of_mean_and_size():
    shown = views("tied")
    found = attacks.pick_records(shown["a"], shown["b"])
    pairs = zip(found, chosen("tied"), shown["a"], shown["b"], strict=True)
    for ours, theirs, of_a, of_b in pairs:
        assert set(ours) != set(theirs) and len(ours) == len(theirs)
        size_first = np.abs(of_a.log_odds() - of_b.log_odds()).mean(0)
        np.testing.assert_array_equal(np.sort(np.argsort(-size_first)[: len(ours)]),
                                      np.sort(theirs))


def probes(game):
    shown = {role: Views(*(Probabilities(PROPINFER[f"{game}_{role}_{place}"]) for place in SETS))
             for role in ("a", "b", "victims", "ladder")}
    return shown, tuple(PROPINFER[f"{game}_labels_{place}"] for place in SETS)


@pytest.mark.parametrize("game", ["up", "turned"])
@pytest.mark.parametrize("role", ["victims", "ladder"])
def test_loss_test_is_propinfers(game, role):
    """Both say world 0 in a tie: the first victim's, and the ladder's lowest rung."""
    shown, labels = probes(game)
    scores, said = attacks.loss_test(shown[role], labels), PROPINFER[f"{game}_{role}_loss"]
    np.testing.assert_array_equal(scores > 0, said)
    assert scores[0] == 0 and not said[0]
    assert role == "ladder" or 0 < said.sum() < len(said)  # a sign turned round would not pass


def accuracies(game, role, place):
    shown, labels = probes(game)
    return ((list(shown[role])[place].values > 0.5) == labels[place]).mean(1)


@pytest.mark.parametrize("game, sign", [("up", 1), ("turned", -1)])
def test_threshold_test_is_propinfers_up_to_equally_good_thresholds(game, sign):
    """The ladder has a victim of every possible accuracy, so it shows propinfer's threshold."""
    shown, labels = probes(game)
    ladder, rungs = PROPINFER[f"{game}_ladder_threshold"], len(labels[1])
    said = {role: ladder[np.rint(accuracies(game, role, 1) * rungs).astype(int)]
            for role in ("a", "b", "victims")}
    np.testing.assert_array_equal(said["victims"], PROPINFER[f"{game}_victims_threshold"])

    rule = calibrate_threshold(accuracies(game, "a", 1), accuracies(game, "b", 1))
    assert rule.sign == sign
    assert rule.accuracy == pytest.approx((1 - said["a"].mean() + said["b"].mean()) / 2)

    (step,) = np.flatnonzero(np.diff(ladder))  # answers change above this rung
    theirs = (step + 0.5) / rungs
    ends = sorted([theirs, rule.threshold])
    for role in ("victims", "ladder"):
        own = accuracies(game, role, 1)
        clear = (own < ends[0]) | (own > ends[1])
        found = attacks.threshold_test(shown[role], shown["a"], shown["b"], labels, (1.0,)) > 0
        np.testing.assert_array_equal(found[clear], PROPINFER[f"{game}_{role}_threshold"][clear])
        assert clear.mean() > 0.75 and 0 < found[clear].sum() < clear.sum()


def test_the_threshold_between_equally_good_ones_is_not_propinfers():
    """Why the test above leaves victims out: propinfer takes the first, ours the middle one."""
    shown, labels = probes("turned")
    found = attacks.threshold_test(shown["victims"], shown["a"], shown["b"], labels, (1.0,)) > 0
    assert (found != PROPINFER["turned_victims_threshold"]).sum() == 3
    turned = attacks.threshold_test(shown["ladder"], shown["a"], shown["b"], labels, (1.0,)) < 0
    assert (turned != PROPINFER["turned_ladder_threshold"]).mean() > 0.9  # the side is compared


def layers(file, prefix):
    names = [name.removeprefix(f"{prefix}_") for name in file if name.startswith(f"{prefix}_")]
    return whitebox.layers_of({name: file[f"{prefix}_{name}"] for name in names
                               if name.endswith(("weight", "bias"))})


def tensors(sides):
    return [torch.from_numpy(part) for layer in sides for part in layer]


@pytest.mark.parametrize("prefix, rows", [("single", ["single_rows"]),
                                          ("deep", ["deep_rows_0", "deep_rows_1"])])
def test_layers_are_amulets_rows(prefix, rows):
    """amulet describes a neuron by its weights and, in the last column, its bias."""
    found = layers(AMULET, prefix)
    assert len(found) == len(rows)
    for (weight, bias), name in zip(found, rows, strict=True):
        np.testing.assert_array_equal(np.concatenate([weight, bias[..., None]], -1), AMULET[name])


@pytest.mark.parametrize("file, names", [
    (AMULET, ("mini_nets.0.0", "mini_nets.0.2", "rho")),
    (PROPINFER, ("describe_0", "describe_1", "head"))], ids=["amulet", "propinfer"])
def test_invariant_network_of_one_layer_is_the_libraries(file, names):
    """Same weights, same answers; dropout lies elsewhere, but is off once trained."""
    net = whitebox._Invariant(4, 1).eval()
    parts = net.describe[0][0], net.describe[0][3], net.head
    with torch.no_grad():
        for part, name in zip(parts, names, strict=True):
            part.weight.copy_(torch.from_numpy(file[f"meta_{name}.weight"]))
            part.bias.copy_(torch.from_numpy(file[f"meta_{name}.bias"]))
        single = layers(file, "single")
        np.testing.assert_allclose(net(*tensors(single)).numpy(), file["single_said"], atol=1e-6)
        parts[0].weight[:, [0, 1]] = parts[0].weight[:, [1, 0]]  # read two inputs the wrong way
        assert np.abs(net(*tensors(single)).numpy() - file["single_said"]).max() > 1e-3


def test_beyond_one_layer_only_ours_ignores_the_order_of_hidden_neurons():
    """Why deeper networks are not compared.

    The three toy networks are one network, the same function with its hidden neurons reordered,
    and another function whose first rows are reordered and whose last layer does not follow. Both
    libraries read the columns of a later layer in the order given, so they tell the first two
    apart, and amulet takes the third, another function, for the first.
    """
    deep = layers(AMULET, "deep")
    torch.manual_seed(0)
    net = whitebox._Invariant(4, 2).eval()
    with torch.no_grad():
        plain, same, other = net(*tensors(deep)).numpy()
    assert same == pytest.approx(plain, abs=1e-6) and abs(other - plain) > 1e-3
    for file in (AMULET, PROPINFER):
        for ours, theirs in zip(tensors(deep), tensors(layers(file, "deep")), strict=True):
            assert torch.equal(ours, theirs)
        plain, same, other = file["deep_said"]
        assert abs(same - plain) > 1e-3
    assert AMULET["deep_said"][2] == pytest.approx(AMULET["deep_said"][0], abs=1e-6)
