"""Which levels of a pyramid show the slide."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from hsa.slides.readers.protocol import DamagedError, Reader

# Levels are compared in squares of so many pixels of the coarser one, for which no more than MAX_SIDE of the finer one
# are read, and as means of blocks: scanners average, interpolate or pick the pixels of a level from those above.
SIDE_PX = 64
MAX_SIDE_PX = 2048
BLOCK_PX = 4
# Grey levels of deviation under which a square has nothing to compare, and the least correlation of a sound level:
# those of files at hand reach 0.9 to 1, displaced and foreign ones -0.6 to 0.7 at their worst square.
STRUCTURE = 8.0
AGREEMENT = 0.82
# Squares lie at these shares of width and height, and at so many places of most structure in the smallest level, which
# is cut into CELLS by CELLS for that unless it is too large to be read whole.
SHARES = (0.9, 0.7, 0.5, 0.3, 0.1)
STRUCTURED_PLACES = 8
CELLS = 24
OVERVIEW_PX = 4_000_000


def sound_levels(reader: Reader) -> tuple[int, ...]:
    """Find the levels that show the same tissue as the level above them; level 0 is not doubted.

    What is padded to whole tiles, cut short, or a macro picture by the side of the slide shows, where a level of its
    width would show a place, another one or nothing. A level without structure anywhere is kept.

    Returns:
        Indices into `reader.downsamples`, ascending; the first is 0.
    """
    kept = [0]
    places = _places(reader)
    for level in range(1, len(reader.downsamples)):
        if all(agreement >= AGREEMENT for agreement in _agreements(reader, kept[-1], level, places)):
            kept.append(level)
    return tuple(kept)


def _agreements(reader: Reader, above: int, level: int, places: list[tuple[float, float]]) -> Iterator[float]:
    """Correlation of a level with a finer one at each place where either has structure; 0 where one of them is flat."""
    coarse, ratio = reader.downsamples[level], reader.downsamples[level] / reader.downsamples[above]
    side = int(min(SIDE_PX, MAX_SIDE_PX / ratio, *(whole / coarse for whole in reader.size)) // BLOCK_PX * BLOCK_PX)
    if side < 2 * BLOCK_PX:
        return
    ends = [whole - side * coarse for whole in reader.size]
    corners = set()
    for shares in places:
        middle = [share * whole for share, whole in zip(shares, reader.size, strict=True)]
        corners.add(tuple(int(min(max(0, at - side * coarse / 2), end)) for at, end in zip(middle, ends, strict=True)))
    for x, y in sorted(corners, key=lambda corner: corner[::-1]):  # a tile is decoded once for a row of squares
        try:
            low = _means(reader.near(x, y, level, side, side), side)
            high = _means(reader.near(x, y, above, round(side * ratio), round(side * ratio)), side)
        except DamagedError:
            continue  # told when the place itself is read
        flattest, most = sorted([low.std(), high.std()])
        if most >= STRUCTURE:
            yield float(np.corrcoef(low.ravel(), high.ravel())[0, 1]) if flattest > 0 else 0.0


def _means(pixels: np.ndarray, side: int) -> np.ndarray:
    """Grey of the blocks of a square that is `side` px wide at the coarser level."""
    small = Image.fromarray(pixels).resize((side // BLOCK_PX,) * 2, Image.Resampling.BOX)
    return np.asarray(small).mean(axis=2)


def _places(reader: Reader) -> list[tuple[float, float]]:
    """Centres of the squares, as shares of width and height."""
    places = [(across, down) for across in SHARES for down in SHARES]
    last = len(reader.downsamples) - 1
    width, height = (max(1, round(side / reader.downsamples[last])) for side in reader.size)
    if last == 0 or width * height > OVERVIEW_PX:
        return places
    try:
        pixels = reader.read(0, 0, last, width, height)
    except DamagedError:
        return places
    grey = np.add(pixels[..., 0], pixels[..., 1], dtype=np.uint16) + pixels[..., 2]  # 20 times as fast as their mean
    rows, columns = (_parts(side) for side in grey.shape)
    deviation = np.array([[grey[row, column].std() for column in columns] for row in rows])
    most = np.argsort(-deviation.ravel(), kind="stable")[:STRUCTURED_PLACES]
    found = [divmod(int(index), len(columns)) for index in most]
    return [((column + 0.5) / len(columns), (row + 0.5) / len(rows)) for row, column in found] + places


def _parts(side: int) -> list[slice]:
    """Cut a side into CELLS parts, which differ by a pixel at most."""
    return [slice(part[0], part[-1] + 1) for part in np.array_split(np.arange(side), min(CELLS, side))]
