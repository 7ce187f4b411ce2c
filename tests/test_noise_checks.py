"""The command's verdicts on victims of known ratios: counted rightly, kept, and made again."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import audit, noise_audit, noise_checks, noise_shadows
from helpers.denoiser_groups import Family
from helpers.denoiser_stack import Small
from helpers.images import DataError
from helpers.noise_checks import Check, Checked
from helpers.noise_shadows import NoiseShadows
from helpers.release import Release, samples
from helpers.store import Store

torch.set_num_threads(1)
RECIPE = Small(hidden=(32,), steps=250, batch=32, chunk=4)
SIDE = Family(party=1, n=256, count=4, recipe=RECIPE)
TOY = Check(replace(SIDE, party=0), (0.0, 1.0), (0.0, 1.0), NoiseShadows(SIDE, (0.0, 1.0), 20),
            drawn=24)


@pytest.fixture(scope="module", autouse=True)
def few():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise_shadows, "DRAWN", 24)
        yield


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    return tmp_path_factory.mktemp("checks")


def store_of(book, publish=True):
    return Store(book / "_store", book / "results", publish)


@pytest.fixture(scope="module")
def found(book):
    fresh = replace(TOY, release=Release("own"))
    return noise_checks.play([TOY, fresh], store_of(book), workers=1)


def test_victims_are_judged_as_the_command_judges_them(book, found):
    store, known = store_of(book), noise_shadows.read(TOY.shadows, store_of(book))
    for row, family in enumerate(TOY.families):
        shown = samples(family, Release(), 24, store)[:, :20]
        distance, p = noise_audit.fit(shown, known)
        assert np.allclose(found[0].arrays["p"][row], p, atol=1e-7) and (distance > 0).all()
    # Four shadows a world: nine places for a p, and one tenth is no surprise.
    assert found[0].judged.sum() >= 6 and found[0].right().mean() == 1.0
    assert found[0].arrays["estimate"].shape == (2, 4, 3)


def test_pictures_of_other_noises_are_turned_away(found):
    own, fresh = found
    assert not fresh.judged.any() and fresh.right().size == 0 and fresh.inside().size == 0
    assert np.isnan(fresh.arrays["answer"]).all() and (fresh.arrays["p"] < 0.12).all()
    assert own.judged.any()


def test_shares_count_judged_victims_of_the_two_worlds_only():
    check = replace(TOY, asked=(0.2, 0.5, 0.8), worlds=(0.2, 0.8), shadows=replace(
        TOY.shadows, ratios=(0.2, 0.5, 0.8)))
    nan = np.nan
    arrays = {"judged": np.array([[1, 1, 0], [1, 1, 1], [1, 1, 1]], np.uint8),
              "answer": np.array([[0.2, 0.8, nan], [0.2, 0.8, 0.2], [0.8, 0.8, 0.8]], np.float32),
              "estimate": np.array([[(0.2, 0.1, 0.3)] * 2 + [(nan,) * 3], [(0.5, 0.45, 0.5)] * 3,
                                    [(0.8, 0.81, 0.9)] * 3], np.float32)}
    told = Checked(check, {}, arrays)
    assert told.right().tolist() == [True, False, True, True, True]
    assert told.inside().tolist() == [True] * 2 + [True] * 3 + [False] * 3
    assert told.width() == pytest.approx((2 * 0.2 + 3 * 0.05 + 3 * 0.09) / 8, abs=1e-6)
    arrays["estimate"] = np.full((3, 3, 3), nan, np.float32)  # too few shadows for an interval
    assert told.inside().size == 0 and np.isnan(told.width())


def test_kept_and_made_again_to_the_same_bits(book, found, monkeypatch):
    again = noise_checks.play([TOY], store_of(book, False), workers=1)[0]
    assert again.record == found[0].record
    record = json.loads(json.dumps(found[0].record))
    assert record["stage"] == "noise check" and set(record["modules"]) == {*noise_checks.MODULES}
    monkeypatch.setattr(noise_checks, "need_root", lambda: book)
    assert audit.compare(found[0].arrays, audit.recompute(record), record["tolerance"])[0] == (
        "same bits")
    record["recompute"]["arguments"]["check"]["victims"]["recipe"]["steps"] = 60
    assert audit.compare(found[0].arrays, audit.recompute(record), record["tolerance"])[0] == "OFF"


@pytest.mark.parametrize("changes, said", [
    ({"victims": SIDE}, "must be party 0"),
    ({"victims": replace(SIDE, party=0, side=16)}, "side 16: must be party 0"),
    ({"asked": ()}, "must not be empty"), ({"worlds": (0.0, 0.5)}, "two of the shadows' ratios"),
    ({"worlds": (1.0, 1.0)}, "two of the shadows' ratios"),
    ({"drawn": 19}, "drawn=19 must be at least the shadows' 20"),
    ({"release": Release("zero")}, "which is a single start"),
])
def test_checks_that_cannot_be(changes, said):
    with pytest.raises(ValueError, match=said):
        replace(TOY, **changes)


def test_a_short_pool_stops_before_any_training(tmp_path):
    greedy = replace(TOY, victims=replace(TOY.victims, n=60_000))
    with pytest.raises(DataError, match="largest size"):
        noise_checks.play([greedy], Store(tmp_path), workers=1)
    assert not list(tmp_path.rglob("*.safetensors"))
