"""What other filters than the default's leave of the dirty pools, to teach a student by them.

    python recipes/dirty_pools.py --fonts fonts          # its first lines say where the fonts are
    python recipes/filtered_pools.py [--dirty runs/dirty]
    python recipes/pool_study.py filtered-letters-agreement ...     # KIND-FILTER, for each that is printed

Each score of recipes/strangers.py that is named here leaves out what falls below that which a twentieth of the tune
part falls below. `balance` keeps at most as many samples of a class as an even pool of half the size would have, drawn
by lot; the class is the one that the mean probability of student and teacher gives. No label is read.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from pool_study import FILTERED
from strangers import SCORES, SHARE, ask, open_tutors
from torch import Tensor

from crossteach.files import write_bytes

FILTERS = {
    "agreement": "agreement: shared probability",
    "energy": "energy: mean logsumexp",
    "rarity": "rarity of the class",
    "balance": None,
}
"""Names in files, and the scores of recipes/strangers.py that they stand for."""


def even(tutors: Float[Tensor, "K N C"]) -> Bool[Tensor, " N"]:
    """Mark at most as many samples of a class as an even pool of half the size would have, drawn by lot."""
    given = tutors.softmax(2).mean(0).argmax(1).numpy()
    most, order = len(given) // (2 * tutors.shape[2]), np.random.default_rng(0).permutation(len(given))
    by_class = order[np.argsort(given[order], kind="stable")]
    starts = np.searchsorted(given[by_class], given[by_class])
    kept = torch.zeros(len(given), dtype=torch.bool)
    kept[by_class[np.arange(len(given)) - starts < most]] = True
    return kept


def main() -> None:
    """Write what each filter keeps of each pool."""
    parser = argparse.ArgumentParser(description="What other filters leave of dirty pools.")
    parser.add_argument("--dirty", type=Path, default=Path("runs/dirty"))
    dirty = parser.parse_args().dirty
    tutors, familiar = open_tutors()
    own = len(np.load(dirty / "clean.npz")["x"])
    for kind, filters in FILTERED.items():
        images = np.load(dirty / f"{kind}.npz")["x"]
        asked = ask(tutors, images)
        for name in filters:
            named = FILTERS[name]
            if named is None:
                kept = even(asked)
            else:
                least = SCORES[named](familiar, familiar).quantile(SHARE)
                kept = SCORES[named](asked, familiar) >= least
            with io.BytesIO() as packed:
                np.savez_compressed(packed, x=images[kept.numpy()])
                write_bytes(dirty / f"{kind}-{name}.npz", packed.getvalue())
            told = f"{int(kept[:own].sum())} of {min(own, len(images))}, {int(kept[own:].sum())} of the rest"
            print(f"{kind}, {name}: kept of the pool's own {told}", flush=True)


if __name__ == "__main__":
    main()
