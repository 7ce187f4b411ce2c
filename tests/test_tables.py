"""Tables: labels, properties and features, the split between parties, draws of exact counts."""

import itertools

import numpy as np
import pandas as pd
import pytest

from helpers import datasets, records, tables
from helpers.noise import generator
from helpers.tables import DataError, draw, largest, load

RATIOS = (0, 0.1, 0.3, 0.5, 0.75, 1)


def needs(name):
    kind = "npz" if name == "fashion16" else "parquet"
    path = datasets.data_folder() / f"{name}.{kind}"
    return pytest.mark.skipif(not path.is_file(), reason=f"{path.name} is not in the data folder "
                              f"(python -m helpers data {name})")


def table(counts, seed=0):
    """A table with these records by (property, label), [[00, 01], [10, 11]], in random order."""
    code = np.repeat(np.arange(4), np.ravel(counts))
    code = generator("test rows", seed).permutation(code).astype(np.uint8)
    features = np.arange(len(code), dtype=np.float32)[:, None]
    return tables._table("toy", features, ("x",), ("x",), code % 2, code // 2, "y", "z", "s", seed)


def own(folder, rows=240, name="mine.csv", **change):
    rng = generator("own file", 1)
    frame = pd.DataFrame({
        "age": rng.integers(18, 80, rows), "town": rng.choice(["Oslo", "Rome", "Bonn"], rows),
        "sex": rng.choice(["Female", "Male"], rows), "income": rng.choice(["<=50K", ">50K"], rows),
        "one": 7, "hours": rng.random(rows)})
    frame = frame.assign(**change)
    path = folder / name
    frame.to_csv(path, index=False) if name.endswith("csv") else frame.to_parquet(path)
    return path, frame


def refused(*parts, **arguments):
    with pytest.raises(DataError) as caught:
        load(**{"property": "sex=Female", "label": "income"} | arguments)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def cell_counts(one, rows):
    found = np.zeros((2, 2), int)
    for row in rows:
        found[one.attribute[row], one.label[row]] += 1
    return found


def check_split(one):
    parts = [one.pool(party, test) for party in (0, 1) for test in (False, True)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(one.label)))
    for a, b in itertools.combinations(parts, 2):
        assert not set(a.tolist()) & set(b.tolist())
    for z, y in itertools.product((0, 1), repeat=2):
        cell = (one.attribute == z) & (one.label == y)
        first = cell & (one.party == 0)
        assert first.sum() == round(0.6 * cell.sum())
        for party in (0, 1):
            whole = cell & (one.party == party)
            assert (whole & ~one.held_out).sum() == round(0.8 * whole.sum())


def test_parties_are_disjoint_stratified_and_seeded():
    for seed in range(20):
        counts = generator("counts", seed).integers(0, 60, (2, 2)) + 1
        check_split(table(counts, seed))
    counts = [[30, 50], [20, 40]]
    one, same, other = table(counts), table(counts), table(counts, 1)
    assert (one.party == same.party).all() and one.sha256 == same.sha256
    assert (one.party != other.party).any() and one.sha256 != other.sha256
    with pytest.raises(DataError, match="party 2 is not 0"):
        one.pool(2)
    with pytest.raises(AssertionError, match="share rows"):
        tables.replace(one, party=one.party + 1)
    with pytest.raises(ValueError, match="read-only"):
        one.label[0] = 1


@pytest.mark.parametrize("ratio", RATIOS)
def test_exact_counts_of_each_mode(ratio):
    one = table([[1000, 3000], [1500, 500]])
    pool = one.pool(0)
    assert tables.cells(one, pool).tolist() == [[480, 1440], [720, 240]]
    rows = {mode: draw(one, pool, ratio, 200, generator("d", 0), mode) for mode in tables.MODES}
    ones = round(ratio * 200)
    for chosen in rows.values():
        assert len(set(chosen.tolist())) == 200 and set(chosen.tolist()) <= set(pool.tolist())
        assert cell_counts(one, chosen).sum(1).tolist() == [200 - ones, ones]
    cells = cell_counts(one, rows["cells"])
    assert cells[0, 1] == round(0.75 * (200 - ones)) and cells[1, 1] == round(0.25 * ones)
    share = 1680 / 2880
    balanced = cell_counts(one, rows["balanced"])
    assert balanced[0, 1] == round(share * (200 - ones)) and balanced[1, 1] == round(share * ones)


def test_free_draws_leave_the_label_to_chance_within_the_group():
    one = table([[1000, 3000], [1500, 500]])
    found = [cell_counts(one, draw(one, one.pool(0), 0.5, 200, generator("free", i), "free"))[1, 1]
             for i in range(200)]
    mean, sd = 25.0, np.sqrt(100 * 0.25 * 0.75 * (960 - 100) / 959)
    assert abs(np.mean(found) - mean) < 4 * sd / np.sqrt(200) and 3 < np.std(found) < 5.5


def test_draws_are_uniform_within_a_cell_and_in_random_order():
    one = table([[30, 30], [30, 30]])
    pool, times, first = one.pool(0), np.zeros(120), np.zeros(120)
    for i in range(2000):
        rows = draw(one, pool, 0.5, 28, generator("uniform", i))
        times[rows] += 1
        first[rows[:14]] += 1
    share = 28 / len(pool)
    assert np.abs(times[pool] / 2000 - share).max() < 4.5 * np.sqrt(share * (1 - share) / 2000)
    assert abs(first[one.attribute == 1].sum() / first.sum() - 0.5) < 0.02


def test_draws_repeat_by_stream():
    one = table([[300, 300], [300, 300]])
    a, b, c = (draw(one, one.pool(1), 0.4, 100, generator("d", i)) for i in (0, 0, 1))
    assert (a == b).all() and (np.sort(a) != np.sort(c)).any() and a.dtype == np.int64
    stream = generator("d", 0)
    assert (draw(one, one.pool(1), 0.4, 100, stream) == a).all()
    assert (draw(one, one.pool(1), 0.4, 100, stream) != a).any()


def test_largest_is_exact_on_random_tables():
    for seed in range(60):
        rng = generator("largest", seed)
        one = table(rng.integers(0, 40, (2, 2)) + [[1, 1], [1, 1]], seed)
        pool = np.arange(len(one.label))
        have = cell_counts(one, pool)
        for mode, ratio in itertools.product(tables.MODES, (*RATIOS, float(rng.random()))):
            most = largest(one, pool, ratio, mode)
            fits = []
            for size in range(1, len(pool) + 1):
                ones = round(ratio * size)
                groups = np.array([size - ones, ones])
                part = have if mode == "cells" else have.sum(0, keepdims=True)
                share = part[:, 1] / part.sum(1)
                yes = np.rint(groups * share)
                fits.append((groups <= have.sum(1)).all() if mode == "free" else
                            (yes <= have[:, 1]).all() and (groups - yes <= have[:, 0]).all())
            assert fits == [True] * most + [False] * (len(pool) - most)
            try:
                assert len(draw(one, pool, ratio, most, generator("l", seed), mode)) == most
            except DataError as error:
                assert "would be missing" in str(error) or most == 0
            if most < len(pool):
                with pytest.raises(DataError, match=f"largest size at this ratio is {most};"):
                    draw(one, pool, ratio, most + 1, generator("l", seed), mode)


def test_a_short_cell_says_what_would_fit():
    one = table([[1000, 1000], [100, 100]])
    pool = one.pool(0)
    with pytest.raises(DataError) as caught:
        draw(one, pool, 0.5, 400, generator("d"))
    for part in ("48 records of the pool are (z) and (not y)", "100 are wanted", "size 400",
                 "at this ratio is 193", "ratios from 0 to 0.24 fit (0 to 96 records"):
        assert part in str(caught.value), str(caught.value)
    for ones in (0, 96):
        assert len(draw(one, pool, ones / 400, 400, generator("d"))) == 400
    with pytest.raises(DataError, match="but 49 are wanted"):
        draw(one, pool, 97 / 400, 400, generator("d"))
    with pytest.raises(DataError, match="at this size no ratio fits"):
        draw(one, pool, 0.5, 1300, generator("d"))
    with pytest.raises(DataError, match=r"are \(z\), but 200"):
        draw(one, pool, 0.5, 400, generator("d"), "free")


def test_other_refused_draws():
    one = table([[40, 40], [40, 0]])
    pool, stream = np.arange(120), generator("d")
    for ratio in (-0.1, 1.2, float("nan")):
        with pytest.raises(DataError, match=f"ratio {ratio} is outside 0..1"):
            draw(one, pool, ratio, 10, stream)
        with pytest.raises(DataError, match="outside 0..1"):
            largest(one, pool, ratio)
    with pytest.raises(DataError, match="'exact' is not one of cells, free, balanced"):
        draw(one, pool, 0.5, 10, stream, "exact")
    with pytest.raises(DataError, match="size 0 is below 1"):
        draw(one, pool, 0.5, 0, stream)
    with pytest.raises(DataError, match="the pool is empty"):
        draw(one, pool[:0], 0.5, 1, stream)
    for mode in ("cells", "free"):
        with pytest.raises(DataError, match=r"label class 1 \(y\) would be missing"):
            draw(one, pool, 1, 10, stream, mode)


def test_overlap():
    assert tables.overlap([[0, 1, 2, 3], [2, 3, 4, 5], [6, 7, 8, 9]]) == pytest.approx(2 / 12)
    assert tables.overlap([[0, 1], [1, 0]]) == 1 and tables.overlap([[0, 1], [2, 3]]) == 0
    with pytest.raises(DataError, match=r"two draws \[M, n\], got \[3\]"):
        tables.overlap([0, 1, 2])
    one = table([[300, 200], [150, 250]])
    for mode, ratio in itertools.product(tables.MODES, (0, 0.4, 1)):
        rows = [draw(one, one.pool(0), ratio, 80, generator("o", i), mode) for i in range(150)]
        expected = tables.expected_overlap(one, one.pool(0), ratio, 80, mode)
        assert tables.overlap(rows) == pytest.approx(expected, abs=0.004)


def test_own_csv_and_parquet_files(tmp_path):
    path, frame = own(tmp_path)
    one = load(path, "sex=Female", "income")
    assert one.name == str(path) and one.features.dtype == np.float32
    assert one.names == ("age", "town=Bonn", "town=Oslo", "town=Rome", "sex=Female", "sex=Male",
                         "hours")
    assert one.groups == ("age", *["town"] * 3, *["sex"] * 2, "hours")
    assert (one.attribute == (frame["sex"] == "Female")).all() and one.label.dtype == np.uint8
    assert (one.label == (frame["income"] == ">50K")).all() and one.label_name == "income=>50K"
    numbers = one.features[:, [0, 6]].astype(float)
    assert np.abs(numbers.mean(0)).max() < 1e-6 and np.abs(numbers.std(0) - 1).max() < 1e-6
    assert (one.features[:, 3] == (frame["town"] == "Rome")).all()
    check_split(one)
    parquet = own(tmp_path, name="mine.parquet", town=pd.Categorical(frame["town"]))[0]
    same = load(parquet, "sex=Female", "income=>50K")
    assert same.sha256 == one.sha256 and (same.features == one.features).all()
    assert load(path, "age=30", "sex").property_name == "age=30"
    codes = own(tmp_path, name="codes.parquet", town=["10", "9", "100"] * 80,
                income=pd.array([0, 1] * 120, dtype="Int64"), sex=[True, False, False] * 80)[0]
    coded = load(codes, "sex=False", "income")
    assert coded.names[1:4] == ("town=9", "town=10", "town=100") and coded.label_name == "income"
    assert load(codes, "sex=True", "town=9").property_name == load(codes, "sex", "town=9"
                                                                   ).property_name == "sex"


def test_hashes_follow_what_they_cover(tmp_path):
    path, frame = own(tmp_path)
    base = {"property": "sex=Female", "label": "income"}
    keys = [load(path, **base | change).sha256 for change in (
        {}, {"property": "sex=Male"}, {"property": "town=Rome"}, {"label": "income=<=50K"},
        {"label": "town=Oslo"}, {"drop": ("age",)}, {"drop": ("sex",)}, {"split_seed": 1})]
    assert len(set(keys)) == len(keys) and all(len(key) == 64 for key in keys)
    assert load(path, **base).sha256 == keys[0]
    assert load(path, **base, drop=("one",)).sha256 == keys[0], "a constant column has no feature"
    frame.loc[3, "hours"] += 1e-9
    changed = tmp_path / "changed.csv"
    frame.to_csv(changed, index=False)
    assert load(changed, **base).sha256 != keys[0]


def test_without(tmp_path):
    one = load(own(tmp_path)[0], "sex=Female", "income")
    less = one.without("sex", "age")
    assert less.names == ("town=Bonn", "town=Oslo", "town=Rome", "hours")
    assert (less.features == one.features[:, [1, 2, 3, 6]]).all()
    assert (less.party == one.party).all() and (less.attribute == one.attribute).all()
    dropped = load(own(tmp_path)[0], "sex=Female", "income", drop=("sex", "age"))
    assert less.sha256 == dropped.sha256 != one.sha256
    with pytest.raises(DataError, match="no features of column 'income'; present: age, town"):
        one.without("income")
    with pytest.raises(DataError, match="no feature is left"):
        one.without("age", "town", "sex", "hours")


def test_refused_files(tmp_path):
    path, frame = own(tmp_path)
    refused("no such file", name=tmp_path / "absent.csv")
    refused("acs_ma, adult, fashion16", "'.txt'", name="mine.txt")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 cut")
    (tmp_path / "empty.csv").write_bytes(b"")
    refused("cannot be read", name=tmp_path / "cut.parquet")
    refused("cannot be read", name=tmp_path / "empty.csv")
    refused("199 rows; at least 200", name=own(tmp_path, 199, "short.csv")[0])
    refused("needs label=", "age, town", name=path, label=None)
    refused("unknown property 'gender=F'", "no column 'gender'", "age, town, sex", name=path,
            property="gender=F")
    refused("unknown label 'pay'", "income", name=path, label="pay")
    refused("no column 'pay'; present: age", name=path, drop=("pay",))
    refused("label 'town' is not binary: it has 3 values (Bonn, Oslo, Rome)", "'town=VALUE'",
            name=path, label="town")
    refused("property column 'one' is constant (7)", name=path, property="one=7")
    refused("has no value 'female'", "Female, Male", name=path, property="sex=female")
    refused("has no value 'old'", name=path, property="age=old")
    refused("are the same", name=path, label="sex=Male")
    hours = frame["hours"].where(frame.index > 4)
    gaps = own(tmp_path, name="gaps.csv", hours=hours)[0]
    refused("column 'hours' holds 5 missing", "drop the column", name=gaps)
    assert load(gaps, "sex=Female", "income", drop=("hours",)).features.shape == (240, 6)
    refused("'sex' holds 240 missing", name=own(tmp_path, name="g.csv", sex=None)[0])
    refused("'income' holds 2 missing", name=own(
        tmp_path, name="g.csv", income=frame["income"].where(frame.index > 1))[0])
    refused("'hours' holds 1 missing or infinite", name=own(
        tmp_path, name="g.csv", hours=frame["hours"].where(frame.index > 0, np.inf))[0])
    many = [f"town {i % 51}" for i in range(240)]
    refused("'town' has 51 categories; at most 50", name=own(tmp_path, name="g.csv", town=many)[0])
    load(own(tmp_path, name="g.csv", town=[f"town {i % 50}" for i in range(240)])[0],
         "sex=Female", "income")


@needs("acs_ma")
def test_acs_ma():
    one = load("acs_ma")
    assert one.features.shape == (173871, 62) and one.label_name == "employed"
    assert one.property_name == "sex=Female" and one.label.sum() == 126426
    assert one.attribute.sum() == 89306
    assert not {"ESP", "year", "employed"} & set(one.groups) and one.names[:3] == (
        "AGEP", "SCHL", "MAR=1")
    check_split(one)
    assert load("acs_ma", "SEX=2").sha256 == one.sha256 == load("acs_ma", "sex=Female").sha256
    race = load("acs_ma", "race", drop=("RAC1P",))
    assert race.attribute.sum() == 140142 and race.features.shape == (173871, 53)
    rows = draw(one, one.pool(0), 0.25, 20000, generator("acs"))
    share = tables.cells(one, one.pool(0))[:, 1] / tables.cells(one, one.pool(0)).sum(1)
    assert cell_counts(one, rows)[:, 1].tolist() == [round(15000 * share[0]),
                                                     round(5000 * share[1])]
    with pytest.raises(DataError, match="unknown property 'gender'.*known here: sex, race"):
        load("acs_ma", "gender")


@needs("adult")
def test_adult():
    one = load("adult")
    assert one.features.shape == (45222, 81) and one.label_name == "salary=>50K"
    assert one.attribute.sum() == 14695 and one.label.sum() == 11208
    assert not {"relationship", "fnlwgt", "education", "salary"} & set(one.groups)
    check_split(one)
    race = load("adult", "race")
    assert race.attribute.sum() == 38903 and "relationship" in race.groups
    assert race.property_name == "race=White"


@needs("fashion16")
def test_fashion16():
    one = load("fashion16", "footwear")
    assert one.features.shape == (60000, 1, 16, 16) and one.features.dtype == np.float32
    assert one.features.min() == -1 and one.features.max() == 1 and one.names == one.groups == ()
    assert tables.cells(one, np.arange(60000)).tolist() == [[24000, 18000], [12000, 6000]]
    check_split(one)
    assert load("fashion16", "footwear=1", "class=9").label.sum() == 6000
    with pytest.raises(DataError, match="unknown property 'sex'.*known here: footwear"):
        load("fashion16")
    with pytest.raises(DataError, match="no columns to drop"):
        load("fashion16", "footwear", drop=("footwear",))
    with pytest.raises(DataError, match="no features of column"):
        one.without("footwear")


@pytest.mark.parametrize("name", records.NAMES)
def test_missing_and_damaged_tables_name_the_command(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SAME_NOISE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"is missing.*python -m helpers data {name}"):
        load(name)
    (tmp_path / f"{name}.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=f"is damaged.*python -m helpers data {name}"):
        load(name)
    records.write(tmp_path / f"{name}.parquet", {"sex": np.array(["a", "b"])})
    with pytest.raises(DataError, match="the pinned one is"):
        load(name)
