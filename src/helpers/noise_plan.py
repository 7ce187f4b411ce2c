"""Chapters 13, 15 and 16: which victims meet which shadows, and what the attacker gets wrong."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from helpers.decisions import FEWEST
from helpers.denoiser_groups import SHIFTS, Family, Net
from helpers.denoiser_stack import Small
from helpers.diffusion import Cell
from helpers.groups import Data
from helpers.noise import Bank
from helpers.noise_checks import Check
from helpers.noise_estimates import NoiseSurvey
from helpers.noise_games import NoiseGame
from helpers.noise_shadows import NoiseShadows
from helpers.release import Release

__all__ = ["EVERY", "FEW", "Study", "agreement"]

EVERY = ("fresh nominal", "fresh counting", "fresh MMD", "fresh classifier", "fresh denoising",
         "shared counting", "shared classifier", "paired pixels", "paired descriptor",
         "paired flips", "paired KL", "likelihood ratio", "chosen pixels", "chosen ratio",
         "permuted pixels", "permuted ratio")
FEW = ("fresh counting", "shared counting", "paired pixels", "paired flips", "likelihood ratio",
       "permuted pixels")


@dataclass(frozen=True, kw_only=True)
class Study:
    """Sizes that the games share; the names are those of the chapters' parameters.

    Attributes
    ----------
    recipe : Small
        How perceptrons are trained.
    n : int
        Training records of every model.
    ratio : float
        Of world 1; world 0 has one half.
    victims, fewer_victims, regime_victims : int
        Victims of each world: headline, most other games, sizes and tables.
    shadows, fewer_shadows : int
        Shadows of each world: usual, and for sizes, tables and mismatches.
    counts : tuple of int
        Queries.
    noises, draws, seed : int
        Noises of the bank, draws of queries from them, seed of what is drawn.
    again : int
        Resamples of the shadows behind the intervals of games.
    heun_steps : int
        Steps of Heun's solver, of victims and of shadows in games.
    unet : str
        Network of the U-Nets.
    unets : dict of str to [int, int, int]
        U-Nets by name: side of their pictures, Adam steps, pictures a step.
    unet_victims, unet_shadows, unet_noises : int
        The same as above, where U-Nets take part.
    """

    recipe: Small
    n: int = 2048
    ratio: float = 0.4
    victims: int = 80
    fewer_victims: int = 40
    regime_victims: int = 24
    shadows: int = 16
    fewer_shadows: int = 8
    counts: tuple[int, ...] = (1, 3, 10, 30, 100, 300, 1000)
    noises: int = 1000
    draws: int = 20
    seed: int = 0
    again: int = 20
    heun_steps: int = 18
    unet: str = "unet-80k"
    unets: dict[str, list[int]] = field(default_factory=dict)
    unet_victims: int = 12
    unet_shadows: int = 4
    unet_noises: int = 300

    def __post_init__(self):
        fewest = min(self.shadows, self.fewer_shadows, self.unet_shadows)
        if fewest < FEWEST:
            raise ValueError(f"shadows={self.shadows}, fewer_shadows={self.fewer_shadows} and "
                             f"unet_shadows={self.unet_shadows} must be at least {FEWEST}; below "
                             "that no threshold is calibrated")
        for name in self.unets:
            self.net(name)
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
                     attacks=FEW, again=self.again, release=Release(steps=self.heun_steps))
        return NoiseGame(replace(mine or self.mine, ratio=at),
                         replace(theirs or self.theirs, ratio=at), **(usual | more))

    def size(self, n: int) -> NoiseGame:
        """Models of another number of training records."""
        return self.game(replace(self.mine, n=n, count=self.regime_victims),
                         replace(self.theirs, n=n, count=self.fewer_shadows))

    def _fewer(self) -> dict:
        return {"counts": tuple(m for m in self.counts if m <= self.unet_noises),
                "noises": self.unet_noises}

    def _recipes(self) -> dict[str, Small]:
        """Other ways to train."""
        recipe = self.recipe
        return {name: replace(recipe, **change) for name, change in {
            "narrow": {"hidden": tuple(units // 2 for units in recipe.hidden)},
            "deep": {"hidden": (*recipe.hidden, recipe.hidden[-1])},
            "vp": {"objective": "vp"}, "flow": {"objective": "flow"},
            "short": {"steps": recipe.steps // 2}, "long": {"steps": 2 * recipe.steps}}.items()}

    def mismatch(self, name: str) -> NoiseGame:
        """Shadows that are not made as the victims are.

        Parameters
        ----------
        name : str
            ``none``; ``narrow``, ``deep``; an objective (``vp``, ``flow``); ``short``, ``long``
            (half and twice the steps); ``half the records``, ``twice the records``; a name in
            `helpers.denoiser_groups.SHIFTS`; ``unet`` and a name in `unets` (``unet brief``), of
            the same side; or a solver and its steps (``heun 9``).
        """
        theirs, more, other = replace(self.theirs, count=self.fewer_shadows), {}, self._recipes()
        if name in other:
            theirs = replace(theirs, recipe=other[name])
        elif name == "half the records":
            theirs = replace(theirs, n=self.n // 2)
        elif name == "twice the records":
            theirs = replace(theirs, n=2 * self.n)
        elif name.startswith("unet "):
            side, net = self.net(name.removeprefix("unet "))
            if side != self.mine.side:
                raise ValueError(f"mismatch {name!r}: U-Nets of side {side} cannot be the shadows "
                                 f"of victims of side {self.mine.side}")
            theirs, more = replace(theirs, count=self.unet_shadows, recipe=net), self._fewer()
        elif name in SHIFTS:
            theirs = replace(theirs, shift=name)
        elif name != "none":
            solver, _, steps = name.partition(" ")
            if not steps.isdigit():
                raise ValueError(f"unknown mismatch {name!r}; known: none, {', '.join(other)}, "
                                 "half the records, twice the records, "
                                 f"{', '.join(f'unet {one}' for one in self.unets)}, "
                                 f"{', '.join(filter(None, SHIFTS))}, or a solver and its steps")
            more = {"believed": Release(solver=solver, steps=int(steps))}
        return self.game(theirs=theirs, **more)

    def survey(self, victims: int, grid: tuple[float, ...], few: int) -> NoiseSurvey:
        """`victims` models of each ratio of the grid, from `few` queries on."""
        if self.shadows * len(grid) < 19:  # .95 / (1 - .95)
            raise ValueError(f"shadows={self.shadows} at each of {len(grid)} ratios of the grid: "
                             "95 % intervals need at least 19 shadows in all")
        return NoiseSurvey(replace(self.mine, count=victims), self.theirs, grid, grid,
                           noises=self.noises, counts=tuple(m for m in self.counts if m >= few))

    def published(self, ratios: tuple[float, ...], noises: int) -> NoiseShadows:
        """The shadows behind `attack-diffusion`; with the chapter's parameters those it reads."""
        return NoiseShadows(self.theirs, ratios, noises)

    def judged(self, victims: int, grid: tuple[float, ...], sizes: list[int],
               kinds: list[str], shadows: NoiseShadows) -> dict[str, Check]:
        """Models that the command is asked about: like its shadows at every ratio, and strangers.

        Strangers have the ratios 0.5 and `ratio`: models of other `sizes`, of `kinds` of mismatch
        that are ways to train, U-Nets, and other releases.
        """
        own = Check(replace(self.mine, count=victims), grid, (0.5, self.ratio), shadows,
                    drawn=self.noises)
        found, other = {"as the shadows are": own}, replace(own, asked=(0.5, self.ratio))

        def add(name, count, release=own.release, drawn=self.noises, **changes):
            found[name] = replace(other, release=release, drawn=drawn, victims=replace(
                self.mine, count=count, **changes))

        for n in (n for n in sizes if n != self.n):
            add(f"{n:,} records", self.regime_victims, n=n)
        if unknown := {*kinds} - {*self._recipes()}:
            raise ValueError(f"unknown ways to train: {', '.join(sorted(unknown))}; known: "
                             f"{', '.join(self._recipes())}")
        for name in kinds:
            add(name, self.unet_victims, recipe=self._recipes()[name])
        for name in self.unets:
            side, net = self.net(name)
            if side != self.mine.side:
                raise ValueError(f"U-Net {name!r} of side {side}: the shadows' pictures have side "
                                 f"{self.mine.side}")
            add(f"unet {name}", self.unet_victims, drawn=self.unet_noises, recipe=net)
        for name, release in (
                ("euler 36", Release(solver="euler", steps=36)), ("heun 9", Release(steps=9)),
                ("heun 3", Release(steps=3)), ("blurred by 16", Release(blur=16.0)),
                ("ancestral sampler", Release(solver="ancestral")),
                ("turned noises", Release("rotated")), ("other noises", Release("own"))):
            add(name, self.regime_victims, release)
        return found

    def _small(self) -> tuple[Family, NoiseShadows]:
        """Victims and shadows that an audit trains from nothing in seconds."""
        recipe = replace(self.recipe, steps=min(100, self.recipe.steps))
        mine, theirs = (replace(part, recipe=recipe, n=min(64, self.n), count=count)
                        for part, count in ((self.mine, 4), (self.theirs, 10)))
        return mine, NoiseShadows(theirs, tuple(sorted((0.5, self.ratio))), 50)

    def small_game(self) -> NoiseGame:
        """A game so small that an audit plays it from nothing."""
        mine, shadows = self._small()
        return self.game(mine, shadows.family, noises=50, counts=(10, 50), again=2)

    def small_survey(self) -> NoiseSurvey:
        """The same of a survey."""
        mine, shadows = self._small()
        return NoiseSurvey(mine, shadows.family, shadows.ratios, shadows.ratios, (10, 50), 50)

    def small_check(self) -> Check:
        """The same of a check, and of the shadows that it reads."""
        mine, shadows = self._small()
        return Check(mine, shadows.ratios, (0.5, self.ratio), shadows)

    def net(self, name: str) -> tuple[int, Net]:
        """Side of the pictures of one of `unets`, and how its networks are trained."""
        if name not in self.unets or len(self.unets[name]) != 3:
            raise ValueError(f"U-Net {name!r} must be a name in unets={self.unets}, which gives it "
                             "a side, Adam steps and pictures a step")
        side, steps, batch = self.unets[name]
        return side, Net(self.unet, steps=steps, batch=batch)

    def confirmation(self, name: str, shadows: int | None = None) -> NoiseGame:
        """U-Nets on either side of the game, by default with `unet_shadows` shadows a world."""
        side, net = self.net(name)
        shadows = self.unet_shadows if shadows is None else shadows
        if shadows < FEWEST:
            raise ValueError(f"{shadows} shadows of U-Net {name!r} must be at least {FEWEST}; "
                             "below that no threshold is calibrated")
        families = (replace(part, side=side, recipe=net, count=count) for part, count in
                    ((self.mine, self.unet_victims), (self.theirs, shadows)))
        return self.game(*families, **self._fewer())

    def plain(self, side: int) -> NoiseGame:
        """Perceptrons on either side, of pictures of another side."""
        return self.game(replace(self.mine, side=side),
                         replace(self.theirs, side=side, count=self.fewer_shadows))

    def few(self) -> NoiseGame:
        """Perceptrons in the numbers of the U-Nets."""
        return self.game(replace(self.mine, count=self.unet_victims),
                         replace(self.theirs, count=self.unet_shadows), **self._fewer())

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
