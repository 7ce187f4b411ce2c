"""Published shadow outputs: what many shadow models say about probe records that anyone can have.

For each built-in pair of a table and a property, classifiers are trained at eleven ratios and
their logits on one fixed set of probe records are published. Whoever owns a classifier runs it on
the same records, and `helpers.own_model` compares; nothing has to be trained for that.

The probe records are test records of the adversary, on which no shadow was trained: first those
with the property, then as many without. fashion16 is left out: its records are images.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from helpers import groups, records, shadow, tables
from helpers.groups import Data, Group
from helpers.noise import generator
from helpers.outputs import Logits, Probabilities
from helpers.project import UsageError, replacing
from helpers.shadow import Recipe
from helpers.store import Entry, Store, fingerprint, make_key
from helpers.workers import peak_mb

__all__ = ["KNOWN", "Shadows", "find", "key_of", "make", "probe_rows", "read", "recompute",
           "write_encoded", "write_probes"]

VERSION = 1
MODULES = ("helpers.shadow_outputs", *groups.MODULES)
RATIOS = tuple(tenth / 10 for tenth in range(11))
FEWEST = 10  # shadows of a ratio


@dataclass(frozen=True)
class Shadows:
    """Shadows of one table and property at several ratios, and the number of probe records.

    Attributes
    ----------
    table, property, label
        As for :func:`helpers.tables.load`.
    n : int
        Training records of each shadow, from the adversary's training rows.
    each : int
        Probe records with the property, and as many without.
    count : int
        Shadows of each ratio, at least `FEWEST`.
    ratios : tuple of float
        In increasing order.
    recipe : Recipe
    """

    table: str
    property: str
    n: int
    each: int = 1000
    count: int = 50
    ratios: tuple[float, ...] = RATIOS
    label: str | None = None
    recipe: Recipe = Recipe(chunk=50)

    def __post_init__(self):
        if self.count < FEWEST or self.each < 1:
            raise ValueError(f"count={self.count} must be at least {FEWEST} and each={self.each} "
                             "at least 1")
        if tuple(sorted(set(self.ratios))) != self.ratios:
            raise ValueError(f"ratios={self.ratios} must be different and in increasing order")

    @property
    def data(self) -> Data:
        """The table as `helpers.groups` names it."""
        return Data(name=self.table, property=self.property, label=self.label)

    @property
    def groups(self) -> list[Group]:
        """The classifiers, one group a ratio; chapters that ask for the same share them."""
        return [Group(data=self.data, party=1, ratio=ratio, n=self.n, count=self.count,
                      recipe=self.recipe) for ratio in self.ratios]

    def probes(self, ratio: float) -> np.ndarray:
        """Positions, among all probe records, of the `each` that stand for a world of this ratio.

        The first ``round(each * ratio)`` of those with the property and the first of the others.
        """
        ones = round(self.each * ratio)
        return np.concatenate([np.arange(ones), self.each + np.arange(self.each - ones)])


# n as in chapters 9 to 12; adult has 505 test records of the adversary that are not race=White.
KNOWN = {(each.table, each.property): each for each in (
    Shadows("acs_ma", "sex", n=8000), Shadows("acs_ma", "race", n=5000),
    Shadows("adult", "sex", n=2000), Shadows("adult", "race", n=900, each=500))}


def find(table: str, property: str) -> Shadows:
    """Return the built-in shadows of a table and property.

    Raises
    ------
    UsageError
        For an unknown table or property; lists those that are known.
    """
    listed = ", ".join(sorted({name for name, _ in KNOWN}))
    if table == "fashion16":
        raise UsageError(f"--table fashion16: its records are images and have no published "
                         f"shadows; the tables are {listed}")
    if table not in {name for name, _ in KNOWN}:
        raise UsageError(f"unknown --table {table!r}; the tables with published shadows are "
                         f"{listed}")
    if (table, property) not in KNOWN:
        raise UsageError(f"unknown --property {property!r} of {table}; its properties with "
                         f"published shadows are "
                         f"{', '.join(known for name, known in KNOWN if name == table)}")
    return KNOWN[table, property]


def probe_rows(shadows: Shadows) -> np.ndarray:
    """Row numbers of the probe records, int64 [2 each]: with the property first, then without.

    Label shares within either part are those of the adversary's test rows.

    Raises
    ------
    helpers.images.DataError
        When there are too few test rows; says how many there are.
    """
    source, stream = groups.table(shadows.data), generator("published probes", 0)
    pool = source.pool(1, test=True)
    return np.concatenate([tables.draw(source, pool, ratio, shadows.each, stream)
                           for ratio in (1.0, 0.0)])


def write_probes(shadows: Shadows, path: Path) -> str:
    """Write the probe records as CSV; returns a line that says what they are.

    Columns: ``id`` (0, 1, ... in the order that outputs must have), the table's own columns less
    that of the label, then ``label`` and ``property`` as 0 and 1.

    Raises
    ------
    UsageError
        If the file cannot be written.
    """
    import pandas as pd

    rows, source = probe_rows(shadows), groups.table(shadows.data)
    arrays = (records.read(shadows.table) if shadows.table in records.NAMES else
              records.read_own(shadows.table)[0])
    frame = pd.DataFrame({name: values[rows] for name, values in arrays.items()
                          if name != source.label_name.partition("=")[0]})
    frame.insert(0, "id", np.arange(len(rows)))
    frame["label"], frame["property"] = source.label[rows], source.attribute[rows]
    _written(path, lambda file: frame.to_csv(file, index=False))
    return (f"{len(rows)} probe records of {shadows.table}: {path} (label: {source.label_name}, "
            f"property: {source.property_name}; give the probability of label 1 for each, in this "
            "order)")


def write_encoded(shadows: Shadows, path: Path) -> str:
    """Write the probe records as the shadows see them (npz); returns a line that says so.

    Arrays ``features`` float32 [2 each, d] (numbers standardised over the whole table, categories
    one-hot), ``names`` [d], ``label`` and ``property`` uint8 [2 each].

    Raises
    ------
    UsageError
        If the file cannot be written.
    """
    rows, source = probe_rows(shadows), groups.table(shadows.data)
    _written(path, lambda file: np.savez_compressed(
        file, features=source.features[rows], names=np.array(source.names),
        label=source.label[rows], property=source.attribute[rows]))
    return (f"{len(rows)} probe records of {shadows.table}, {len(source.names)} encoded features "
            f"each: {path}")


def _written(path: Path, write) -> None:
    try:
        with replacing(path) as part, open(part, "wb") as file:
            write(file)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def key_of(shadows: Shadows) -> str:
    """Return the store's key of the outputs."""
    return make_key("shadow outputs", VERSION, shadows, data=groups.table(shadows.data).sha256,
                    device="cpu", dtype="float16")


def read(shadows: Shadows, store: Store) -> dict[float, Probabilities]:
    """Return the published outputs, by ratio: probabilities [count, 2 each].

    Raises
    ------
    UsageError
        When they have not been made; says how.
    """
    entry = store.get(key_of(shadows))
    if entry is None:
        raise UsageError(
            f"no shadow outputs of {shadows.table}, {shadows.property} are published here; "
            f"`python -m helpers attack --make-shadows --table {shadows.table} --property "
            f"{shadows.property}` trains them (a minute or two)")
    return {ratio: Logits(values).probabilities()
            for ratio, values in zip(shadows.ratios, entry.arrays["logits"], strict=True)}


def make(shadows: Shadows, store: Store, *, workers: int | None = None) -> Entry:
    """Train the shadows that the store lacks and keep their outputs, unless they are up to date.

    Outputs that other code made are replaced.

    Returns
    -------
    Entry
        Array ``logits``, float16 [ratios, count, 2 each].

    Raises
    ------
    helpers.images.DataError
        Before any training, when a pool is too small.
    """
    key = key_of(shadows)
    entry = store.get(key)
    if entry is not None and entry.record["fingerprint"] == fingerprint(MODULES):
        return entry
    probe_rows(shadows)
    for group in shadows.groups:
        groups.check(group)
    groups.train(shadows.groups, store, workers=workers)
    return store.put(key, *_outputs(shadows, store, "cpu"), measurement=True)


def _outputs(shadows: Shadows, store: Store, device: str) -> tuple[dict, dict[str, np.ndarray]]:
    import torch

    models = [groups.fitted(group, store, device) for group in shadows.groups]
    spent = {groups.key_of(group, device)[:16]: found.record["cost"]["seconds"]
             for group, found in zip(shadows.groups, models, strict=True)}
    began = time.process_time()
    asked = groups.table(shadows.data).features[probe_rows(shadows)]
    logits = np.stack([shadow.logits(found, asked) for found in models]).astype(np.float16)
    own = time.process_time() - began
    record = {
        "trained": spent,
        "cost": {"seconds": round(own + sum(spent.values()), 2), "peak_mb": peak_mb()},
        "recompute": {"function": "helpers.shadow_outputs:recompute",
                      "arguments": {"shadows": asdict(shadows)}},
        "tolerance": {"mean_abs": 0.05},
        "stage": "shadow outputs", "version": VERSION, "modules": list(MODULES),
        "fingerprint": fingerprint(MODULES), "torch": torch.__version__, "device": device,
    }
    return record, {"logits": logits}


def recompute(arguments: dict, device: str = "cpu") -> dict[str, np.ndarray]:
    """Train published shadows again from nothing, in a temporary store; returns the arrays."""
    plain = dict(arguments["shadows"])
    recipe = Recipe(**{**plain["recipe"], "marks": tuple(plain["recipe"]["marks"])})
    shadows = Shadows(**{**plain, "ratios": tuple(plain["ratios"]), "recipe": recipe})
    with tempfile.TemporaryDirectory() as folder:
        return _outputs(shadows, Store(Path(folder)), device)[1]
