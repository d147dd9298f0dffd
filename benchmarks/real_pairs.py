"""Does contrastive training raise the retrieval of a tile's own IHC partner, on real tissue of slides left out?

python benchmarks/real_pairs.py [FOLDER] [--to book/reference/real]     minutes on one core

FOLDER (or HSA_REAL_PAIRS) holds manifest.json and registered pictures of H&E and IHC; pictures are read, never kept.
The design below was committed before the first run on real pictures; `git log` on this file tells when.

Question. Tiles of an H&E picture look for their own IHC tile among the tiles of the same picture. Does a contrastive
loss on tile pairs of other slides make them find it more often than the frozen encoder does, and is it the pairing that
does it?

Pictures. Entries of kind "patch": breast, H&E and HER2, registered, about 0.46 um/px. Whole sections of the folder are
left out: they are neither registered nor at the scale of a tile. Nothing is said on status; the HER2 score of the slide
serves for the folds only.

Unit and folds. The unit is the picture. Which pictures are of one slide is not published, but pictures of one slide
share the slide's score. So a fold leaves out all pictures of a score: no slide lies on both sides.

Features. The frozen encoder `lite0-mid`, 256 px tiles at the picture's own resolution. Training: four grids a picture,
shifted by half a tile; within a grid no tiles overlap. Test: the first grid. Of each picture and stain the mean over
its tiles is taken off; then features are divided by their deviation within the training pictures, stain by stain.
Neither uses a pair of a test picture.

Arms. `raw`: the encoder's features as they are. `frozen`: standardised as above. `aligned`: then a linear map a stain
(`hsa.training.tile_pairs`), which begins as the identity, trained with InfoNCE on own pairs. `shuffled`: the same, same
seeds, with the IHC tiles dealt anew within each grid.

Settings, fixed beforehand: those of `hsa.training.tile_pairs.Settings` (temperature 0.1, 20 epochs, AdamW at 3e-4,
decay 0.1, dropout 0.2), chosen on made-up features in which both stains mix a common part differently; ten seeds.
Beside them, with the first two seeds and for no verdict: temperatures 0.03, 0.1, 0.3 by 5, 20, 60 epochs, all shown.

Measures. Top-1, which decides; mean reciprocal rank beside it; mean of both directions and of the seeds, picture by
picture. Chance is 1 / tiles. Interval: t over pictures; beside it t over scores, for pictures of a score may be of one
slide.

Verdict. Training raises the retrieval if `aligned` minus `frozen` has an interval above 0, lowers it if below, else it
is open. That pairing is why needs `aligned` minus `shuffled` above 0, too.
"""

import argparse
import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from hsa.encoders.encoder import TileEncoder, tile_encoder
from hsa.errors import InputError
from hsa.evaluation.partners import partners
from hsa.files import REPOSITORY, read_json, write_frame, write_json
from hsa.study.provenance import Clock, commit
from hsa.training.tile_pairs import Grid, Settings, StainMaps, fit, offsets, shuffled

TILE = 256
STAINS = ("he", "ihc")
SEEDS, FEW = 10, 2
TEMPERATURES, EPOCHS = (0.03, 0.1, 0.3), (5, 20, 60)
PLAIN = Settings()
COLUMNS = ["image", "group", "tiles", "arm", "seed", "temperature", "epochs", "direction", "top1", "mrr"]


def read_entries(folder: Path) -> list[dict[str, Any]]:
    """Entries of kind patch, in the order of their ids, each checked against its files.

    Raises:
        InputError: no manifest, an entry without its keys, a file that is absent or another, or too few groups.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise InputError(f"{path}: no such file: give the folder of real pairs, or set HSA_REAL_PAIRS to it")
    entries = []
    for row, entry in enumerate(read_json(path)):
        lacking = [key for key in ("id", "kind", "marker", "label", *STAINS) if key not in entry]
        if lacking:
            raise InputError(f"{path}: entry {row} has no {lacking[0]!r}: add it")
        if entry["kind"] != "patch":
            continue
        for stain in STAINS:
            file = folder / entry[stain]["file"]
            if not file.is_file():
                raise InputError(f"{path}: entry {entry['id']}: {file.name} is not there: get it from its source")
            if hashlib.sha256(file.read_bytes()).hexdigest() != entry[stain]["sha256"]:
                raise InputError(f"{path}: entry {entry['id']}: {file.name} has another SHA-256: get it again")
        if not entry["label"]:
            raise InputError(f"{path}: entry {entry['id']}: label is empty: folds need the score of its slide")
        entries.append(entry)
    groups = {entry["label"] for entry in entries}
    if len(groups) < 2:
        raise InputError(f"{path}: {len(entries)} patches of {len(groups)} scores: give patches of two scores or more")
    return sorted(entries, key=lambda entry: entry["id"])


def grids(folder: Path, entry: dict[str, Any], encoder: TileEncoder) -> list[Grid]:
    """Features of the tiles of a pair, grid by grid.

    Raises:
        InputError: the two pictures differ in size, or are no squares.
    """
    pictures = [np.asarray(Image.open(folder / entry[stain]["file"]).convert("RGB")) for stain in STAINS]
    shapes = [picture.shape[:2] for picture in pictures]
    if len({*shapes[0], *shapes[1]}) > 1:
        raise InputError(f"entry {entry['id']}: pictures of {shapes[0]} and {shapes[1]} px: give registered squares")
    made = []
    for grid in offsets(shapes[0][0], TILE):
        sides = [encoder(np.stack([p[y : y + TILE, x : x + TILE] for x, y in grid])) for p in pictures]
        made.append((sides[0], sides[1]))
    return made


def standardised(images: list[list[Grid]], training: list[int]) -> list[list[Grid]]:
    """Take off the mean of each picture and stain; divide by the deviation within the training pictures."""
    centred = []
    for one in images:
        means = [np.concatenate([grid[s] for grid in one]).mean(axis=0) for s in (0, 1)]
        centred.append([(he - means[0], ihc - means[1]) for he, ihc in one])
    spread = [np.concatenate([grid[s] for i in training for grid in centred[i]]).std(axis=0) + 1e-6 for s in (0, 1)]
    return [[(he / spread[0], ihc / spread[1]) for he, ihc in one] for one in centred]


def runs(seeds: int, few: int) -> Iterator[tuple[int, Settings, tuple[int, ...]]]:
    """Seed, settings and the epochs at which to look: the settings that decide, and those beside them."""
    for seed in range(seeds):
        if seed < few:
            for temperature in TEMPERATURES:
                yield seed, replace(PLAIN, temperature=temperature, epochs=max(EPOCHS)), EPOCHS
        else:
            yield seed, PLAIN, (PLAIN.epochs,)


def retrieval(entries: list[dict[str, Any]], images: list[list[Grid]], seeds: int, few: int) -> pd.DataFrame:
    """A row for each picture, arm, seed, setting and direction; see `COLUMNS`."""
    rows: list[dict[str, Any]] = []

    def note(number: int, grid: Grid, **how: Any) -> None:
        entry = entries[number]
        told = {"image": entry["id"], "group": entry["label"], "tiles": len(grid[0]), **how}
        rows.extend(told | {"direction": way} | found for way, found in partners(*grid).items())

    for group in sorted({entry["label"] for entry in entries}):
        test = [i for i, entry in enumerate(entries) if entry["label"] == group]
        training = [i for i in range(len(entries)) if i not in test]
        ready = standardised(images, training)
        same = StainMaps(ready[0][0][0].shape[1])
        for i in test:
            note(i, images[i][0], arm="raw")
            note(i, same.mapped(*ready[i][0]), arm="frozen")
        for seed, settings, at in runs(seeds, few):
            own = [ready[i] for i in training]
            for arm, pairs in (("aligned", own), ("shuffled", shuffled(own, seed))):
                for epoch, maps in fit(pairs, settings, seed, at):
                    for i in test:
                        how = {"seed": seed, "temperature": settings.temperature, "epochs": epoch}
                        note(i, maps.mapped(*ready[i][0]), arm=arm, **how)
        print(f"score {group}: {len(test)} pictures, trained on {len(training)}", flush=True)
    found = pd.DataFrame(rows, columns=COLUMNS).astype({"seed": "Int64", "epochs": "Int64"})
    return found.round({"top1": 5, "mrr": 5})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("HSA_REAL_PAIRS"))
    parser.add_argument("--to", type=Path, default=REPOSITORY / "book" / "reference" / "real")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--few", type=int, default=FEW, help="seeds of the settings that decide nothing")
    asked = parser.parse_args()
    if asked.folder is None:
        parser.error("give the folder of real pairs, or set HSA_REAL_PAIRS to it")
    clock = Clock()
    torch.set_num_threads(1)
    entries = read_entries(Path(asked.folder))
    encoder = tile_encoder()
    images = [grids(Path(asked.folder), entry, encoder) for entry in entries]
    found = retrieval(entries, images, asked.seeds, asked.few)
    write_frame(asked.to / "retrieval.csv", found)
    facts = {
        **commit(),
        "date": clock.began.isoformat(timespec="seconds"),
        "minutes": round(clock.minutes, 2),
        "cpu_minutes": round(clock.cpu_minutes, 2),
        "torch": torch.__version__.split("+")[0],
        "numpy": np.__version__,
        "encoder": {"name": encoder.name, "weights": encoder.weights, "how": encoder.how},
        "tile_px": TILE,
        "settings": asdict(PLAIN),
        "seeds": asked.seeds,
        "seeds_beside": asked.few,
        "training_tiles": sum(len(grid[0]) for grid in images[0]),
        "marker": sorted({entry["marker"] for entry in entries}),
        "source": sorted({entry["dataset"] for entry in entries}),
        "files": {entry["id"]: {stain: entry[stain]["sha256"] for stain in STAINS} for entry in entries},
    }
    write_json(asked.to / "run.json", facts)
    print(found.groupby(["arm", "temperature", "epochs"], dropna=False)[["top1", "mrr"]].mean().round(3).to_string())


if __name__ == "__main__":
    main()
