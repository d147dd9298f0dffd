"""Slides for tests: made-up tissue, and files of every layout that a reader meets."""

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter

GLASS = np.array([243.0, 241.0, 242.0])
# Optical density of haematoxylin and of eosin, RGB.
STAINS = np.array([[0.55, 0.65, 0.30], [0.06, 0.40, 0.16]])


def tissue_picture(size: int, covered: float, seed: int) -> np.ndarray:
    """Draw a disc of tissue-like texture on glass, (size, size, 3) uint8; the disc covers that share."""
    rng = np.random.default_rng(seed)
    nuclei = gaussian_filter(rng.standard_normal((size, size)), 3)
    fibres = gaussian_filter(rng.standard_normal((size, size)), 8)
    amounts = np.stack([nuclei > nuclei.std(), 0.7 + 0.2 * fibres / fibres.std()], axis=-1)
    y, x = np.ogrid[:size, :size]
    radius = size * np.sqrt(covered / np.pi)
    disc = np.hypot(y - size / 2, x - size / 2) < radius
    picture = GLASS * 10 ** -((amounts * disc[..., None]) @ STAINS)
    return np.clip(picture + rng.normal(0, 1.0, picture.shape), 0, 255).astype(np.uint8)


def write_tiff(path: Path, picture: np.ndarray, mpp: float | None, levels: int = 3) -> Path:
    """Write a pyramidal tiled JPEG TIFF, each level half as large as the one before."""
    options = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb"}
    resolution = {} if mpp is None else {"resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            if mpp is not None:
                resolution["resolution"] = (1e4 / (mpp * 2**level),) * 2
            tiff.write(picture, subfiletype=int(level > 0), **options, **resolution)
            height, width = (side // 2 * 2 for side in picture.shape[:2])
            halves = picture[:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
            picture = halves.mean(axis=(1, 3)).round().astype(np.uint8)
    return path


def write_sparse_slide(
    path: Path, side_px: int, mpp: float, blobs: list[tuple[int, int, int]], *, pyramid: bool = True
) -> Path:
    """Write a square slide of any size in little time and space: a BigTIFF whose equal tiles share their bytes.

    Args:
        path: the file.
        side_px: width and height of level 0, px.
        mpp: its resolution, um/px.
        blobs: x, y and radius of discs of tissue on the glass, level-0 px.
        pyramid: whether coarser levels follow, each a quarter of the one before, down to 1024 px.
    """
    tile = 256
    glass, whole = tissue_picture(tile, 0.0, 0), tissue_picture(tile, 2.0, 0)
    middles = np.arange(tile) + 0.5
    downsamples = [1]
    while pyramid and side_px > 1024 * downsamples[-1]:
        downsamples.append(4 * downsamples[-1])
    with path.open("wb") as file:

        def put(data: bytes) -> tuple[int, int]:
            place = file.seek(0, 2)
            file.write(data)
            return place, len(data)

        def encoded(pixels: np.ndarray) -> tuple[int, int]:
            return put(imagecodecs.jpeg8_encode(pixels, level=85, subsampling="420"))

        put(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        link = 8  # where the place of the next directory goes
        for downsample in downsamples:
            # The texture repeats itself, so its picture at a coarser level does too.
            block = min(downsample, tile)
            means = whole.reshape(tile // block, block, tile // block, block, 3).mean(axis=(1, 3)).astype(np.uint8)
            tissue = np.tile(means, (block, block, 1))
            shared = np.array([encoded(glass), encoded(tissue)])
            side = -(-side_px // downsample)
            count = -(-side // tile)
            top, left = tile * np.stack(np.divmod(np.arange(count**2), count))
            discs = [np.array(blob) / downsample for blob in blobs]
            # How far the nearest and the farthest point of each tile lie outside of a disc.
            nearest, farthest = np.full((2, count**2), np.inf)
            for cx, cy, radius in discs:
                dx, dy = np.abs(left + tile / 2 - cx), np.abs(top + tile / 2 - cy)
                far = np.hypot(dx + tile / 2, dy + tile / 2) - radius
                near = np.hypot((dx - tile / 2).clip(0), (dy - tile / 2).clip(0)) - radius
                nearest, farthest = np.minimum(nearest, near), np.minimum(farthest, far)
            places = shared[(farthest < 0).astype(int)]
            for index in np.flatnonzero((nearest < 0) & (farthest >= 0)):
                x, y = middles + left[index], middles[:, None] + top[index]
                covered = np.any([(x - cx) ** 2 + (y - cy) ** 2 < radius**2 for cx, cy, radius in discs], axis=0)
                places[index] = encoded(np.where(covered[..., None], tissue, glass))
            rational = struct.pack("<II", round(1e7 / (mpp * downsample)), 1000)
            tags = [
                (254, "<u4", [int(downsample > 1)]),
                (256, "<u4", [side]),
                (257, "<u4", [side]),
                (258, "<u2", [8, 8, 8]),
                (259, "<u2", [7]),  # JPEG
                (262, "<u2", [6]),  # YCbCr
                (277, "<u2", [3]),
                (282, rational, None),
                (283, rational, None),
                (296, "<u2", [3]),  # per cm
                (322, "<u4", [tile]),
                (323, "<u4", [tile]),
                (324, "<u8", places[:, 0]),
                (325, "<u4", places[:, 1]),
                (530, "<u2", [2, 2]),
            ]
            entries = []
            for code, kind, values in tags:
                data = kind if values is None else np.asarray(values, kind).tobytes()
                number = {"<u2": 3, "<u4": 4, "<u8": 16}.get(kind, 5)
                value = data.ljust(8, b"\0") if len(data) <= 8 else struct.pack("<Q", put(data)[0])
                entries.append(struct.pack("<HHQ", code, number, 1 if values is None else len(values)) + value)
            directory, length = put(struct.pack("<Q", len(entries)) + b"".join(entries) + bytes(8))
            file.seek(link)
            file.write(struct.pack("<Q", directory))
            link = directory + length - 8
    return path


def write_dicom(
    path: Path,
    picture: np.ndarray,
    mpp: float,
    *,
    series: str = "1.2.3",
    number: int = 1,
    frames: list[bytes] | None = None,
) -> Path:
    """Write one level of a DICOM VL Whole Slide Microscopy image (PS3.3 A.32.8): TILED_FULL, uncompressed RGB.

    Args:
        path: the file.
        picture: (h, w, 3) uint8.
        mpp: its resolution, um/px.
        series: UID that all levels of a slide share.
        number: of the level, 1 for the full-size one.
        frames: JPEGs of the tiles of 256 px in place of the pixels.
    """

    def even(data: bytes) -> bytes:
        return data + bytes(len(data) % 2)

    def element(tag: int, kind: str, value: str | int | bytes | list[bytes]) -> bytes:
        if isinstance(value, str):
            value = value.encode()
        elif isinstance(value, int):
            value = struct.pack("<H" if kind == "US" else "<I", value)
        elif isinstance(value, list):
            value = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in value)
        value += (b"\0" if kind in ("UI", "OB") else b" ") * (len(value) % 2)
        head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, kind.encode())
        wide = kind in ("SQ", "OB")
        return head + (struct.pack("<HI", 0, len(value)) if wide else struct.pack("<H", len(value))) + value

    tile, slide_microscopy = 256, "1.2.840.10008.5.1.4.1.1.77.1.6"
    height, width = picture.shape[:2]
    rows, columns = -(-height // tile), -(-width // tile)
    padded = np.full((rows * tile, columns * tile, 3), 255, np.uint8)
    padded[:height, :width] = picture
    spacing = element(0x00280030, "DS", f"{mpp / 1000:.8g}\\{mpp / 1000:.8g}")
    meta = [
        element(0x00020001, "OB", b"\0\1"),
        element(0x00020002, "UI", slide_microscopy),
        element(0x00020003, "UI", f"{series}.{number}"),
        element(0x00020010, "UI", "1.2.840.10008.1.2.4.50" if frames else "1.2.840.10008.1.2.1"),
        element(0x00020012, "UI", "1.2.3.9"),
    ]
    data = [
        element(
            0x00080008,
            "CS",
            "ORIGINAL\\PRIMARY\\VOLUME\\NONE" if number == 1 else "DERIVED\\PRIMARY\\VOLUME\\RESAMPLED",
        ),
        element(0x00080016, "UI", slide_microscopy),
        element(0x00080018, "UI", f"{series}.{number}"),
        element(0x0020000E, "UI", series),
        element(0x00209311, "CS", "TILED_FULL"),
        element(0x00280002, "US", 3),
        element(0x00280004, "CS", "YBR_FULL_422" if frames else "RGB"),
        element(0x00280006, "US", 0),
        element(0x00280008, "IS", str(rows * columns)),
        element(0x00280010, "US", tile),
        element(0x00280011, "US", tile),
        element(0x00280100, "US", 8),
        element(0x00280101, "US", 8),
        element(0x00280102, "US", 7),
        element(0x00280103, "US", 0),
        element(0x00480006, "UL", width),
        element(0x00480007, "UL", height),
        element(0x52009229, "SQ", [element(0x00289110, "SQ", [spacing])]),
    ]
    if frames:  # encapsulated (PS3.5 A.4), without a table of offsets
        items = [struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in [b"", *map(even, frames)]]
        data += [struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF), *items, b"\xfe\xff\xdd\xe0\0\0\0\0"]
    else:
        data += [element(0x7FE00010, "OB", padded.reshape(rows, tile, columns, tile, 3).swapaxes(1, 2).tobytes())]
    length = element(0x00020000, "UL", sum(map(len, meta)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(128) + b"DICM" + length + b"".join(meta + data))
    return path


def lose_half(path, number: int) -> None:
    """Zero the second half of a tile or strip of a TIFF's first page, as an unfinished copy leaves it."""
    with tifffile.TiffFile(path) as tiff:
        place, length = tiff.pages[0].dataoffsets[number], tiff.pages[0].databytecounts[number]
    data = bytearray(path.read_bytes())
    data[place + length // 2 : place + length] = bytes(length - length // 2)
    path.write_bytes(data)
