"""Published shadow samples: what is trained and kept, and that it can be made again."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from helpers import (
    audit,
    costs,
    denoiser_groups,
    denoiser_stack,
    noise_shadows,
    notebooks,
    project,
)
from helpers.denoiser_groups import Family, fitted
from helpers.denoiser_stack import Small
from helpers.images import DataError
from helpers.noise import noise
from helpers.noise_plan import Study
from helpers.noise_shadows import NoiseShadows
from helpers.project import UsageError
from helpers.store import Store

torch.set_num_threads(1)
TOY = NoiseShadows(Family(party=1, n=64, count=4, recipe=Small(hidden=(8,), steps=10, batch=8,
                                                               chunk=2)), (0.2, 0.8), 12)


@pytest.fixture(scope="module", autouse=True)
def few():
    """Sample 20 noises where the published shadows take a thousand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise_shadows, "DRAWN", 20)
        yield


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    return tmp_path_factory.mktemp("published")


def store_of(book, publish=True):
    return Store(book / "_store", book / "results", publish)


@pytest.fixture(scope="module")
def entry(book):
    return noise_shadows.make(TOY, store_of(book), workers=1)


def test_the_published_shadows_are_those_of_ratios_from_zero_to_one(monkeypatch):
    monkeypatch.setattr(noise_shadows, "DRAWN", 1000)
    shadows = NoiseShadows()
    assert {k / 10 for k in range(11)} | {0.45, 0.48} == set(shadows.ratios)
    assert shadows.noises == 200
    assert [family.ratio for family in shadows.families] == list(shadows.ratios)
    family = shadows.family
    assert (family.party, family.n, family.count, family.side) == (1, 2048, 16, 8)
    assert denoiser_groups.shape(family) == (1, 8, 8)
    assert family.recipe == Small(hidden=(256, 256), batch=64, steps=2000, chunk=8)
    for each in (shadows.families[0], shadows.families[-1]):
        denoiser_groups.check(each)  # either half of the pool has records enough


def test_the_chapter_audits_the_shadows_that_the_command_reads(monkeypatch):
    monkeypatch.setattr(noise_shadows, "DRAWN", 1000)
    root = project.need_root()
    [path] = [path for path in project.chapters(root) if path.stem.startswith("16_")]
    p = {name: one.default for name, one in notebooks.parameters_of(
        notebooks.read_script(path), path.stem).items()}
    recipe = Small(hidden=tuple(p["hidden"]), batch=p["batch"], steps=p["steps"], chunk=p["chunk"])
    study = Study(recipe=recipe, n=p["n"], ratio=p["ratio"], shadows=p["shadows"])
    assert study.published(tuple(p["published"]), p["asked"]) == NoiseShadows()
    assert study.published((0.3, 0.5), p["asked"]) != NoiseShadows()


def test_the_samples_are_the_models_pictures_of_the_first_noises(book, entry):
    found = entry.arrays["samples"]
    assert found.shape == (2, 4, 12, 64) and found.dtype == np.uint8
    bank = noise(range(12), (1, 8, 8)).reshape(12, 64)
    for family, mine in zip(TOY.families, found, strict=True):
        drawn = denoiser_stack.draw(fitted(family, store_of(book))[0], bank)
        wanted = (np.clip(drawn.astype(float), -1, 1) + 1) * 127.5
        assert np.abs(mine - wanted).max() < 1  # rounded, and drawn beside other noises
        assert len({one.tobytes() for one in mine}) == 4
    assert not np.array_equal(found[0], found[1])
    again = noise_shadows.read(TOY, store_of(book, False))
    assert list(again) == [0.2, 0.8] and np.array_equal(again[0.8], found[1])


def test_published_once_and_replaced_when_the_code_changes(book, entry, monkeypatch):
    monkeypatch.setattr(denoiser_stack, "fit", lambda *_, **__: pytest.fail("trained again"))
    assert noise_shadows.make(TOY, store_of(book), workers=1).key == entry.key
    (key, record, _), = costs.published(book)
    assert key == entry.key and record["stage"] == "noise shadows" and record["version"] == 1
    assert set(noise_shadows.MODULES) == set(record["modules"]) and record["device"] == "cpu"
    assert {"helpers.noise_shadows", "helpers.release", "helpers.denoiser_stack",
            "helpers.sampling"} <= set(record["modules"])
    assert len(record["trained"]) == 4 and record["tolerance"] == {"mean_abs": 3.0}
    assert record["cost"]["seconds"] + 0.01 > sum(record["trained"].values()) > 0  # rounded
    assert record["torch"] == torch.__version__
    monkeypatch.setattr(noise_shadows, "MODULES", ("helpers.noise",))
    other = noise_shadows.make(TOY, store_of(book), workers=1)
    assert other.record["fingerprint"] != record["fingerprint"]
    assert np.array_equal(other.arrays["samples"], entry.arrays["samples"])


def test_the_record_recomputes_to_the_same_bits(entry):
    record = json.loads(json.dumps(entry.record))
    assert record["recompute"]["arguments"]["shadows"]["noises"] == 12
    assert audit.compare(entry.arrays, audit.recompute(record), record["tolerance"])[0] == (
        "same bits")
    told = record["recompute"]["arguments"]["shadows"]
    told["family"]["recipe"] |= {"steps": 60, "rate": 0.05}  # the comparison can fail
    assert audit.compare(entry.arrays, audit.recompute(record), record["tolerance"])[0] == "OFF"


def test_the_key_holds_everything_that_decides_the_samples(monkeypatch):
    other = [replace(TOY, noises=11), replace(TOY, ratios=(0.2, 0.7)),
             replace(TOY, family=replace(TOY.family, n=65)),
             replace(TOY, family=replace(TOY.family, count=6))]
    keys = {noise_shadows.key_of(each) for each in (TOY, *other)}
    monkeypatch.setattr(noise_shadows, "DRAWN", 21)
    assert len(keys | {noise_shadows.key_of(TOY)}) == 6
    assert asdict(TOY)["family"]["party"] == 1


def test_what_has_not_been_published_says_how(tmp_path):
    with pytest.raises(UsageError, match="attack-diffusion --make-shadows` trains them .8 models"):
        noise_shadows.read(TOY, Store(tmp_path))


def test_a_short_pool_stops_before_any_training(tmp_path, monkeypatch):
    monkeypatch.setattr(denoiser_stack, "fit", lambda *_, **__: pytest.fail("trained"))
    greedy = replace(TOY, family=replace(TOY.family, n=9000))
    with pytest.raises(DataError, match="largest size at this ratio is"):
        noise_shadows.make(greedy, Store(tmp_path), workers=1)


@pytest.mark.parametrize("changes, said", [
    ({"ratios": (0.5,)}, "at least two different ones"),
    ({"ratios": (0.5, 0.3)}, "in increasing order"),
    ({"ratios": (0.3, 0.3)}, "different"),
    ({"noises": 0}, "noises=0 must be 1 to 20"), ({"noises": 21}, "noises=21 must be 1 to 20"),
    ({"family": replace(TOY.family, party=0)}, "party=0 must be 1"),
    ({"family": replace(TOY.family, count=3)}, "count=3 at least 4"),
    ({"family": replace(TOY.family, side=0)}, "side=0 that of pictures"),
])
def test_shadows_that_cannot_be(changes, said):
    with pytest.raises(ValueError, match=said):
        replace(TOY, **changes)
