"""Shadows on a reader's own records: what is loaded, drawn, trained, kept and resumed."""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file

from helpers import datasets, denoiser_stack, own_records, own_shadows, run
from helpers.denoiser_stack import Small
from helpers.images import DataError, area
from helpers.noise import generator, noise
from helpers.own_records import draws, fitting, halves, load
from helpers.project import UsageError

torch.set_num_threads(1)
SMALL = {"count": 10, "noises": 12, "steps": 25, "hidden": (8,)}
STREAM = generator("test-own-shadows")
FLAGS = STREAM.random(500) < 0.4
PICTURES = np.clip(np.where(FLAGS[:, None, None], 180, 70) + STREAM.normal(0, 12, (500, 4, 4)),
                   0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures of 4 x 4, bright ones with the property."""
    path = tmp_path_factory.mktemp("data") / "mine.npz"
    np.savez(path, images=PICTURES, property=FLAGS)
    return path


@pytest.fixture(scope="module")
def wanted(data):
    return own_shadows.plan(load(data), (0.2, 0.8), n=60, **SMALL)


@pytest.fixture(scope="module")
def trained(wanted, tmp_path_factory):
    """Folders of both ratios; not to be changed."""
    return own_shadows.train(wanted, tmp_path_factory.mktemp("trained"), workers=1)


@pytest.fixture
def folders(trained, tmp_path):
    """Copies of them."""
    return [shutil.copytree(folder, tmp_path / folder.name) for folder in trained]


# --- records ---------------------------------------------------------------------------------


def test_layouts_of_a_file_are_one(data, tmp_path):
    plain = load(data)
    assert plain.values.dtype == np.float32 and plain.shape == (1, 4, 4)
    assert (plain.name, plain.property) == ("mine.npz", "property")
    np.testing.assert_allclose(plain.values, PICTURES.reshape(500, 16) / 127.5 - 1, atol=1e-6)
    assert np.array_equal(plain.attribute, FLAGS)
    for part in (PICTURES[..., None], PICTURES[:, None], PICTURES / 127.5 - 1):
        np.savez(tmp_path / "other.npz", images=part, red=FLAGS.astype(float))
        other = load(tmp_path / "other.npz", "red")
        np.testing.assert_allclose(other.values, plain.values, atol=1e-6)
        assert np.array_equal(other.attribute, FLAGS) and other.property == "red"
        assert other.sha256 != plain.sha256
    colour = STREAM.integers(0, 256, (9, 4, 4, 3)).astype(np.uint8)
    for part in (colour, colour.transpose(0, 3, 1, 2)):
        np.savez(tmp_path / "other.npz", images=part, property=[0, 1] * 4 + [1])
        other = load(tmp_path / "other.npz", side=2)
        assert other.shape == (3, 2, 2)
        means = colour.reshape(9, 2, 2, 2, 2, 3).mean((2, 4)).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(other.values, means.reshape(9, 12) / 127.5 - 1, atol=1e-5)


def test_fashion_is_the_whole_training_set():
    found = load("fashion16")
    images = datasets.load("fashion16")
    assert found.shape == (1, 8, 8) and found.values.shape == (60000, 64)
    assert np.array_equal(found.attribute, np.isin(images.attribute("label"), (5, 7, 9)))
    rounded = area(images.train[:50], 8).reshape(50, 64)
    assert np.abs((found.values[:50] + 1) * 127.5 - rounded).max() <= 0.501
    assert load("fashion16", side=4).shape == (1, 4, 4)
    assert found.property == "footwear"


def people(path):
    stream = np.random.default_rng(0)
    frame = pd.DataFrame(stream.normal(size=(300, 3)), columns=list("abc"))
    frame["sex"], frame["paid"] = ["Female", "Male"] * 150, stream.integers(2, size=300)
    frame.to_csv(path, index=False)
    return path


def test_a_table_gives_its_encoded_features(tmp_path):
    found = load(people(tmp_path / "people.csv"), "sex=Female", label="paid")
    assert found.shape == (5,) and found.names == ("a", "b", "c", "sex=Female", "sex=Male")
    assert np.array_equal(found.attribute, [True, False] * 150)
    assert abs(found.values[:, 0].mean()) < 1e-5 and found.name == "people.csv"


def archive(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("content, options, said", [
    (None, {}, "there is no file"), (b"text", {}, "is no .npz archive"),
    (archive(images=PICTURES), {}, "no array 'property' .arrays: images.*--property names"),
    (archive(pictures=PICTURES, property=FLAGS), {}, "no array 'images'"),
    (archive(images=PICTURES, property=FLAGS), {"property": "red"}, "no array 'red'"),
    (archive(images=PICTURES, property=FLAGS.astype(object)), {}, "needs pickle"),
    (archive(images=PICTURES, property=FLAGS[:-1]), {}, r"bool of shape \[499\]; needed is 0 or"),
    (archive(images=PICTURES, property=2 * FLAGS), {}, "needed is 0 or 1 for each of 500"),
    (archive(images=PICTURES, property=FLAGS.astype(str)), {}, "property is <U5"),
    (archive(images=PICTURES, property=0 * FLAGS), {}, "property is 0 for every image"),
    (archive(images=PICTURES[0], property=FLAGS), {}, r"shape \[4, 4\]; needed are \[n, H, W\]"),
    (archive(images=PICTURES[:, None, :, :, None], property=FLAGS), {}, r"shape \[500, 1, 4, 4"),
    (archive(images=PICTURES.astype(int), property=FLAGS), {}, "images are int64; needed are"),
    (archive(images=PICTURES / 2, property=FLAGS), {}, "images run from .*lie in .-1, 1."),
    (archive(images=PICTURES * np.nan, property=FLAGS), {}, "8000 values of images are not finite"),
    (archive(images=PICTURES, property=FLAGS), {"side": 3}, "--side 3 must divide .* 4 x 4"),
    (archive(images=PICTURES[:, :3], property=FLAGS), {"side": 1}, "are 3 x 4"),
    (archive(images=PICTURES, property=FLAGS), {"label": "paid"}, "--label paid: goes with a tab"),
])
def test_bad_files(tmp_path, content, options, said):
    path = tmp_path / "mine.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name, options, said", [
    ("mine.png", {}, "neither fashion16, acs_ma, adult nor a .npz .* ending is '.png'"),
    ("fashion16", {"side": 5}, "--side 5 must divide the pictures' side 16"),
    ("fashion16", {"property": "shoes"}, "unknown property 'shoes'"),
    ("fashion16", {"label": "paid"}, "--label goes with a table"),
    ("people.csv", {}, "--property is missing"),
    ("people.csv", {"property": "sex"}, "people.csv: no such file"),
    ("people.csv", {"property": "sex", "side": 8}, "--side 8: people.csv is a table"),
])
def test_bad_names(name, options, said):
    with pytest.raises(DataError, match=said):
        load(name, **options)


def test_a_table_without_a_label_says_how(tmp_path):
    with pytest.raises(DataError, match="a table needs --label column or column=value"):
        load(people(tmp_path / "people.csv"), "sex=Female")


# --- draws -----------------------------------------------------------------------------------


def test_even_and_odd_shadows_share_no_record(data):
    records = load(data)
    even, odd = halves(records, 0)
    assert sorted([*even, *odd]) == list(range(500)) and len(even) == len(odd)
    assert not np.array_equal(even, halves(records, 1)[0])
    for ratio in (0.2, 0.8):
        rows = draws(records, ratio, 90, range(4), 0)
        assert rows.shape == (4, 90) and all(len(set(row)) == 90 for row in rows.tolist())
        assert FLAGS[rows].sum(1).tolist() == [round(90 * ratio)] * 4
        assert set(rows[::2].ravel()) <= set(even) and set(rows[1::2].ravel()) <= set(odd)
        assert np.array_equal(draws(records, ratio, 90, [3], 0)[0], rows[3])
        assert not np.array_equal(np.sort(rows[0]), np.sort(rows[2]))


@pytest.mark.parametrize("ratios", [(0.5,), (0.2, 0.8), (0.0, 1.0), (0.3, 0.31, 0.9)])
def test_the_default_n_is_the_largest_that_fits(data, ratios):
    records = load(data)
    largest = fitting(records, ratios, 0)
    for ratio in ratios:
        draws(records, ratio, largest, range(2), 0)
    have = [FLAGS[half] for half in halves(records, 0)]
    assert any(round(ratio * (largest + 1)) > part.sum()
               or largest + 1 - round(ratio * (largest + 1)) > (~part).sum()
               for ratio in ratios for part in have)
    assert fitting(records, ratios, 0, largest) == largest
    with pytest.raises(DataError, match=f"--n {largest + 1}; the largest n that fits all ratios "
                                        f"is {largest}"):
        fitting(records, ratios, 0, largest + 1)


def test_no_more_than_2048_unless_asked():
    records = load("fashion16")
    assert fitting(records, (0.5, 0.3), 0) == 2048
    assert fitting(records, (0.5, 0.3), 0, 9000) == 9000


def test_records_of_one_kind_fit_no_other(data):
    few = own_records.Records("mine.npz", "red", np.zeros((9, 4), np.float32), np.arange(9) < 1,
                              (1, 2, 2), "")
    with pytest.raises(DataError, match="has 0 with red and .* no number of records fits"):
        fitting(few, (1.0,), 0)


# --- training --------------------------------------------------------------------------------


def test_samples_are_those_of_denoisers_of_the_drawn_records(wanted, trained):
    records = wanted.records
    assert [folder.name for folder in trained] == ["ratio-0.2", "ratio-0.8"]
    for ratio, folder in zip(wanted.ratios, trained, strict=True):
        assert sorted(path.name for path in folder.iterdir()) == ["about.json",
                                                                  "samples.safetensors"]
        found = load_file(folder / "samples.safetensors")["samples"]
        assert found.shape == (10, 12, 1, 4, 4) and found.dtype == np.uint8
        rows = draws(records, ratio, 60, range(8, 10), 0)
        recipe = Small(hidden=(8,), batch=64, steps=25, chunk=8)
        models = denoiser_stack.fit(recipe, records.values, rows, own_shadows._blocks(
            wanted, ratio, folder, None)[1].seeds)
        drawn = denoiser_stack.draw(models, noise(range(12), (1, 4, 4)).reshape(12, 16))
        assert np.abs((np.clip(drawn, -1, 1) + 1) * 127.5
                      - found[8:].reshape(2, 12, 16)).max() < 0.51
        about = json.loads((folder / "about.json").read_text())
        assert (about["ratio"], about["n"], about["count"]) == (ratio, 60, 10)
        assert about["data"]["sha256"] == records.sha256 and about["data"]["name"] == "mine.npz"
        assert about["recipe"]["hidden"] == [8] and about["noises"] == 12


def test_the_same_arguments_make_the_same_bits(wanted, trained, tmp_path):
    again = own_shadows.train(wanted, tmp_path, workers=1)
    for one, two in zip(trained, again, strict=True):
        for name in ("samples.safetensors", "about.json"):
            assert (one / name).read_bytes() == (two / name).read_bytes()


def test_an_interrupted_run_goes_on_where_it_stopped(wanted, trained, tmp_path, monkeypatch):
    fit, calls = denoiser_stack.fit, []

    def stopping(*arguments, **options):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    monkeypatch.setattr(denoiser_stack, "fit", stopping)
    with pytest.raises(KeyboardInterrupt):
        own_shadows.train(wanted, tmp_path, workers=1)
    assert not list(tmp_path.glob("*/about.json"))
    assert len(list(tmp_path.glob("*/.block-*.safetensors"))) == 3
    own_shadows.train(wanted, tmp_path, workers=1)
    assert len(calls) == 5  # the one block that was missing
    for folder in trained:
        assert (tmp_path / folder.name / "samples.safetensors").read_bytes() == (
            folder / "samples.safetensors").read_bytes()
    assert not list(tmp_path.glob("*/.*"))


def test_what_is_there_is_kept_and_what_is_other_refused(data, wanted, folders, monkeypatch):
    monkeypatch.setattr(denoiser_stack, "fit", lambda *_, **__: pytest.fail("trained again"))
    out = folders[0].parent
    assert own_shadows.train(wanted, out, workers=1) == folders
    records = load(data)
    for options, said in (({"n": 61}, "with n 60, asked for is 61: give another --out"),
                          ({"n": 60, "steps": 61}, "with steps 25, asked for is 61"),
                          ({"n": 60, "seed": 1}, "with seed 0, asked for is 1")):
        other = own_shadows.plan(records, (0.2, 0.8), **{**SMALL, **options})
        with pytest.raises(UsageError, match=said):
            own_shadows.train(other, out, workers=1)
    (folders[1] / "samples.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="is damaged .*remove .*ratio-0.8"):
        own_shadows.train(wanted, out, workers=1)


def test_shadows_of_a_table_show_features(tmp_path):
    records = load(people(tmp_path / "people.csv"), "sex=Female", label="paid")
    plan = own_shadows.plan(records, (0.5, 0.3), n=40, **{**SMALL, "count": 4})
    folders = own_shadows.train(plan, tmp_path / "out", workers=1)
    found = own_shadows.read(folders)
    assert found.shape == (5,) and not found.pictures and list(found.samples) == [0.5, 0.3]
    assert found.samples[0.5].shape == (4, 12, 5) and found.samples[0.5].dtype == np.float16
    about = json.loads((folders[0] / "about.json").read_text())
    assert about["kind"] == "table" and about["data"]["features"][0] == "a"


@pytest.mark.parametrize("options, said", [
    ({"ratios": (0.5, 1.5)}, "--ratios: 1.5 is outside"),
    ({"ratios": (0.5, float("nan"))}, "--ratios: nan is outside"),
    ({"ratios": (0.5, 0.5)}, "has one twice"), ({"count": 3}, "--count 3: .* at least 4"),
    ({"noises": 2}, "--noises 2: at least 3"),
])
def test_plans_that_cannot_be(data, options, said):
    with pytest.raises(UsageError, match=said):
        own_shadows.plan(load(data), **{"ratios": (0.2, 0.8), **SMALL, **options})


# --- reading ---------------------------------------------------------------------------------


def test_folders_are_read_in_the_order_given(folders):
    found = own_shadows.read(folders[::-1])
    assert list(found.samples) == [0.8, 0.2] and found.shape == (1, 4, 4) and found.n == 60
    assert found.count == 10 and found.noises == 12 and found.pictures and not found.published
    kept = load_file(folders[0] / "samples.safetensors")["samples"]
    assert np.array_equal(found.samples[0.2], kept.reshape(10, 12, 16))
    assert found.data == "mine.npz, property" and "8 units, 25 steps" in found.network


def edit(folder, **changes):
    path = folder / "about.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("change, said", [
    (lambda a, b: shutil.rmtree(b), "there is no folder .*ratio-0.8"),
    (lambda a, b: (b / "about.json").unlink(), "holds no about.json: give a folder that"),
    (lambda a, b: (b / "about.json").write_text("{"), "about.json is damaged .*train its shadows"),
    (lambda a, b: (b / "about.json").write_text("[]"), "about.json is damaged .format"),
    (lambda a, b: edit(b, n="many"), "damaged .n: missing or of another kind"),
    (lambda a, b: edit(b, data={}), "damaged .data: missing"),
    (lambda a, b: edit(b, recipe={"steps": 3}), "damaged .recipe: missing"),
    (lambda a, b: edit(b, shape=[1, "4", 4]), "damaged .shape: missing"),
    (lambda a, b: edit(b, format=2), "has format 2, known is 1"),
    (lambda a, b: (b / "samples.safetensors").unlink(), "holds no samples.safetensors"),
    (lambda a, b: (b / "samples.safetensors").write_bytes(b"x"), "samples.safetensors is damaged"),
    (lambda a, b: edit(b, n=61), "differ in n .60 and 61.: train both with one call"),
    (lambda a, b: edit(b, seed=1), "differ in seed .0 and 1."),
    (lambda a, b: edit(b, noises=13), "differ in noises .12 and 13."),
    (lambda a, b: edit(b, shape=[1, 2, 8]), "differ in shape"),
    (lambda a, b: edit(b, data={"name": "x", "property": "y", "sha256": "z"}), "differ in data"),
    (lambda a, b: [edit(one, count=9) for one in (a, b)], r"shape \[10, 12, 1, 4, 4\], about.json "
     r"says \[9"),
    (lambda a, b: edit(b, ratio=0.2), "the same ratio .0.2, 0.2."),
])
def test_folders_that_do_not_belong_together(folders, change, said):
    change(*folders)
    with pytest.raises(UsageError, match=said) as caught:
        own_shadows.read(folders)
    assert "\n" not in str(caught.value)


# --- the command -----------------------------------------------------------------------------


def line(capsys):
    text = capsys.readouterr().err
    assert text.startswith("helpers: ") and text.count("\n") == 1, text
    return text


def test_from_records_to_a_verdict_by_the_command_line(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own_shadows, "HIDDEN", (32,))
    asked = ["train-shadows", "--data", str(data), "--ratios", "0.2", "0.8", "--count", "8",
             "--steps", "150", "--noises", "40", "--n", "100", "--out", "mine", "--workers", "1"]
    assert run.main(asked) == 0
    out = capsys.readouterr().out
    assert "2 x 8 shadows on 100 records each of mine.npz (1 x 4 x 4)" in out
    assert "attack-diffusion --shadows mine/ratio-0.2 mine/ratio-0.8" in out
    with monkeypatch.context() as patch:
        patch.setattr(denoiser_stack, "fit", lambda *_, **__: pytest.fail("trained again"))
        assert run.main(asked) == 0
        assert run.main([*asked, "--seed", "1"]) == 2
    assert "ratio-0.2 was made with seed 0, asked for is 1" in line(capsys)
    pair = ["--shadows", "mine/ratio-0.2", "mine/ratio-0.8"]
    assert run.main(["attack-diffusion", *pair, "--write-noise", "noise.npz"]) == 0
    with np.load("noise.npz") as file:
        bank = file["noise"]
    assert np.array_equal(bank, noise(range(40), (1, 4, 4)))
    stream = generator("test-own-victims")
    rows = np.stack([np.concatenate([stream.permutation(np.flatnonzero(FLAGS))[:ones],
                                     stream.permutation(np.flatnonzero(~FLAGS))[:100 - ones]])
                     for ones in (20, 20, 20, 80, 80, 80)])
    recipe = Small(hidden=(32,), batch=64, steps=150, chunk=6)
    values = (PICTURES.reshape(500, 16) / 127.5 - 1).astype(np.float32)
    models = denoiser_stack.fit(recipe, values, rows, range(6))
    shown = np.clip(denoiser_stack.draw(models, bank.reshape(40, 16)), -1, 1)
    save_file({"samples": np.concatenate([shown, -shown[:1]]).reshape(7, 40, 4, 4)},
              "mine.safetensors")
    assert run.main(["attack-diffusion", *pair, "--samples", "mine.safetensors", "--json",
                     "mine.json"]) == 0
    told = json.loads((tmp_path / "mine.json").read_text())
    assert told["answer"] == [0.2] * 3 + [0.8] * 3 + [None] and told["judged"][6] is False
    assert told["accuracy"]["value"] > 0.8 and told["ratios"] == [0.2, 0.8]
    assert run.main(["attack-diffusion", *pair, "--samples", "mine.safetensors", "--ratios",
                     "0.2", "0.5"]) == 2
    assert "0.5 is not a ratio of --shadows; theirs are 0.2, 0.8" in line(capsys)
    assert run.main(["attack-diffusion", *pair, "--samples", "mine.safetensors", "--ratios",
                     "0.8", "0.2"]) == 0


def test_wrong_requests_end_in_one_line(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(denoiser_stack, "fit", lambda *_, **__: pytest.fail("trained"))
    asked = ["train-shadows", "--data", str(data), "--ratios", "0.2", "0.8", "--out", "mine"]
    for more, said in ((["--n", "400"], "the largest n that fits all ratios is"),
                       (["--side", "3"], "--side 3 must divide"), (["--count", "2"], "--count 2"),
                       (["--property", "red"], "no array 'red'")):
        assert run.main([*asked, *more]) == 2
        assert said in line(capsys)
    assert not list(tmp_path.iterdir())


def test_training_that_diverges_ends_in_one_line(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def diverging(*_, **__):
        raise FloatingPointError("training of model 0 diverged")

    monkeypatch.setattr(denoiser_stack, "fit", diverging)
    assert run.main(["train-shadows", "--data", str(data), "--ratios", "0.2", "0.8", "--out",
                     "mine", "--workers", "1"]) == 2
    assert "model 0 diverged" in line(capsys)
    assert not list(tmp_path.glob("mine/*/*"))
