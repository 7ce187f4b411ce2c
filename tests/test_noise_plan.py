"""Every game of the chapters on shared noise differs from the plain one in what its name says."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from helpers import denoiser_groups, noise_plan
from helpers.denoiser_groups import SHIFTS, Net
from helpers.denoiser_stack import Small
from helpers.noise_plan import Study
from helpers.release import Release

RECIPE = Small(hidden=(12, 8), steps=40, batch=8, chunk=2)
STUDY = Study(recipe=RECIPE, n=100, victims=6, fewer_victims=4, regime_victims=3, shadows=8,
              fewer_shadows=5, counts=(1, 10, 40, 60), noises=60, draws=3, unet="unet-20k",
              unets={"brief": [8, 5, 4], "larger": [16, 6, 4]}, unet_victims=2, unet_noises=40)
PLAIN = STUDY.mismatch("none")


def changed(one, other, skip=()) -> dict:
    """Fields of two dataclasses that differ, with the value of the first."""
    left, right = asdict(one), asdict(other)
    return {name: left[name] for name in left if left[name] != right[name] and name not in skip}


def test_the_usual_game_has_the_sizes_of_the_study():
    game = STUDY.game()
    assert (game.victims.count, game.shadows.count, game.victims.n) == (4, 8, 100)
    assert (game.victims.party, game.shadows.party) == (0, 1)
    assert (game.alpha0, game.victims.ratio, game.shadows.ratio) == (0.5, 0.4, 0.4)
    assert (game.counts, game.noises, game.draws) == ((1, 10, 40, 60), 60, 3)
    assert STUDY.game(at=0.3).shadows.ratio == 0.3
    assert STUDY.mine.recipe == STUDY.theirs.recipe == RECIPE


@pytest.mark.parametrize("name, recipe", [
    ("narrow", {"hidden": (6, 4)}), ("deep", {"hidden": (12, 8, 8)}), ("vp", {"objective": "vp"}),
    ("flow", {"objective": "flow"}), ("short", {"steps": 20}), ("long", {"steps": 80})])
def test_a_way_to_train_changes_the_shadows_alone(name, recipe):
    game = STUDY.mismatch(name)
    assert game.victims == PLAIN.victims and game.shadows.count == 5
    assert changed(game.shadows, PLAIN.shadows, {"recipe"}) == {}
    assert changed(game.shadows.recipe, RECIPE) == recipe


@pytest.mark.parametrize("name, records", [("half the records", 50), ("twice the records", 200)])
def test_other_numbers_of_records(name, records):
    assert changed(STUDY.mismatch(name).shadows, PLAIN.shadows) == {"n": records}


@pytest.mark.parametrize("shift", [name for name in SHIFTS if name])
def test_a_shifted_pool(shift):
    assert changed(STUDY.mismatch(shift).shadows, PLAIN.shadows) == {"shift": shift}


def test_a_solver_is_what_the_attacker_believes():
    game = STUDY.mismatch("euler 36")
    assert changed(game, PLAIN) == {"believed": asdict(Release(solver="euler", steps=36))}
    assert game.release == Release()


def test_unets_as_shadows_and_on_both_sides():
    game = STUDY.mismatch("unet brief")
    assert game.victims == PLAIN.victims and game.shadows.recipe == Net("unet-20k", steps=5,
                                                                        batch=4)
    assert (game.shadows.count, game.noises, game.counts) == (4, 40, (1, 10, 40))
    both = STUDY.confirmation("larger")
    assert both.victims.recipe == both.shadows.recipe == Net("unet-20k", steps=6, batch=4)
    assert (both.victims.side, both.victims.count, both.shadows.count) == (16, 2, 4)
    more = STUDY.confirmation("larger", 7)
    assert changed(more, both) == {"shadows": asdict(replace(both.shadows, count=7))}
    with pytest.raises(ValueError, match="3 shadows of U-Net 'larger' must be at least 4"):
        STUDY.confirmation("larger", 3)
    with pytest.raises(ValueError, match="side 16 cannot be the shadows of victims of side 8"):
        STUDY.mismatch("unet larger")


def test_other_sides_sizes_and_tables():
    game = STUDY.plain(16)
    assert changed(game.victims, PLAIN.victims) == changed(
        game.shadows, PLAIN.shadows) == {"side": 16}
    few = STUDY.few()
    assert (few.victims.count, few.shadows.count, few.noises, few.counts) == (2, 4, 40,
                                                                               (1, 10, 40))
    assert few.victims.recipe == few.shadows.recipe == RECIPE
    sized = STUDY.size(64)
    assert (sized.victims.n, sized.victims.count, sized.shadows.count) == (64, 3, 5)
    told = STUDY.tabular("acs_ma")
    assert (told.victims.data.name, told.victims.data.property, told.victims.side) == (
        "acs_ma", "sex", 0)
    assert (told.victims.count, told.shadows.count) == (3, 5)


def test_models_that_audits_judge():
    shadows = STUDY.published((0.2, 0.4, 0.5), 30)
    study = replace(STUDY, unets={"brief": [8, 5, 4]})
    found = study.judged(2, (0.2, 0.5), [50, 100], ["narrow"], shadows)
    own = found.pop("as the shadows are")
    assert own.asked == (0.2, 0.5) and own.worlds == (0.5, 0.4) and own.shadows == shadows
    assert changed(own.victims, shadows.family) == {"party": 0, "count": 2}
    assert set(found) == {"50 records", "narrow", "unet brief", "euler 36", "heun 9", "heun 3",
                          "blurred by 16", "ancestral sampler", "turned noises", "other noises"}
    assert all(one.asked == (0.5, 0.4) and one.victims.party == 0 for one in found.values())
    assert found["50 records"].victims.n == 50 and found["unet brief"].drawn == 40
    assert found["turned noises"].release.noise == "rotated"
    assert len({(one.victims, one.release) for one in found.values()}) == len(found)
    with pytest.raises(ValueError, match="unknown ways to train: faded; known: narrow"):
        study.judged(2, (0.2,), [], ["faded"], shadows)
    with pytest.raises(ValueError, match="'larger' of side 16: the shadows' pictures have side 8"):
        STUDY.judged(2, (0.2,), [], [], shadows)


def test_small_cells_are_small_and_share_their_models():
    game, survey, check = STUDY.small_game(), STUDY.small_survey(), STUDY.small_check()
    assert game.shadows.recipe.steps == 40 and game.noises == survey.noises == 50
    families = {replace(f, ratio=0.4) for f in (*game.families, *survey.families, check.victims,
                                               check.shadows.family)}
    assert {(f.party, f.count, f.n) for f in families} == {(0, 4, 64), (1, 10, 64)}
    slow = replace(STUDY, recipe=replace(RECIPE, steps=5000)).small_game()
    assert slow.victims.recipe.steps == 100
    for family in game.families:
        denoiser_groups.check(family)


def test_surveys_have_shadows_enough_for_their_intervals():
    assert len(STUDY.survey(2, (0.3, 0.4, 0.5), 10).families) == 6
    with pytest.raises(ValueError, match="95 % intervals need at least 19 shadows in all"):
        STUDY.survey(2, (0.4, 0.5), 10)


@pytest.mark.parametrize("change, message", [
    ({"fewer_shadows": 3}, "fewer_shadows=3 .* must be at least 4"),
    ({"unets": {"odd": [8, 5]}}, "U-Net 'odd' must be a name in unets"),
    ({"ratio": 0.5}, "ratio=0.5 must differ from 0.5"),
    ({"fewer_victims": 9}, r"fewer_victims=9 lie in 1..victims=6")])
def test_studies_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        replace(STUDY, **change)


@pytest.mark.parametrize("name, message", [
    ("wide", "unknown mismatch 'wide'; known: none, narrow"),
    ("unet huge", "U-Net 'huge' must be a name in unets"),
    ("newton 9", "newton")])
def test_unknown_mismatches_say_what_is_known(name, message):
    with pytest.raises(ValueError, match=message):
        STUDY.mismatch(name)


def test_names_of_the_attacks_are_those_that_are_played():
    assert set(noise_plan.FEW) < set(noise_plan.EVERY)
    assert STUDY.game(attacks=noise_plan.EVERY).attacks == noise_plan.EVERY
