"""Are the coordinates of a bag in the unit that they say?"""

import numpy as np

from hsa.errors import InputError


def check_scale(coords: np.ndarray, tile_size: int, name: str, grid: int | None = None) -> None:
    """Refuse a bag whose coordinates are of another scale than its tiles: positions would tell nothing.

    Coordinates that are too small put many tiles into one grid cell; all slides then look alike, with no other
    sign. Tiles that do not overlap have a cell each. Coordinates that are too large leave the grid, or, if only
    a little too large, look like tiles with gaps between them, which are none of this function's business.

    Args:
        coords: (N, 2) corners of the tiles of one slide.
        tile_size: side of a grid cell, in the unit of `coords`.
        name: what to call the bag in the message.
        grid: cells a side that the slide encoder tells apart; None if its reader has no such limit.

    Raises:
        InputError: a tile lies at negative coordinates or outside of the grid, or there are fewer cells than two for
            three tiles.
    """
    cells = np.floor_divide(coords, tile_size)
    outside = (cells < 0) | (cells >= (grid or np.inf))
    if outside.any():
        x, y = coords[np.argmax(outside.any(axis=1))]
        end = f"0 to {grid * tile_size:g} ({grid} tiles of {tile_size:g} level-0 px)" if grid else "0 or more"
        raise InputError(
            f"{name}: a tile lies at ({x:g}, {y:g}), expected {end}: the coordinates are finer than level-0 px, or the "
            "tile size is too small, or they do not count from the slide's corner. Write the bag with level-0 pixels."
        )
    distinct = len(np.unique(cells, axis=0))
    if 3 * distinct < 2 * len(coords):
        steps = np.concatenate([np.diff(np.unique(axis)) for axis in coords.T])
        found = f"neighbours stand {np.median(steps):g} apart" if len(steps) else "all stand at one place"
        raise InputError(
            f"{name}: {len(coords)} tiles fall into {distinct} grid cells of {tile_size:g} px, expected a cell "
            f"each; {found}, expected {tile_size:g}: the coordinates are not in level-0 px (px of a smaller level? "
            "microns? tile numbers?), or tiles overlap by a third or more. Write the bag with level-0 pixels."
        )
