"""Large JPEG slides made into tiled pyramidal TIFFs, as a picture that is decoded whole has a ceiling of pixels."""

import struct
from pathlib import Path

import numpy as np

from hsa.errors import InputError
from hsa.files import replacing

CEILING = 2**30
_BAND = 1024


def jpeg_size(path: Path) -> tuple[int, int]:
    """Read width and height in px from the header, without decoding.

    Raises:
        InputError: not a JPEG.
    """
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        with JpegImageFile(path) as picture:  # unlike Image.open, it opens a picture of any size
            return picture.size
    except (OSError, SyntaxError, struct.error) as error:
        raise InputError(f"{path} is not a readable JPEG ({error}): download it again.") from error


def jpeg_to_tiff(path: Path, out: Path, mpp: float, ceiling: int = CEILING) -> None:
    """Write a JPEG as a pyramidal TIFF of 256 px tiles (JPEG, quality 90), each level half the one before.

    The picture is decoded whole: memory is about 4 bytes a pixel.

    Args:
        path: the JPEG.
        out: the TIFF.
        mpp: um/px, kept in the TIFF's resolution tags.
        ceiling: most pixels to decode.

    Raises:
        InputError: not a JPEG, cut short, not in colour, or with more pixels than `ceiling`.
    """
    import imagecodecs
    import tifffile

    width, height = jpeg_size(path)
    if width * height > ceiling:
        raise InputError(f"{path} has {width} x {height} px, more than {ceiling}: convert it with a tool that streams.")
    data = path.read_bytes()
    # A JPEG that was cut short decodes without a word, grey from there on.
    if not data.rstrip(b"\0\r\n ").endswith(b"\xff\xd9"):
        raise InputError(f"{path} has no end-of-image marker, it is cut short: download it again.")
    try:
        image = imagecodecs.jpeg8_decode(data)
    except imagecodecs.Jpeg8Error as error:
        raise InputError(f"{path} cannot be decoded ({error}): download it again.") from error
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"{path} is not an RGB picture.")
    per_cm = 1e4 / mpp
    with replacing(out) as temporary, tifffile.TiffWriter(temporary, bigtiff=width * height > 2**29) as tiff:
        level = 0
        while True:
            tiff.write(
                image,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 90},
                resolution=(per_cm / 2**level, per_cm / 2**level),
                resolutionunit="CENTIMETER",
                subfiletype=int(level > 0),
                metadata=None,
            )
            if min(image.shape[:2]) < 2 * 256:
                break
            image, level = _half(image), level + 1


def _half(image: np.ndarray) -> np.ndarray:
    """Average 2 x 2 px, band by band; an odd last row or column is dropped."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    half = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _BAND):
        band = image[2 * top : 2 * min(top + _BAND, height), : 2 * width]
        quads = band.reshape(len(band) // 2, 2, width, 2, 3)
        half[top : top + len(quads)] = (quads.sum((1, 3), dtype=np.uint16) + 2) // 4
    return half
