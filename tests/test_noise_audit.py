"""A reader's own diffusion model: noises out, samples in, answers that follow from both."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy
from safetensors.numpy import load_file, save_file
from scipy.stats import kstest

from helpers import noise_audit, noise_estimates, noise_samples, noise_shadows, run, shared_noise
from helpers.denoiser_groups import Family
from helpers.denoiser_stack import Small
from helpers.noise import generator, noise
from helpers.noise_audit import fit, judge
from helpers.noise_samples import Reference
from helpers.noise_shadows import NoiseShadows
from helpers.project import UsageError

GRID, COUNT, NOISES, SIZE = (0.1, 0.3, 0.5, 0.7, 0.9), 8, 30, 64
WORLDS = (0.5, 0.3)
STREAM = generator("test-noise-audit")
BASE = STREAM.integers(60, 120, (NOISES, SIZE))
STEP = STREAM.integers(0, 3, (NOISES, SIZE))  # grey levels for a tenth of the ratio
POOLS = STREAM.normal(0, 2, (3, NOISES, SIZE))  # of two halves of shadows, and of victims


def exact(ratio, count=COUNT):
    """Pictures that follow from the ratio alone."""
    return np.tile(BASE + round(10 * ratio) * STEP, (count, 1, 1)).astype(np.uint8)


def models(ratio, count=COUNT, pools=(0, 1), spread=4.0, seed=0):
    """Models of a ratio: what their pool of records has in common, and noise of their own."""
    stream = generator("test-noise-audit-models", round(10 * ratio), seed)
    pool = POOLS[np.resize(pools, count)] if pools else 0
    own = stream.normal(0, spread, (count, NOISES, SIZE))
    return np.clip(exact(ratio, count) + pool + own, 0, 255).round().astype(np.uint8)


def known(shadows, **changes):
    return replace(Reference(shadows, (1, 8, 8), 100, "toys, red", "perceptrons of 3 units", True),
                   **changes)


SHADOWS = {ratio: models(ratio) for ratio in GRID}
VICTIMS = np.concatenate([models(ratio, 12, (2,), seed=1) for ratio in WORLDS])
TRUTH = np.repeat(WORLDS, 12)


@pytest.fixture(scope="module")
def found():
    return judge(VICTIMS, SHADOWS, WORLDS, known(SHADOWS))


# --- verdicts --------------------------------------------------------------------------------


def test_where_pictures_follow_from_the_ratio_every_number_is_known():
    shadows = {ratio: exact(ratio) for ratio in GRID}
    answers = judge(np.concatenate([exact(0.5, 2), exact(0.3, 1)]), shadows, WORLDS,
                    known(shadows))
    gap = 2 * STEP.mean()
    np.testing.assert_allclose(answers.scores, [-gap, -gap, gap], rtol=1e-12)
    assert answers.answer == answers.zero == [0.5, 0.5, 0.3]
    assert answers.distance == [0, 0, 0] and answers.p == [1, 1, 1] and all(answers.judged)
    assert answers.accuracy.value == 1 and answers.usual == (0, 0)
    between = judge(exact(0.4, 1), shadows, WORLDS, known(shadows))
    np.testing.assert_allclose(between.distance, [STEP.mean()], rtol=1e-12)
    assert between.judged == [False] and between.p == [1 / 41]
    np.testing.assert_allclose(between.scores, [0], atol=1e-12)


def test_victims_are_recognised(found):
    assert all(found.judged) and found.answer == TRUTH.tolist() and found.zero == TRUTH.tolist()
    sure = np.array([each.value for each in found.probability])  # of ratio 0.3
    assert sure[:12].max() < 0.2 and sure[12:].min() > 0.8
    assert all(0 < each.low <= each.value <= each.high < 1 for each in found.probability)
    guess = np.array([each.value for each in found.estimate])
    assert np.abs(guess - TRUTH).max() < 0.05
    assert all(each.low <= ratio <= each.high
               for each, ratio in zip(found.estimate, TRUTH, strict=True))
    assert found.accuracy.value == 1 and 0.75 < found.accuracy.low < 1
    assert found.estimated_from == list(GRID) and found.noises == NOISES


def test_swapped_worlds_swap_the_answer(found):
    other = judge(VICTIMS, SHADOWS, WORLDS[::-1], known(SHADOWS))
    assert other.answer == found.answer and other.zero == found.zero
    np.testing.assert_allclose(other.scores, -np.array(found.scores), atol=1e-12)
    for one, two in zip(found.probability, other.probability, strict=True):
        assert two.value == pytest.approx(1 - one.value, abs=1e-9)
        assert two.low == pytest.approx(1 - one.high, abs=1e-9)
    assert other.p == found.p and other.estimate == found.estimate


def test_exchanged_shadows_flip_the_answer(found):
    exchanged = {**SHADOWS, 0.3: SHADOWS[0.5], 0.5: SHADOWS[0.3]}
    other = judge(VICTIMS, exchanged, WORLDS, known(exchanged))
    assert other.answer == TRUTH[::-1].tolist()
    np.testing.assert_allclose(other.scores, -np.array(found.scores), atol=1e-12)


def test_equal_laws_give_no_verdict():
    same = {0.3: models(0.5, 16, (), seed=2), 0.5: models(0.5, 16, (), seed=3)}
    null = judge(models(0.5, 20, (), seed=4), same, WORLDS, known(same))
    assert null.accuracy.low < 0.5 < null.accuracy.high
    sure = [each for each in null.probability if each is not None]
    assert len(sure) > 15 and all(0.1 < each.value < 0.9 for each in sure)


def test_the_score_is_the_paired_pixel_evidence(found):
    a, b, v = (part.astype(np.float32) for part in (SHADOWS[0.5], SHADOWS[0.3], VICTIMS))
    wanted = shared_noise.evidence("paired pixels", v, a, b, None).mean(1)
    np.testing.assert_allclose(found.scores, wanted, rtol=1e-4)


def test_the_estimate_is_that_of_the_surveys(found):
    shadows = [SHADOWS[ratio].astype(np.float32) for ratio in GRID]
    family = Family(party=1, count=COUNT)
    survey = noise_estimates.NoiseSurvey(Family(), family, (0.5,), GRID, (NOISES,), NOISES)
    fresh = [np.concatenate(shadows)] * 2
    wanted = noise_estimates._estimates(survey, VICTIMS.astype(np.float32), shadows, fresh,
                                        lambda part: part.mean(2) / 255)["estimate/paired"]
    mine = [[each.value, each.low, each.high] for each in found.estimate]
    np.testing.assert_allclose(mine, wanted.reshape(-1, 3), atol=1e-4)


# --- fit -------------------------------------------------------------------------------------


def paired(one, side):
    return np.mean([np.abs(one.astype(float) - other).mean() for other in side])


def test_the_fit_is_the_distance_from_the_nearest_ratio_of_the_other_half():
    distance, p = fit(VICTIMS[:3], SHADOWS)
    held = [min(paired(one, SHADOWS[r][1 - i % 2 :: 2]) for r in GRID)
            for ratio in GRID for i, one in enumerate(SHADOWS[ratio])]
    for k, one in enumerate(VICTIMS[:3]):
        wanted = np.mean([min(paired(one, SHADOWS[r][half::2]) for r in GRID) for half in (0, 1)])
        assert distance[k] == pytest.approx(wanted)
        assert p[k] == pytest.approx((1 + np.sum(np.array(held) >= wanted)) / (1 + len(held)))


def test_models_drawn_like_shadows_fit_and_others_do_not(found):
    flat = {ratio: models(ratio, 40, (), seed=6) for ratio in (0.1, 0.5, 0.9)}
    p = fit(np.concatenate([models(ratio, 60, (), seed=7) for ratio in flat]), flat)[1]
    assert kstest(p, "uniform").pvalue > 1e-3 and (p <= 1 / 121).mean() < 0.05
    assert (fit(models(0.3, 100, (2,), seed=5), SHADOWS)[1] <= 1 / 41).mean() < 0.1
    wrong = {
        "inverted": 255 - VICTIMS, "another order": VICTIMS[:, ::-1],
        "noisier": models(0.5, 4, (2,), spread=8.0, seed=8), "a constant": 0 * VICTIMS[:2] + 100}
    for name, part in wrong.items():
        told = judge(part, SHADOWS, WORLDS, known(SHADOWS))
        assert told.judged == [False] * len(part), name
        assert min(told.distance) > found.usual[1] and max(told.p) == 1 / 41, name
        for answers in (told.answer, told.zero, told.probability, told.estimate):
            assert answers == [None] * len(part)


def test_a_hundred_shadows_leave_the_farthest_hundredth_out():
    many = {ratio: models(ratio, 100, seed=9) for ratio in WORLDS}  # 200 shadows
    near = np.stack([models(0.5, 1, (2,), spread=s, seed=10)[0] for s in np.linspace(3, 5, 80)])
    told = judge(near, many, WORLDS, known(many))
    p = np.array(told.p)
    assert told.judged == (p >= 0.01).tolist()
    assert (p < 1.5 / 201).any() and ((p > 0.01) & (p < 0.1)).any() and (p > 0.3).any()


@pytest.mark.parametrize("victims, shadows, said", [
    (VICTIMS[:, :9], SHADOWS, "samples of shape .24, 9, 64.: need .models, 30, 64."),
    (VICTIMS[:0], SHADOWS, "samples of shape .0, 30, 64."),
    (VICTIMS, {0.5: SHADOWS[0.5], 0.3: SHADOWS[0.3][:6]}, r"\[6, 8\] shadows: need as many"),
    (VICTIMS, {0.5: SHADOWS[0.5][:3], 0.3: SHADOWS[0.3][:3]}, "at least 4"),
])
def test_samples_that_do_not_fit_together(victims, shadows, said):
    with pytest.raises(ValueError, match=said):
        fit(victims, shadows)


def test_the_report_says_what_it_rests_on(found):
    text = noise_audit.report(found)
    for part in ("toys, red: which ratio, 0.5 or 0.3? 30 noises", "P(ratio 0.3)", "ratio estimate",
                 "1.00 [0.81, 1.00] of held-out shadows", "0.1, 0.3, 0.5, 0.7, 0.9",
                 "p of fit", "Assumed: ", "about 100 records", "deterministic sampler",
                 "perceptrons of 3 units"):
        assert part in text, part
    assert "cannot judge" not in text and "Caveat" not in text
    mixed = judge(np.concatenate([VICTIMS[:1], 255 - VICTIMS[:1]])[:, :5],
                  {ratio: part[:, :5] for ratio, part in SHADOWS.items()}, WORLDS, known(SHADOWS))
    text = noise_audit.report(mixed)
    row, = (line for line in text.splitlines() if line.startswith("1 "))
    assert row.split()[1:6] == ["cannot", "judge", "–", "–", "–"]
    assert "Model 1: cannot judge: farther" in text and "train-shadows" in text
    assert "Caveat: 5 noises are few; give 10 or more." in text
    two = {ratio: SHADOWS[ratio][:4] for ratio in WORLDS}
    few = judge(VICTIMS[:1], two, WORLDS, known(two))
    assert few.estimate == [None] and "No ratio estimate: 4 shadows of each" in (
        noise_audit.report(few))


# --- samples from files ----------------------------------------------------------------------


REFERENCE = known(SHADOWS)
GOOD = VICTIMS[:2]


def written(folder, name="mine.npz", **arrays):
    path = folder / name
    if name.endswith(".npz"):
        np.savez(path, **arrays)
    elif name.endswith(".npy"):
        np.save(path, *arrays.values())
    else:
        save_file({key: np.ascontiguousarray(part) for key, part in arrays.items()}, path)
    return path


def test_layouts_files_and_units_are_one(tmp_path):
    square = GOOD.reshape(2, NOISES, 8, 8)
    model = (GOOD / 127.5 - 1).reshape(2, NOISES, 1, 8, 8)
    for name in ("mine.npz", "mine.npy", "mine.safetensors"):
        for part in (square, square[:, :, None], square[..., None], model.astype(np.float32),
                     model.astype(np.float64), np.moveaxis(model, 2, -1)):
            mine, indices = noise_samples.read_samples(written(tmp_path, name, any=part),
                                                       REFERENCE)
            assert mine.dtype == np.uint8 and np.array_equal(mine, GOOD)
            assert np.array_equal(indices, np.arange(NOISES))
    for part in (square[0], model[0]):
        mine, _ = noise_samples.read_samples(written(tmp_path, samples=part, other=[1]), REFERENCE)
        assert np.array_equal(mine, GOOD[:1])
    some = np.array([7, 3, 11], np.int32)
    mine, indices = noise_samples.read_samples(
        written(tmp_path, samples=square[:, some], indices=some), REFERENCE)
    assert np.array_equal(mine, GOOD[:, some]) and indices.tolist() == [7, 3, 11]


def test_colour_and_features(tmp_path):
    shadows = {0.5: np.zeros((4, 9, 12), np.uint8), 0.3: np.ones((4, 9, 12), np.uint8)}
    colour = known(shadows, shape=(3, 2, 2))
    last = np.arange(9 * 12, dtype=np.uint8).reshape(9, 2, 2, 3)
    for part in (last, last.transpose(0, 3, 1, 2)):
        mine, _ = noise_samples.read_samples(written(tmp_path, samples=part), colour)
        assert np.array_equal(mine[0], last.transpose(0, 3, 1, 2).reshape(9, 12))
    table = known({0.5: np.zeros((4, 9, 5), np.float16)}, shape=(5,))
    values = np.linspace(-7, 40, 45).reshape(9, 5)
    mine, _ = noise_samples.read_samples(written(tmp_path, samples=values), table)
    assert mine.shape == (1, 9, 5) and np.allclose(mine[0], values, rtol=1e-6)
    with pytest.raises(UsageError, match="samples are uint8; needed are floats"):
        noise_samples.read_samples(written(tmp_path, samples=values.astype(np.uint8)), table)
    with pytest.raises(UsageError, match=r"shape \[9, 4\]; needed are \[noises, 5\]"):
        noise_samples.read_samples(written(tmp_path, samples=values[:, :4]), table)


def archive(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


SQUARE = GOOD[0].reshape(NOISES, 8, 8)
UNIT = SQUARE / 127.5 - 1


@pytest.mark.parametrize("content, said", [
    (None, "there is no file"), (b"text", "cannot be read: damaged"),
    (archive(a=SQUARE, b=SQUARE), "no array 'samples' .arrays: a, b."),
    (archive(), "no array 'samples' .arrays: none."),
    (archive(indices=np.arange(9)), "no array 'samples' .arrays: none."),
    (archive(samples=SQUARE.astype(object)), "object array, which needs pickle"),
    (archive(samples=SQUARE.astype(int)), "samples are int64; needed are uint8, or floats"),
    (archive(samples=np.full((9, 8, 8), "a")), "samples are <U1"),
    (archive(samples=SQUARE.astype(float)), "values from .*; floats must lie in .-1, 1."),
    (archive(samples=UNIT * 4), "floats must lie in .-1, 1. .cut them"),
    (archive(samples=SQUARE / 255), "none below 0, where the shadows go down to -0.*2 x - 1"),
    (archive(samples=np.where(np.arange(8) == 2, np.nan, UNIT)),
     "model 0 at place 0 holds nan .240 values"),
    (archive(samples=SQUARE[:, :7]), r"shape \[30, 7, 8\]; needed are \[noises, 1 x 8 x 8\]"),
    (archive(samples=SQUARE[0]), r"shape \[8, 8\]; needed"),
    (archive(samples=SQUARE[:0]), r"shape \[0, 8, 8\]; needed"),
    (archive(samples=GOOD[0]), r"shape \[30, 64\]; needed"),
    (archive(samples=np.zeros((1, 1, 3, 1, 8, 8), np.uint8)), r"shape \[1, 1, 3, 1, 8, 8\]"),
    (archive(samples=np.zeros((30, 3, 8, 8), np.uint8)[None]), r"shape \[1, 30, 3, 8, 8\]"),
    (archive(samples=np.zeros((30, 16, 16), np.uint8)),
     "side 16 are not averaged down to 8: .*train-shadows --side 16"),
    (archive(samples=np.zeros((30, 1, 32, 32))), "side 32 are not averaged down"),
    (archive(samples=np.zeros((2, 30, 24, 24, 1))), "side 24 are not averaged down"),
    (archive(samples=np.zeros((1001, 3, 8, 8), np.uint8)), "1001 models; at most 1000"),
    (archive(samples=np.zeros(40_000_000, np.uint8)), "holds 40 MB; at most 31 MB are read"),
    (archive(samples=SQUARE[:2]), "samples of 2 noises .0, 1.; at least 3"),
    (archive(samples=np.concatenate([SQUARE, SQUARE])),
     "no shadow was asked noise 30, 31, .*30 in all.*0 to 29"),
    (archive(samples=SQUARE[:4], indices=[0, 1, 30, -1]), "asked noise 30, -1; they know"),
    (archive(samples=SQUARE[:4], indices=[0, 5, 3, 5]), "indices name noise 5 more than once"),
    (archive(samples=SQUARE[:4], indices=[0, 5, 3]), r"shape \[3\]; needed is one whole number"),
    (archive(samples=SQUARE[:3], indices=[0., 1., 2.]), "indices are float64"),
])
def test_bad_samples(tmp_path, content, said):
    path = tmp_path / "mine.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        noise_samples.read_samples(path, REFERENCE)
    assert "mine.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_pickles_and_other_files_are_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "a.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "a.pt").write_bytes(b"x")
    for name, said in (("a.npy", "needs pickle"), ("a.safetensors", "damaged"),
                       ("a.pt", "ending is '.pt'; needed is one of .safetensors, .npz, .npy")):
        with pytest.raises(UsageError, match=said):
            noise_samples.read_samples(tmp_path / name, REFERENCE)


# --- the command -----------------------------------------------------------------------------


TOY = NoiseShadows(Family(party=1, n=64, count=4, recipe=Small(hidden=(8,), steps=10, batch=8,
                                                               chunk=2)), (0.2, 0.5, 0.8), 12)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A toy book that has published its shadows."""
    root = toy.make(tmp_path_factory.mktemp("audit") / "book")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise_audit, "NoiseShadows", lambda: TOY)
        patch.setattr(noise_shadows, "DRAWN", 12)
        patch.chdir(root)
        patch.setenv("SAME_NOISE_STORE", str(root / "_store"))
        assert run.main(["attack-diffusion", "--make-shadows", "--workers", "1"]) == 0
        yield root


@pytest.fixture(scope="module")
def shown(home):
    """The published samples."""
    path, = (home / "results").glob("??/*/arrays.safetensors")
    return load_file(path)["samples"]


def attack(*arguments):
    return run.main(["attack-diffusion", *map(str, arguments)])


def line(capsys):
    text = capsys.readouterr().err
    assert text.startswith("helpers: ") and text.count("\n") == 1, text
    return text


def test_the_round_trip_by_the_command_line(home, shown, tmp_path, capsys):
    assert attack("--write-noise", tmp_path / "n.npz") == 0
    told = capsys.readouterr().out
    assert "sigma_max times" in told and "[12, 1, 8, 8]" in told
    assert attack("--write-noise", tmp_path / "n.safetensors") == 0
    with np.load(tmp_path / "n.npz", allow_pickle=False) as file:
        arrays = dict(file)
    same = load_file(tmp_path / "n.safetensors")
    assert arrays["noise"].dtype == np.float32
    for part in (arrays, same):
        assert np.array_equal(part["noise"], noise(range(12), (1, 8, 8)))
        assert np.array_equal(part["indices"], np.arange(12))
    mine = written(tmp_path, samples=np.stack([shown[0, 0], 255 - shown[0, 0]]).reshape(
        2, 12, 1, 8, 8)[:, ::-1], indices=np.arange(12)[::-1])
    out = tmp_path / "mine.json"
    assert attack("--samples", mine, "--ratios", 0.8, 0.2, "--json", out) == 0
    text = capsys.readouterr().out
    assert "fashion16 at 8x8, footwear" in text and "P(ratio 0.2)" in text and str(out) in text
    plain = json.loads(out.read_text())
    assert plain["ratios"] == [0.8, 0.2] and plain["judged"] == [True, False]
    assert plain["probability"][1] is plain["answer"][1] is None and plain["published"]
    wanted = judge(shown[0, :1], dict(zip(TOY.ratios, shown, strict=True)), (0.8, 0.2),
                   known({0.2: shown[0]}))
    assert plain["scores"][0] == pytest.approx(wanted.scores[0])


@pytest.mark.parametrize("arguments, said", [
    ([], ["nothing to do", "--write-noise FILE.npz"]),
    (["--json", "out.json"], ["nothing to do"]),
    (["--write-noise", "n.npz", "--json", "out.json"], ["--json goes with --samples"]),
    (["--samples", "a.npz", "--pipeline", "b"], ["give one of the two"]),
    (["--samples", "nowhere.npz"], ["--ratios", "0.3 is not published", "0.2, 0.5, 0.8"]),
    (["--samples", "nowhere.npz", "--ratios", "0.5", "0.8"], ["there is no file nowhere.npz"]),
    (["--samples", "a.npz", "--ratios", "0.5"], ["two values"]),
    (["--samples", "a.npz", "--ratios", "0.5", "1.5"], ["1.5 is outside [0, 1]"]),
    (["--samples", "a.npz", "--ratios", "0.5", "0.5"], ["both are 0.5"]),
    (["--samples", "a.npz", "--noise", "mine"], ["--noise mine", "published_bank"]),
    (["--make-shadows", "--shadows", "a", "b"], ["train-shadows"]),
    (["--samples", "a.npz", "--shadows", "a"], ["at least two folders"]),
    (["--samples", "a.npz", "--shadows", "a", "b"], ["there is no folder a"]),
    (["--write-noise", "n.csv", "--ratios", "0.5", "0.8"], ["'.csv'", ".npz or .safetensors"]),
    (["--write-noise", "nowhere/n.npz", "--ratios", "0.5", "0.8"], ["cannot write nowhere/n.npz"]),
    (["--pipeline", "nowhere", "--ratios", "0.5", "0.8"], ["there is no folder nowhere"]),
])
def test_a_wrong_request_ends_in_one_line(home, capsys, arguments, said):
    before = sorted(home.rglob("*"))
    assert attack(*arguments) == 2
    text = line(capsys)
    assert all(part in text for part in said), text
    assert sorted(home.rglob("*")) == before


def test_without_published_shadows_it_says_how(home, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(toy.make(tmp_path / "other"))
    monkeypatch.setenv("SAME_NOISE_STORE", str(tmp_path / "store"))
    assert attack("--samples", "a.npz", "--ratios", 0.2, 0.8) == 2
    assert "attack-diffusion --make-shadows` trains them" in line(capsys)
    assert attack("--write-noise", "n.npz", "--ratios", 0.2, 0.8) == 0  # needs no shadows


def unet(channels=1, size=8):
    import torch
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    return UNet2DModel(sample_size=size, in_channels=channels, out_channels=channels,
                       layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4,
                       down_block_types=("DownBlock2D", "DownBlock2D"),
                       up_block_types=("UpBlock2D", "UpBlock2D"))


def pipeline(path, scheduler, network=None):
    (network or unet()).save_pretrained(path / "unet")
    scheduler.save_pretrained(path / "scheduler")
    return path


def test_a_pipeline_is_sampled_from_the_bank(home, tmp_path, capsys):
    import diffusers

    from helpers.pipelines import sample

    pipeline(tmp_path / "ddim", diffusers.DDIMScheduler(100))
    out = tmp_path / "out.json"
    asked = ("--steps", 3, "--ratios", 0.2, 0.8, "--json", out)
    assert attack("--pipeline", tmp_path / "ddim", *asked) == 0
    plain = json.loads(out.read_text())
    mine = written(tmp_path, samples=sample(tmp_path / "ddim", 12, 3))
    assert attack("--samples", mine, *asked[2:]) == 0
    assert json.loads(out.read_text()) == plain and plain["noises"] == 12
    assert plain["judged"] == [False]  # an untrained network draws nothing like footwear
    assert "cannot judge" in capsys.readouterr().out
    for scheduler in (diffusers.EDMEulerScheduler(), diffusers.FlowMatchEulerDiscreteScheduler()):
        scheduler.save_pretrained(tmp_path / "ddim" / "scheduler")
        assert attack("--pipeline", tmp_path / "ddim", *asked) == 0


def test_pipelines_that_cannot_be_attacked(home, tmp_path, capsys):
    import diffusers
    import torch

    def fails(path, *said):
        assert attack("--pipeline", path, "--steps", 2, "--ratios", 0.2, 0.8) == 2
        text = line(capsys)
        assert all(part in text for part in said), text

    folder = pipeline(tmp_path / "mine", diffusers.DDPMScheduler(100))
    for scheduler in (
            diffusers.DDPMScheduler(100), diffusers.EulerAncestralDiscreteScheduler(),
            diffusers.LCMScheduler(), diffusers.ScoreSdeVeScheduler(),
            diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"),
            diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)):
        scheduler.save_pretrained(folder / "scheduler")
        fails(folder, type(scheduler).__name__, "is not known to be deterministic",
              "DDIMScheduler", "EDMEulerScheduler")
    diffusers.DDIMScheduler().save_pretrained(folder / "scheduler")
    fails(pipeline(tmp_path / "large", diffusers.DDIMScheduler(), unet(1, 16)),
          "1 x 16 x 16", "1 x 8 x 8", "train-shadows")
    fails(pipeline(tmp_path / "colour", diffusers.DDIMScheduler(), unet(3)), "3 x 8 x 8")
    weights, = (folder / "unet").glob("*.safetensors")
    weights.unlink()
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")
    fails(folder, "no .safetensors weights")
    config = folder / "unet" / "config.json"
    config.write_text(config.read_text().replace("UNet2DModel", "os.system"))
    fails(folder, "the network is a os.system", "give samples with --samples instead")
    (folder / "scheduler" / "scheduler_config.json").write_text("[]")
    fails(folder, "holds list, not the settings")
    (folder / "scheduler" / "scheduler_config.json").write_text("{")
    fails(folder, "is not valid JSON")
    (folder / "scheduler" / "scheduler_config.json").unlink()
    fails(folder, "no scheduler_config.json; expected a folder written by diffusers")
    table = known({0.5: np.zeros((4, 9, 5), np.float16)}, shape=(5,))
    with pytest.raises(UsageError, match="features of a table"):
        noise_samples.from_pipeline(Path("x"), table, 2)


@pytest.mark.parametrize("command", ["attack-diffusion", "train-shadows"])
def test_help_reads_like_a_manual(command, capsys):
    with pytest.raises(SystemExit) as stop:
        run.main([command, "--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    assert "examples:" in out and "exit status:" in out and "options:" in out
    with pytest.raises(SystemExit):
        run.main(["--help"])
    assert command in capsys.readouterr().out
