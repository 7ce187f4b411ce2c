"""Benchmarks of sampling: against the loop of a `diffusers` pipeline, and solver against solver.

The network is the 80,000-parameter EDM network of the chapters if the store holds its weights,
else one trained for a short while here; the result says which.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from helpers import laws, networks, objectives, oracles
from helpers.bench_measure import compare, timed
from helpers.datasets import to_uint8
from helpers.diffusion import Cell, Model, fitted, load, train
from helpers.noise import Bank
from helpers.sampling import nfe, sample_in_batches
from helpers.scores import mae, mae_score
from helpers.store import Store

CELL = Cell()  # the chapters' own: Fashion-MNIST 16x16, EDM, 80,000 parameters
SHORT = 300  # steps of the stand-in
STEPS, COUNT, BATCH = 18, 128, 128
SCHEDULERS = {"euler": "EDMEulerScheduler", "dpmpp2m": "EDMDPMSolverMultistepScheduler"}
GRIDS = {  # steps tried, few to many
    "heun": (5, 7, 9, 12, 15, 18, 24, 32, 48, 64),
    "euler": (18, 35, 64, 128, 256, 512),
    "dpmpp2m": (7, 8, 9, 10, 12, 14, 18, 24, 35, 48, 64),
}
SHARP, IMAGES = 24, 4096  # closed form: steps looked at, training images
REFERENCE = ("heun", 256)
WANTED, NOISES = 0.99, 512
TOY = Cell(dataset="digits8", size=8, n=64, network="unet-20k", batch=8, steps=4, warmup=2)
TOY_GRIDS = {"heun": (3, 6), "euler": (4,), "dpmpp2m": (4,)}
TOY_REFERENCE, TOY_NOISES = ("heun", 12), 6


def network(store: str, cell: Cell | None = None) -> tuple[Model, str]:
    """Return the network and where its weights come from.

    Parameters
    ----------
    store : str
        Folder of the store to look in.
    cell : Cell, optional
        Another cell, which is trained here without looking anywhere.

    Returns
    -------
    Model, str
    """
    if cell is not None:
        return _trained(cell), f"trained here for {cell.steps} steps"
    found = _largest(Store(store))
    if found is not None:
        return found, f"a chapter's: {found.cell.n:,} images, {found.record['steps_made']:,} steps"
    short = replace(CELL, steps=SHORT)
    law = laws.load(short.dataset, short.size)
    model = fitted(short, law.subset(short.n, half=short.half), law.sha256, Store(store))
    return model, f"no chapter's in the store; trained here for {SHORT} steps"


def _largest(store: Store) -> Model | None:
    """The chapters' network of `CELL`'s kind with most images, then steps, then lowest seed."""
    wanted = {k: getattr(CELL, k) for k in ("dataset", "size", "network", "objective")}
    found = {}
    for entry in store.entries():
        fields, steps = entry.record.get("cell") or {}, entry.record.get("steps_made", 0)
        if wanted.items() <= fields.items() and steps > SHORT and "channels" in entry.record:
            found.setdefault((fields["n"], steps, -fields["seed"]), entry)
    if not found:
        return None
    best = found[max(found)]
    fields = best.record["cell"]
    return load(Cell(**fields | {"snapshots": tuple(fields["snapshots"])}), best)


@lru_cache(maxsize=2)
def _trained(cell: Cell) -> Model:
    law = laws.load(cell.dataset, cell.size)
    clean = law.subset(cell.n, cell.subset_seed, cell.half)
    return Model(cell, clean.shape[1], *train(cell, torch.from_numpy(clean)))


def pipeline(net, scheduler, epsilon: torch.Tensor, steps: int) -> np.ndarray:
    """Sample as the pipelines of `diffusers` do: one `scheduler.step` a step, images at the end.

    Parameters
    ----------
    net : torch.nn.Module
        ``F(x, c_noise)``; the scheduler does the preconditioning.
    scheduler : diffusers scheduler
    epsilon : Tensor [n, C, H, W]

    Returns
    -------
    ndarray, float32, shape [n, H, W, C], in [0, 1]
    """
    scheduler.set_timesteps(steps, device=epsilon.device)
    x = epsilon * scheduler.config.sigma_max
    with torch.no_grad():
        for t in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, t)
            x = scheduler.step(net(scaled, t.expand(len(x))), t, x).prev_sample
    return (x / 2 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1).numpy()


def sides(case: dict, device: str) -> dict:
    """The book's and the plain way of a case (see `helpers.bench_measure`)."""
    import diffusers

    model, _ = network(case["store"], case["cell"])
    cell, solver = model.cell, case["solver"]
    epsilon = _epsilon(model, case["count"], device)

    def book():
        denoiser = model.denoiser(device=device)
        return lambda: to_uint8(sample_in_batches(
            denoiser, epsilon, case["count"], solver=solver, steps=case["steps"],
            graph=case["graph"]).numpy())

    def plain():
        net = networks.build(cell.network, model.channels, cell.size, cell.seed)
        last = model.weights[max(model.weights)]
        net.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in last.items()})
        net.to(device)
        kind = getattr(diffusers, SCHEDULERS[solver])
        scheduler = kind(sigma_min=0.002, sigma_max=80.0, sigma_data=objectives.SIGMA_DATA, rho=7.0)
        return lambda: pipeline(net, scheduler, epsilon, case["steps"])

    return {"book": book, "plain": plain}


def _epsilon(model: Model, count: int, device: str) -> torch.Tensor:
    shape = (model.channels, model.cell.size, model.cell.size)
    return torch.from_numpy(Bank(count).noise(shape)).to(device)


def measure(device: str, rounds: int, store: str, quick: bool = False) -> dict:
    """Time, agreement and memory against the pipeline's loop; also where the weights come from."""
    cell, count, steps = (TOY, 4, 3) if quick else (None, COUNT, STEPS)
    rows = []
    ways = [("", False)] + ([(", one graph", True)] if device == "cuda" else [])
    for solver, kind in SCHEDULERS.items():
        for text, graph in ways:
            case = {"solver": solver, "steps": steps, "count": count, "graph": graph,
                    "store": store, "cell": cell}
            book, plain = (make()() for make in sides(case, device).values())
            apart = mae(book, np.rint(plain * 255).astype(np.uint8))
            rows.append({
                "case": f"{solver}, {steps} steps, {count} noises{text}, against {kind}",
                **compare(sides, case, device, rounds), "goal": None,
                "error": float(apart.max()), "error_goal": 1.0,
                "agreement": float((apart < 15).mean()),
            })
    return {"rows": rows, "weights": network(store, cell)[1]}


def measure_solvers(device: str, rounds: int, store: str, quick: bool = False) -> dict:
    """Agreement of every solver with the converged one, and the cost at which it suffices.

    Returns
    -------
    dict
        ``rows``: solver, steps, nfe, agreement (share of noises whose pictures differ by less than
        15/255 on average; value and Wilson interval), the same for the empirical denoiser of
        `IMAGES` training images as ``closed`` (None beyond `SHARP` steps), seconds; ``reached``:
        for each solver the fewest NFE from which every tried one reaches `WANTED` on the network,
        or None; ``cheapest``: its solver.
    """
    grids, reference, noises = (TOY_GRIDS, TOY_REFERENCE, TOY_NOISES) if quick else (
        GRIDS, REFERENCE, NOISES)
    model, origin = network(store, TOY if quick else None)
    trained, epsilon = model.denoiser(device=device), _epsilon(model, noises, device)
    law = laws.load(model.cell.dataset, model.cell.size)
    images = law.subset(min(IMAGES, model.cell.n), half=model.cell.half)
    exact = oracles.Empirical(torch.from_numpy(images).to(device))

    def draw(solver, steps, denoiser=trained):
        kept = []
        seconds, _ = timed(lambda: kept.append(sample_in_batches(
            denoiser, epsilon, min(BATCH, noises), solver=solver, steps=steps)), device)
        return to_uint8(kept[0].numpy()), seconds

    draw("euler", 2)  # warm-up
    truth, sharp = draw(*reference)[0], draw(*reference, exact)[0]
    rows, reached = [], {}
    for solver, grid in grids.items():
        enough = None
        for steps in sorted(grid):
            drawn, seconds = draw(solver, steps)
            apart = mae(drawn, truth)
            share = mae_score(drawn, truth)
            closed = mae_score(draw(solver, steps, exact)[0], sharp) if steps <= SHARP else None
            cost = nfe(solver, steps)
            rows.append({"solver": solver, "steps": steps, "nfe": cost, "seconds": seconds,
                         "agreement": [share.value, share.low, share.high],
                         "closed": closed and [closed.value, closed.low, closed.high],
                         "median_distance": float(np.median(apart))})
            enough = (enough or cost) if share.value >= WANTED else None
        reached[solver] = enough
    known = {s: v for s, v in reached.items() if v is not None}
    return {"rows": rows, "reached": reached, "wanted": WANTED, "noises": noises,
            "cheapest": min(known, key=known.get) if known else None, "weights": origin,
            "images": len(images),
            "reference": f"{reference[0]}, {reference[1]} steps"}
