"""Comparing a reader's own models: samples, pipelines, and files that do not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from helpers import compare, run
from helpers.noise import noise
from helpers.project import UsageError

RANDOM = np.random.Generator(np.random.Philox(key=7))


def images(count=24, size=16, channels=1):
    return RANDOM.integers(0, 256, (count, size, size, channels), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(path, array, name="images"):
    save_file({name: np.ascontiguousarray(array)}, path)
    return Path(path)


def line(capsys):
    text = capsys.readouterr().err
    assert text.startswith("helpers: ") and text.count("\n") == 1, text
    return text


def test_half_the_pictures_agree(folder, capsys):
    a = images(40)
    b = a.copy()
    b[20:] = 255 - b[20:]
    written("a.safetensors", a)
    written("b.safetensors", b)
    assert run.main(["compare", "--a", "a.safetensors", "--b", "b.safetensors"]) == 0
    out = capsys.readouterr().out
    assert "MAE score" in out and "0.500 [" in out and "RP score" in out
    result = json.loads((folder / "comparison" / "comparison.json").read_text())
    assert result["mae_score"]["score"]["value"] == 0.5 and result["noises"] == 40
    assert result["mae_score"]["null"]["value"] == 0.0 and result["rp"]["descriptor"] == "pixels"
    assert 0.5 <= result["rp"]["score"]["value"] <= 0.6
    assert (folder / "comparison" / "plate.png").stat().st_size > 1000


def test_layouts_and_ranges_are_one(folder):
    whole = images(6, 8, 3)
    layouts = {
        "last": whole, "first": whole.transpose(0, 3, 1, 2),
        "unit": (whole / 255).astype(np.float32), "signed": (whole / 127.5 - 1).astype(np.float64),
        "half": (whole / 255).astype(np.float32).transpose(0, 3, 1, 2),
    }
    for name, array in layouts.items():
        found = compare.read_samples(written(folder / f"{name}.safetensors", array))
        assert found.dtype == np.uint8 and np.array_equal(found, whole), name
    grey = compare.read_samples(written(folder / "grey.safetensors", whole[..., 0]))
    assert grey.shape == (6, 8, 8, 1)


@pytest.mark.parametrize("array, said", [
    (np.zeros((3, 4), np.uint8), r"shape \[3, 4\]"),
    (np.zeros((3, 8, 8, 5), np.uint8), r"shape \[3, 8, 8, 5\]"),
    (np.zeros((0, 8, 8, 1), np.uint8), "shape"),
    (np.zeros((3, 8, 8), np.int32), "is int32; needed is uint8 or float"),
    (np.full((3, 8, 8), np.nan, np.float32), "192 values are NaN"),
    (np.full((3, 8, 8), 200.0, np.float32), "values from 200 to 200"),
    (np.linspace(-0.001, 1, 192).reshape(3, 8, 8), "could be .-1, 1. or .0, 1."),
])
def test_wrong_samples_name_the_file_and_the_rule(folder, array, said):
    with pytest.raises(UsageError, match=said) as caught:
        compare.read_samples(written(folder / "x.safetensors", array))
    assert "x.safetensors" in str(caught.value)


def test_wrong_files(folder, capsys):
    assert run.main(["compare", "--a", "no.safetensors", "--b", "no.safetensors"]) == 2
    assert "there is no file no.safetensors" in line(capsys)
    (folder / "bad.safetensors").write_bytes(b"not at all")
    assert run.main(["compare", "--a", "bad.safetensors", "--b", "bad.safetensors"]) == 2
    assert "bad.safetensors is not a readable safetensors file" in line(capsys)
    written("named.safetensors", images(), "samples")
    assert run.main(["compare", "--a", "named.safetensors", "--b", "named.safetensors"]) == 2
    assert "no array 'images' (it holds samples)" in line(capsys)
    assert run.main(["compare", "--a", "named.safetensors"]) == 2
    assert "model B: give --b FILE or --pipeline-b DIR" in line(capsys)
    written("few.safetensors", images(5))
    written("more.safetensors", images(6))
    assert run.main(["compare", "--a", "few.safetensors", "--b", "more.safetensors"]) == 2
    assert "A has images [5, 16, 16, 1], B has [6, 16, 16, 1]" in line(capsys)
    assert run.main(["compare", "--a", "few.safetensors", "--b", "few.safetensors",
                     "--held-out", "digits8"]) == 2
    assert "--held-out digits8: images of shape [8, 8, 1]" in line(capsys)
    assert run.main(["compare", "--a", "few.safetensors", "--b", "few.safetensors",
                     "--held-out", "mine.npz"]) == 2
    assert "mine.npz" in line(capsys)
    assert not (folder / "comparison").exists()


def test_without_images_like_them_there_is_no_rp(folder, capsys):
    written("c.safetensors", images(6, 32, 3))
    assert run.main(["compare", "--a", "c.safetensors", "--b", "c.safetensors"]) == 0
    out = capsys.readouterr().out
    assert "No RP score" in out and "RP score   " not in out and "1.000 [" in out


def test_the_bank_is_written_as_published(folder, capsys):
    assert run.main(["noise", "--count", "6", "--shape", "3", "4", "4", "--out",
                     "bank.safetensors"]) == 0
    with safe_open(folder / "bank.safetensors", "np") as file:
        assert np.array_equal(file.get_tensor("noise"), noise(range(6), (3, 4, 4)))
        assert file.metadata()["seed"] == "0" and file.metadata()["count"] == "6"
    assert run.main(["noise", "--shape", "1", "4", "4", "--out", "nowhere/bank.safetensors"]) == 2
    assert "cannot write nowhere/bank.safetensors" in line(capsys)
    assert run.main(["noise", "--count", "9000000", "--shape", "3", "64", "64", "--out",
                     "x.safetensors"]) == 2
    assert "the limit is 4 GiB" in line(capsys)
    assert [path.name for path in folder.iterdir()] == ["bank.safetensors"]


def unet(seed=0, **extra):
    import torch
    from diffusers import UNet2DModel

    torch.manual_seed(seed)
    return UNet2DModel(sample_size=8, in_channels=1, out_channels=1, layers_per_block=1,
                       block_out_channels=(8, 8), norm_num_groups=4,
                       down_block_types=("DownBlock2D", "DownBlock2D"),
                       up_block_types=("UpBlock2D", "UpBlock2D"), **extra)


def pipeline(path, scheduler, network=None):
    (network or unet()).save_pretrained(path / "unet")
    scheduler.save_pretrained(path / "scheduler")
    return path


def test_pipelines_are_sampled_from_the_bank(folder, capsys):
    import diffusers

    pipeline(folder / "a", diffusers.DDPMScheduler(100))
    pipeline(folder / "b", diffusers.DDIMScheduler(100))
    assert run.main(["compare", "--pipeline-a", "a", "--pipeline-b", "b", "--noise-count", "5",
                     "--steps", "4"]) == 0
    assert "1.000 [" in capsys.readouterr().out  # one network, one grid, one solver
    from helpers.pipelines import sample

    whole = sample(folder / "a", 5, 4)
    assert whole.shape == (5, 8, 8, 1) and whole.dtype == np.uint8
    assert np.array_equal(sample(folder / "a", 3, 4), whole[:3])
    for name, scheduler in (("edm", diffusers.EDMEulerScheduler()),
                            ("flow", diffusers.FlowMatchEulerDiscreteScheduler())):
        pipeline(folder / name, scheduler)
        drawn = sample(folder / name, 4, 3)
        assert np.array_equal(drawn, sample(folder / name, 4, 3))
        assert len({image.tobytes() for image in drawn}) == 4


def test_the_ddim_path_is_the_solvers(folder):
    """Against the scheduler used by hand on the same noises."""
    import diffusers
    import torch

    from helpers.pipelines import sample

    pipeline(folder / "a", diffusers.DDPMScheduler(100, clip_sample=False))
    model, scheduler = unet().eval(), diffusers.DDIMScheduler(100, clip_sample=False)
    scheduler.set_timesteps(4)
    x = torch.from_numpy(noise(range(3), (1, 8, 8)))
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(model(x, t).sample, t, x).prev_sample
    wanted = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert np.abs(sample(folder / "a", 3, 4).astype(int) - wanted).max() <= 1


def test_pipelines_that_cannot_be_sampled(folder, capsys):
    import diffusers
    import torch

    def fails(name, said):
        assert run.main(["compare", "--pipeline-a", name, "--pipeline-b", name, "--noise-count",
                         "2"]) == 2
        assert said in (text := line(capsys)), text

    fails("nowhere", "there is no folder nowhere")
    (folder / "empty").mkdir()
    fails("empty", "no config.json; expected a folder written by diffusers")
    pipeline(folder / "classes", diffusers.DDPMScheduler(), unet(num_class_embeds=3))
    fails("classes", "class-conditional")
    pipeline(folder / "other", diffusers.LCMScheduler())
    fails("other", "is not supported; known are DDPMScheduler")
    pipeline(folder / "pickled", diffusers.DDPMScheduler())
    weights, = (folder / "pickled" / "unet").glob("*.safetensors")
    weights.unlink()
    torch.save({}, folder / "pickled" / "unet" / "diffusion_pytorch_model.bin")
    fails("pickled", "no .safetensors weights")
    config = folder / "classes" / "unet" / "config.json"
    config.write_text(config.read_text().replace("UNet2DModel", "os.system"))
    fails("classes", "the network is a os.system; only unconditional UNet2DModel")
