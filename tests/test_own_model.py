"""A reader's own classifier: records out, outputs in, answers that follow from both."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import toy
from sklearn.linear_model import LogisticRegression

from helpers import (
    attacks,
    audit,
    costs,
    groups,
    own_model,
    records,
    run,
    shadow,
    shadow_outputs,
    shadow_tests,
)
from helpers.attacks import Views
from helpers.groups import Data, Group
from helpers.images import DataError
from helpers.outputs import Logits, Probabilities
from helpers.project import UsageError
from helpers.shadow import Recipe
from helpers.shadow_outputs import KNOWN, Shadows
from helpers.store import Store

RECIPE = Recipe(arch="mlp-8", epochs=6, batch=50, rate=1e-2, chunk=12)
WORLDS = (0.1, 0.9)


@pytest.fixture(scope="module")
def shadows(tmp_path_factory):
    """Shadows of a table whose label follows its features in another way for the two groups."""
    stream, count = np.random.default_rng(0), 6000
    group = stream.random(count) < 0.5
    x = stream.normal(size=(count, 4))
    score = np.where(group, 2 * x[:, 0] - x[:, 1], x[:, 0] + 2 * x[:, 1])
    frame = pd.DataFrame(x, columns=list("abcd"))
    frame["sex"] = np.where(group, "Female", "Male")
    frame["paid"] = (score + stream.logistic(size=count) > 0).astype(int)
    path = tmp_path_factory.mktemp("table") / "people.csv"
    frame.to_csv(path, index=False)
    return Shadows(str(path), "sex=Female", n=400, each=200, count=12, ratios=(0.1, 0.5, 0.9),
                   label="paid", recipe=RECIPE)


@pytest.fixture(scope="module")
def book(tmp_path_factory, shadows):
    """A toy book that publishes these shadows."""
    root = toy.make(tmp_path_factory.mktemp("own") / "book")
    shadow_outputs.make(shadows, store_of(root, True), workers=1)
    return root


def store_of(root, publish=False):
    return Store(root / "_store", root / "results", publish)


@pytest.fixture(scope="module")
def seen(book, shadows):
    return shadow_outputs.read(shadows, store_of(book))


def victims(book, shadows, ratio, count=8):
    """Logits, on the probe records, of models of the other party, in truth trained at `ratio`."""
    data = Data(name=shadows.table, property=shadows.property, label=shadows.label)
    group = Group(data=data, party=0, ratio=ratio, n=400, count=count, recipe=RECIPE)
    asked = groups.table(data).features[shadow_outputs.probe_rows(shadows)]
    return shadow.logits(groups.fitted(group, store_of(book)), asked)


@pytest.fixture(scope="module")
def trained(book, shadows):
    return np.concatenate([victims(book, shadows, ratio) for ratio in WORLDS])


@pytest.fixture(scope="module")
def labels(shadows):
    return groups.table(shadows.data).label[shadow_outputs.probe_rows(shadows)]


@pytest.fixture(scope="module")
def found(trained, seen, shadows, labels):
    return own_model.judge(Logits(trained).probabilities(), seen, shadows, WORLDS, labels)


def test_models_that_were_trained_at_a_ratio_are_recognised(found):
    truth, fits = np.repeat(WORLDS, 8), np.array(found.judged)
    assert fits.sum() > 12
    assert (np.array(found.answer) == truth)[fits].mean() >= 0.9
    assert (np.array(found.zero) == truth)[fits].mean() >= 0.9
    sure = [each for each in found.probability if each is not None]
    assert [each.value > 0.5 for each in sure] == (truth == WORLDS[1])[fits].tolist()
    assert all(0 < each.low <= each.value <= each.high < 1 for each in sure)
    assert found.accuracy.low > 0.7 and found.accuracy.high <= 1
    guess = [each for each in found.estimate if each is not None]
    assert np.abs([each.value for each in guess] - truth[fits]).mean() < 0.15
    assert np.mean([each.low <= ratio <= each.high
                    for each, ratio in zip(guess, truth[fits], strict=True)]) > 0.7
    assert 0.6 < min(found.right) and not found.labels_only
    assert np.median(found.distance) < found.farthest


def test_swapped_worlds_swap_the_answer(found, trained, seen, shadows, labels):
    other = own_model.judge(Logits(trained).probabilities(), seen, shadows, WORLDS[::-1], labels)
    assert other.answer == found.answer and other.zero == found.zero
    np.testing.assert_allclose(other.scores, -np.array(found.scores), atol=1e-12)
    assert other.judged == found.judged
    for one, two in zip(found.probability, other.probability, strict=True):
        if one is None and two is None:
            continue
        assert two.value == pytest.approx(1 - one.value, abs=1e-9)
        assert two.low == pytest.approx(1 - one.high, abs=1e-9)
    assert other.accuracy == found.accuracy


def test_equal_laws_give_no_verdict(seen, shadows, labels, book):
    """Other shadows of ratio 0.5 under the names of 0.1 and 0.9: chance, and near one half."""
    group = replace(shadows.groups[1], first=12, count=24)
    asked = groups.table(shadows.data).features[shadow_outputs.probe_rows(shadows)]
    more = Logits(shadow.logits(groups.fitted(group, store_of(book)), asked)).probabilities()
    same = {0.1: more.take(slice(12)), 0.5: seen[0.5], 0.9: more.take(slice(12, 24))}
    null = own_model.judge(seen[0.5], same, shadows, WORLDS, labels)
    assert null.accuracy.low < 0.5 < null.accuracy.high
    sure = [each for each in null.probability if each is not None]
    assert len(sure) > 8 and all(0.1 < each.value < 0.9 and each.low < 0.5 < each.high
                                 for each in sure)


def test_held_out_scores_are_the_attack_by_the_other_half(seen, shadows, trained):
    mine = Logits(trained).probabilities()
    sets = [shadows.probes(ratio) for ratio in WORLDS]
    a, b, own = (Views(*(part.take(records=rows) for rows in sets))
                 for part in (seen[0.1], seen[0.9], mine))
    far = np.mean([attacks.divergence(
        Probabilities(np.concatenate([x.values, y.values])),
        Probabilities(np.concatenate([x.values, y.values, z.values])))
        for x, y, z in zip(a, b, own, strict=True)], axis=0)
    world = np.repeat([False, True], 12)
    means = shadow_tests.far_from(far, world, np.ones((1, 24)))[:, 0]
    scores = means[0] - means[1]
    np.testing.assert_allclose(scores[24:], attacks.kl(own, a, b), atol=1e-12)
    for i in (0, 5, 11):
        rest = np.arange(12) % 2 != i % 2
        others = a.take(rest), b.take(rest)
        np.testing.assert_allclose(scores[i], attacks.kl(a.take([i]), *others), atol=1e-12)
        np.testing.assert_allclose(scores[12 + i], attacks.kl(b.take([i]), *others), atol=1e-12)
    weights = np.ones(24)
    weights[[0, 3]] = 0, 2  # a bootstrap draw: shadow 0 is not there, shadow 3 twice
    twice = a.take([1, 2, 3, 3, *range(4, 12)])
    means = shadow_tests.far_from(far, world, weights[None])[:, 0]
    np.testing.assert_allclose((means[0] - means[1])[24:], attacks.kl(own, twice, b), atol=1e-12)
    others = a.take([2, 4, 6, 8, 10]), b.take(range(0, 12, 2))  # 3 is judged by even ones
    np.testing.assert_allclose((means[0] - means[1])[3], attacks.kl(a.take([3]), *others),
                               atol=1e-12)


def test_the_probability_is_that_of_a_ridge_logistic_regression():
    stream, world = np.random.default_rng(3), np.repeat([False, True], 50)
    asked = np.linspace(-3, 3, 7)
    draws = np.stack([np.concatenate([stream.normal(size=100) + gap * world, asked])
                      for gap in (0, 1, 3, 12)])
    weights = stream.integers(0, 4, (4, 100)).astype(float)
    sure = shadow_tests.probability(draws, world, weights)
    for scores, times, mine in zip(draws, weights, sure, strict=True):
        middle = np.average(scores[:100], weights=times)
        scale = np.sqrt(np.average((scores[:100] - middle) ** 2, weights=times))
        plain = LogisticRegression(tol=1e-10, max_iter=1000).fit(
            (scores[:100, None] - middle) / scale, world, sample_weight=times)
        np.testing.assert_allclose(mine, plain.predict_proba((asked[:, None] - middle) / scale)[
            :, 1], atol=1e-5)


def test_the_probability_is_no_surer_than_the_shadows_can_vouch_for():
    world = np.repeat([False, True], 50)
    held = np.where(world, 1.0, -1.0)
    sure = shadow_tests.probability(np.append(held, [-1, 0, 1])[None], world, np.ones((1, 100)))[0]
    assert sure[1] == pytest.approx(0.5, abs=1e-6) and 0.95 < sure[2] < 0.98
    assert sure[0] == pytest.approx(1 - sure[2], abs=1e-6)
    assert shadow_tests.right(held, world).all()


def test_labels_alone_are_compared_with_labels(trained, seen, shadows, labels, found):
    hard = own_model.judge(Probabilities((trained >= 0).astype(float)), seen, shadows, WORLDS,
                           labels)
    assert hard.labels_only and "compared with the shadows' labels" in own_model.report(hard)
    assert (np.array(hard.answer) == np.repeat(WORLDS, 8))[hard.judged].mean() > 0.7
    assert hard.right == found.right
    assert np.median(hard.distance) < hard.farthest  # not mistaken for another kind of model


def test_outputs_in_another_order_cannot_be_judged(trained, seen, shadows, labels, found):
    order = np.random.default_rng(1).permutation(trained.shape[1])
    mixed = own_model.judge(Logits(np.concatenate([trained[:2, order], trained[8:9]])
                                   ).probabilities(), seen, shadows, WORLDS, labels)
    assert min(mixed.distance[:2]) > mixed.farthest and mixed.judged == [False, False, True]
    for told in (mixed.answer, mixed.zero, mixed.probability, mixed.estimate):
        assert told[:2] == [None, None] and told[2] is not None
    assert len(mixed.scores) == len(mixed.right) == 3
    text = own_model.report(mixed)
    assert "Model 0, 1: cannot judge: farther from the shadows" in text
    rows = [line.split("  ") for line in text.splitlines() if line[:1] in "012" and line]
    assert [("cannot judge" in row, "–" in [part.strip() for part in row]) for row in rows] == [
        (True, True), (True, True), (False, False)]
    assert found.judged == [far <= found.farthest for far in found.distance]
    odd = found.judged.count(False)
    assert odd < 4 and ("cannot judge" in own_model.report(found)) == bool(odd)


def test_published_once_and_replaced_when_the_code_changes(book, shadows, monkeypatch, tmp_path):
    monkeypatch.setattr(groups.shadow, "fit", lambda *_, **__: pytest.fail("trained again"))
    entry = shadow_outputs.make(shadows, store_of(book, True), workers=1)
    assert entry.arrays["logits"].shape == (3, 12, 400)
    assert entry.arrays["logits"].dtype == np.float16
    (key, record, _), = costs.published(book)
    assert key == entry.key and record["stage"] == "shadow outputs"
    assert len(record["trained"]) == 3 and costs.seconds([record]) > 0
    monkeypatch.setattr(shadow_outputs, "MODULES", ("helpers.noise",))
    again = shadow_outputs.make(shadows, store_of(book, True), workers=1)
    assert again.record["fingerprint"] != record["fingerprint"]
    np.testing.assert_array_equal(again.arrays["logits"], entry.arrays["logits"])


def test_the_record_recomputes_to_the_same_bits(book, shadows):
    entry = store_of(book).get(shadow_outputs.key_of(shadows))
    record = json.loads(json.dumps(entry.record))
    assert audit.compare(entry.arrays, audit.recompute(record), record["tolerance"])[0] == (
        "same bits")


def test_probe_records_are_untouched_and_every_ratio_has_its_share(shadows):
    source, rows = groups.table(shadows.data), shadow_outputs.probe_rows(shadows)
    assert len(set(rows.tolist())) == 400 and set(rows) <= set(source.pool(1, test=True))
    used = {row for group in shadows.groups for row in groups.draws(group).ravel().tolist()}
    assert not used & set(rows.tolist())
    for ratio in shadows.ratios:
        part = shadows.probes(ratio)
        assert len(set(part.tolist())) == 200
        assert source.attribute[rows[part]].sum() == round(200 * ratio)
    greedy = replace(shadows, each=300)
    with pytest.raises(DataError, match="wanted for ratio 1 at size 300"):
        shadow_outputs.probe_rows(greedy)


@pytest.mark.parametrize("pair", KNOWN)
def test_every_built_in_pair_has_its_probe_records(pair):
    shadows = KNOWN[pair]
    source, rows = groups.table(shadows.data), shadow_outputs.probe_rows(shadows)
    assert source.attribute[rows].sum() == shadows.each == len(rows) // 2
    for group in (shadows.groups[0], shadows.groups[-1]):
        groups.check(group)


def test_the_written_records_are_the_tables_own(tmp_path):
    shadows = KNOWN["adult", "race"]
    told = shadow_outputs.write_probes(shadows, tmp_path / "probes.csv")
    assert "1000 probe records" in told and "salary=>50K" in told and "race=White" in told
    frame = pd.read_csv(tmp_path / "probes.csv")
    assert frame.columns[0] == "id" and list(frame.columns[-2:]) == ["label", "property"]
    assert "salary" not in frame and frame["id"].tolist() == list(range(1000))
    arrays, rows = records.read("adult"), shadow_outputs.probe_rows(shadows)
    for name in ("age", "occupation", "race"):
        assert frame[name].tolist() == arrays[name][rows].tolist()
    assert (frame["label"] == (arrays["salary"][rows] == ">50K")).all()
    assert (frame["property"] == (frame["race"] == "White")).all()
    shadow_outputs.write_encoded(shadows, tmp_path / "probes.npz")
    with np.load(tmp_path / "probes.npz", allow_pickle=False) as encoded:
        assert encoded["features"].dtype == np.float32
        assert encoded["features"].shape == (1000, len(encoded["names"]))
        column = encoded["features"][:, encoded["names"].tolist().index("race=White")]
        np.testing.assert_array_equal(column, encoded["property"])
        np.testing.assert_array_equal(frame["label"], encoded["label"])


@pytest.fixture
def at_home(book, shadows, monkeypatch):
    """The toy book as the working directory, its shadows as the ones of acs_ma, sex."""
    monkeypatch.chdir(book)
    monkeypatch.setenv("SAME_NOISE_STORE", str(book / "_store"))
    monkeypatch.setitem(shadow_outputs.KNOWN, ("acs_ma", "sex"), shadows)


def test_the_round_trip_by_the_command_line(at_home, trained, tmp_path, capsys):
    csv, mine, out = tmp_path / "p.csv", tmp_path / "mine.npz", tmp_path / "mine.json"
    assert run.main(["attack", "--probes", str(csv), "--encoded", str(tmp_path / "p.npz")]) == 0
    assert len(pd.read_csv(csv)) == 400 and (tmp_path / "p.npz").is_file()
    assert run.main(["attack", "--make-shadows", "--workers", "1"]) == 0
    assert "results/" in capsys.readouterr().out
    np.savez(mine, logits=trained[8])
    asked = ["attack", "--outputs", str(mine), "--ratios", "0.1", "0.9", "--json", str(out)]
    assert run.main(asked) == 0
    text = capsys.readouterr().out
    assert "P(ratio 0.9)" in text and "Caveat" in text and "held-out shadows" in text
    plain = json.loads(out.read_text())
    assert plain["answer"] == [0.9] and plain["probability"][0]["value"] > 0.5
    assert plain["judged"] == [True]
    np.savez(mine, probabilities=1 / (1 + np.exp(-trained[:2].astype(float))))
    assert run.main(asked) == 0
    assert json.loads(out.read_text())["answer"] == [0.1, 0.1]
    np.savez(mine, logits=trained[:1, ::-1])
    capsys.readouterr()
    assert run.main(asked) == 0
    plain = json.loads(out.read_text())
    assert plain["judged"] == [False] and plain["probability"] == plain["answer"] == [None]
    assert "cannot judge" in capsys.readouterr().out


def test_no_torch_is_needed_where_results_exist(at_home, book, trained, tmp_path, shadows):
    import subprocess
    import sys
    from pathlib import Path

    np.savez(tmp_path / "mine.npz", logits=trained)
    code = ("import sys; from pathlib import Path; "
            "from helpers import groups, own_model, shadow_outputs as s; "
            "from helpers.shadow import Recipe; from helpers.store import Store; "
            f"t = s.Shadows({shadows.table!r}, 'sex=Female', 400, 200, 12, (0.1, 0.5, 0.9), 'paid',"
            " Recipe(arch='mlp-8', epochs=6, batch=50, rate=1e-2, chunk=12)); "
            "seen = s.read(t, Store('_store', 'results')); "
            f"mine = own_model.read_outputs(Path({str(tmp_path / 'mine.npz')!r}), t); "
            "labels = groups.table(t.data).label[s.probe_rows(t)]; "
            "print(own_model.judge(mine, seen, t, (0.1, 0.9), labels).answer); "
            "assert 'torch' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code], cwd=book, text=True, capture_output=True,
                          env={"PYTHONPATH": str(Path(run.__file__).parents[1])})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("0.9") >= 7


def test_what_has_not_been_published_says_how(shadows, tmp_path):
    with pytest.raises(UsageError, match="attack --make-shadows --table .* --property sex=Female"):
        shadow_outputs.read(shadows, Store(tmp_path))


GOOD = np.full(400, 0.5)


def archive(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("content, said", [
    (None, "there is no file"), (b"", "no .npz archive"), (b"text", "no .npz archive"),
    (archive(GOOD=GOOD), "holds neither .arrays: GOOD.; needed is exactly one"),
    (archive(logits=GOOD, probabilities=GOOD), "holds both"),
    (archive(probabilities=np.where(np.arange(400) == 7, np.nan, 0.5)),
     "model 0 on record 7 are nan .1 values"),
    (archive(logits=np.stack([GOOD, np.inf * GOOD])), "model 1 on record 0 are inf"),
    (archive(probabilities=4 * GOOD), r"from 2 to 2, outside \[0, 1\]; if these are logits"),
    (archive(probabilities=-GOOD), r"from -0.5 to -0.5, outside"),
    (archive(probabilities=GOOD[:-1]), r"shape \[399\]; needed are \[400\].*attack --probes"),
    (archive(probabilities=np.float64(0.5)), r"shape \[\]; needed"),
    (archive(probabilities=GOOD.reshape(1, 1, 400)), r"shape \[1, 1, 400\]; needed"),
    (archive(probabilities=np.stack([GOOD, GOOD], axis=1)), "take column 1"),
    (archive(probabilities=np.zeros((0, 400))), r"shape \[0, 400\]; needed"),
    (archive(probabilities=np.zeros((1001, 400), np.float16)), "at most 1000 models"),
    (archive(probabilities=np.zeros(1_000_000)), "take 8 MB; at most 6 MB"),
    (archive(logits=np.full(400, "a")), "type <U1; needed are numbers"),
    (archive(logits=GOOD.astype(object)), "object array, which needs pickle"),
    (archive(logits=GOOD)[:-300] + archive(logits=GOOD)[-299:], "cannot be read|no .npz"),
])
def test_bad_outputs(shadows, tmp_path, content, said):
    path = tmp_path / "mine.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        own_model.read_outputs(path, shadows)
    assert "mine.npz" in str(caught.value) and "\n" not in str(caught.value)
