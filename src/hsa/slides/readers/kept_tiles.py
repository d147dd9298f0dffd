"""Decoded tiles that the next region may need."""

import numpy as np

# Bytes of decoded tiles that are kept at most, so that none is decoded again for each region that touches it.
KEPT_BYTES = 48_000_000
# A level as it is reduced (level, factor, how), and a row of its tiles.
Picture = tuple[int, int, str]
Row = tuple[Picture, int]


class KeptTiles:
    """Decoded tiles for regions that are read row by row: those of other rows are forgotten.

    Memory is used again: fresh memory costs a third of what decoding does.
    """

    def __init__(self) -> None:
        self._rows: dict[Row, dict[int, np.ndarray]] = {}
        self._bytes = 0
        self._spare: dict[tuple[int, ...], list[np.ndarray]] = {}

    def forget(self, picture: Picture, above: int, below: int) -> None:
        """Forget the tiles of a picture in rows above the one or from the other on."""
        for row in [row for row in self._rows if row[0] == picture and not above <= row[1] < below]:
            self._drop(row)

    def take(self, row: Row, column: int) -> np.ndarray | None:
        """Give a tile away; None if it is not kept."""
        tile = self._rows[row].pop(column, None) if row in self._rows else None
        if tile is not None:
            self._bytes -= tile.nbytes
        return tile

    def put(self, row: Row, column: int, tile: np.ndarray) -> None:
        """Keep a tile, if there is room beside the others of its picture."""
        if self._bytes + tile.nbytes > KEPT_BYTES:
            for other in [other for other in self._rows if other[0] != row[0]]:
                self._drop(other)
        if self._bytes + tile.nbytes > KEPT_BYTES:
            self.spare(tile)
            return
        self._rows.setdefault(row, {})[column] = tile
        self._bytes += tile.nbytes

    def _drop(self, row: Row) -> None:
        for tile in self._rows.pop(row).values():
            self._bytes -= tile.nbytes
            self.spare(tile)

    def buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """Give memory for a tile, with anything in it."""
        free = self._spare.get(shape)
        return free.pop() if free else np.empty(shape, np.uint8)

    def spare(self, tile: np.ndarray) -> None:
        """Take memory back."""
        self._spare.setdefault(tile.shape, []).append(tile)
