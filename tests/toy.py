"""A toy book for the tests of the runner: two tiny chapters in a temporary folder."""

from __future__ import annotations

from pathlib import Path

HEADER = """# ---
# jupyter:
#   jupytext: {text_representation: {extension: .py, format_name: percent}}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
"""

CHAPTER = HEADER + '''
# %% [markdown]
# # Does the toy run?
#
# There are {glue:text}`points` points.

# %% tags=["parameters"]
seed: int = 0  # seed of the draw
points: int = 100  # how many
rate: float = 0.5  # a rate
grid: list[int] = [16, 64]  # sizes
dataset: str = "digits8"  # data set
flip: bool = False  # whether
pause: float = 0.0  # seconds to wait
fail: str = ""  # name of an exception to raise

# %% tags=["nbval-ignore-output"]
import json
import os
import random
import time

random.seed(seed)
total = sum(random.random() for _ in range(points)) * (-1 if flip else 1)
metadata = {"scrapbook": {"name": "points", "mime_prefix": "application/papermill.record/"},
            "same_noise": {"record": {"name": "points", "text": str(points), "value": points,
                                      "low": None, "high": None, "unit": ""}}}
from IPython.display import display
display({"application/papermill.record/text/plain": str(points)}, raw=True, metadata=metadata)

# %%
for i in range(3):
    print(i, flush=True)
print(os.environ["OMP_NUM_THREADS"], os.environ["SAME_NOISE_PROFILE"],
      os.environ.get("SAME_NOISE_PUBLISH"))

# %%
if pause:
    import subprocess
    import sys
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(os.environ["TOY_PIDS"], "w") as file:
        json.dump([os.getpid(), child.pid], file)
    time.sleep(pause)
if fail:
    raise type(fail, (Exception,), {})("a toy failure")
'''

OTHER = HEADER + '''
# %% [markdown]
# # And the other one?

# %% tags=["parameters"]
seed: int = 0

# %%
print(seed + 1)
'''

PROFILES = """
quick:
  all: {seed: 0}
  01_toy: {points: 10, rate: 1}
laptop: {}
paper: {}
"""


def make(folder: Path) -> Path:
    """Write the toy book and return its root."""
    (folder / "notebooks").mkdir(parents=True)
    (folder / "notebooks" / "profiles.yml").write_text(PROFILES)
    (folder / "notebooks" / "01_toy.py").write_text(CHAPTER)
    (folder / "notebooks" / "02_other.py").write_text(OTHER)
    return folder
