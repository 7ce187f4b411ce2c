"""The games of chapter 13: which victims meet which shadows, and what the attacker gets wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace

from helpers.decisions import FEWEST
from helpers.denoiser_groups import SHIFTS, Family, Net
from helpers.denoiser_stack import Small
from helpers.diffusion import Cell
from helpers.groups import Data
from helpers.noise import Bank
from helpers.noise_games import NoiseGame
from helpers.release import Release

__all__ = ["EVERY", "FEW", "Study", "agreement"]

EVERY = ("fresh nominal", "fresh counting", "fresh MMD", "fresh classifier", "fresh denoising",
         "shared counting", "shared classifier", "paired pixels", "paired descriptor",
         "paired flips", "paired KL", "likelihood ratio", "chosen pixels", "chosen ratio",
         "permuted pixels", "permuted ratio")
FEW = ("fresh counting", "shared counting", "paired pixels", "paired flips", "likelihood ratio",
       "permuted pixels")


@dataclass(frozen=True)
class Study:
    """Sizes that the games share; the names are those of the chapter's parameters."""

    recipe: Small
    n: int
    ratio: float
    victims: int
    fewer_victims: int
    regime_victims: int
    shadows: int
    fewer_shadows: int
    counts: tuple[int, ...]
    noises: int
    draws: int
    seed: int
    unet: str
    unet_steps: dict[str, int]
    unet_batch: int
    unet_victims: int
    unet_shadows: int
    unet_noises: int

    def __post_init__(self):
        fewest = min(self.shadows, self.fewer_shadows, self.unet_shadows)
        if fewest < FEWEST:
            raise ValueError(f"shadows={self.shadows}, fewer_shadows={self.fewer_shadows} and "
                             f"unet_shadows={self.unet_shadows} must be at least {FEWEST}; below "
                             "that no threshold is calibrated")
        if self.ratio == 0.5 or not 1 <= self.fewer_victims <= self.victims:
            raise ValueError(f"ratio={self.ratio} must differ from 0.5, and fewer_victims="
                             f"{self.fewer_victims} lie in 1..victims={self.victims}")

    @property
    def mine(self) -> Family:
        """Victims, fewer than in the headline."""
        return Family(n=self.n, recipe=self.recipe, count=self.fewer_victims)

    @property
    def theirs(self) -> Family:
        """Shadows."""
        return replace(self.mine, party=1, count=self.shadows)

    def game(self, mine: Family | None = None, theirs: Family | None = None,
             at: float | None = None, **more) -> NoiseGame:
        """A game against world 0.5, by default of ratio `ratio` and with the usual families."""
        at = self.ratio if at is None else at
        usual = dict(counts=self.counts, noises=self.noises, draws=self.draws, seed=self.seed,
                     attacks=FEW)
        return NoiseGame(replace(mine or self.mine, ratio=at),
                         replace(theirs or self.theirs, ratio=at), **(usual | more))

    def size(self, n: int) -> NoiseGame:
        """Models of another number of training records."""
        return self.game(replace(self.mine, n=n, count=self.regime_victims),
                         replace(self.theirs, n=n, count=self.fewer_shadows))

    def _fewer(self) -> dict:
        return {"counts": tuple(m for m in self.counts if m <= self.unet_noises),
                "noises": self.unet_noises}

    def mismatch(self, name: str) -> NoiseGame:
        """Shadows that are not made as the victims are.

        Parameters
        ----------
        name : str
            ``none``; ``narrow``, ``deep``; an objective (``vp``, ``flow``); ``short``, ``long``
            (half and twice the steps); ``half the records``, ``twice the records``; a name in
            `helpers.denoiser_groups.SHIFTS`; ``unet``; or a solver and its steps (``heun 9``).
        """
        recipe, theirs, more = self.recipe, replace(self.theirs, count=self.fewer_shadows), {}
        other = {
            "narrow": {"hidden": tuple(units // 2 for units in recipe.hidden)},
            "deep": {"hidden": (*recipe.hidden, recipe.hidden[-1])},
            "vp": {"objective": "vp"}, "flow": {"objective": "flow"},
            "short": {"steps": recipe.steps // 2}, "long": {"steps": 2 * recipe.steps}}
        if name in other:
            theirs = replace(theirs, recipe=replace(recipe, **other[name]))
        elif name == "half the records":
            theirs = replace(theirs, n=self.n // 2)
        elif name == "twice the records":
            theirs = replace(theirs, n=2 * self.n)
        elif name == "unet":
            theirs, more = replace(theirs, count=self.unet_shadows, recipe=self.net(8)), (
                self._fewer())
        elif name in SHIFTS:
            theirs = replace(theirs, shift=name)
        elif name != "none":
            solver, _, steps = name.partition(" ")
            if not steps.isdigit():
                raise ValueError(f"unknown mismatch {name!r}; known: none, {', '.join(other)}, "
                                 "half the records, twice the records, unet, "
                                 f"{', '.join(filter(None, SHIFTS))}, or a solver and its steps")
            more = {"believed": Release(solver=solver, steps=int(steps))}
        return self.game(theirs=theirs, **more)

    def check(self) -> NoiseGame:
        """A game so small that an audit can play it from nothing in seconds."""
        recipe = replace(self.recipe, steps=min(100, self.recipe.steps))
        return self.game(*(replace(part, recipe=recipe, n=min(64, self.n), count=4)
                           for part in (self.mine, self.theirs)), noises=50, counts=(10, 50))

    def net(self, side: int) -> Net:
        """The U-Nets of pictures of one side."""
        return Net(self.unet, steps=self.unet_steps[str(side)], batch=self.unet_batch)

    def confirmation(self, side: int) -> NoiseGame:
        """U-Nets on either side of the game."""
        families = (replace(part, side=side, recipe=self.net(side), count=count) for part, count in
                    ((self.mine, self.unet_victims), (self.theirs, self.unet_shadows)))
        return self.game(*families, **self._fewer())

    def tabular(self, table: str) -> NoiseGame:
        """Diffusion models of a table's records, property sex."""
        data = Data(table, "sex", mode="free")
        return self.game(*(replace(part, data=data, side=0, count=count) for part, count in (
            (self.mine, self.regime_victims), (self.theirs, self.fewer_shadows))))


def agreement(n: int, store, *, device: str = "cpu", workers=None):
    """RP of chapter 2 at one size: its middle width, two seeds on disjoint halves, 8 x 8.

    Read from the measurements that chapter published, made anew where they are missing.
    """
    from helpers import datasets, descriptors, maps, scores

    cells = [Cell(size=8, n=n, half=half, network="unet-80k", seed=half, steps=1000)
             for half in (0, 1)]
    look = descriptors.by_name("pixels", datasets.load("fashion16", 8).test, store)
    pair = maps.run([maps.Trial(cell, Bank(count=1024)) for cell in cells], store, device=device,
                    workers=workers)
    return scores.rp(*(look.embed(one.last) for one in pair), look.threshold)
