"""The resolution of a slide: what the file says, what its user says, and whether it can be true."""

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hsa.errors import InputError

if TYPE_CHECKING:
    import pandas as pd  # for types alone: it takes 60 MB

log = logging.getLogger(__name__)

# um/px. A file can claim any (600 dpi of an image editor are 42 um/px); outside these it says nothing.
PLAUSIBLE_MPP = (0.08, 20.0)
# A file and its user mean the same within this share.
SAME = 0.05
# An objective of P-fold gives about 10 / P um/px; adapters and cameras move that by 2, seldom more.
ODD_POWER, WRONG_POWER = 1.6, 2.5
# A glass slide, mm; a picture that is so many times larger is odd, or wrong.
GLASS_MM = (76.0, 26.0)
ODD_SIZE, WRONG_SIZE = 2.0, 5.0
MANIFEST, COMMAND_LINE, OVERRIDE = "manifest", "command line", "override"


class Given(NamedTuple):
    """Level-0 resolution from outside of the file.

    Attributes:
        mpp: um/px; NaN where nothing is told, so that a message names the place where it can be.
        override: whether it wins over what the file says.
        told_by: `"manifest"` or `"command line"`.
    """

    mpp: float
    override: bool = False
    told_by: str = MANIFEST


class Described(Protocol):
    """What a file says of its largest picture; as of `hsa.slides.readers.Reader`."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, px."""

    @property
    def mpp(self) -> tuple[float, float] | None:
        """Um/px along x and y, plausible or not."""

    @property
    def power(self) -> float | None:
        """Of the objective."""


def given(mpp: "float | Given | None") -> Given | None:
    """Take a bare number for the manifest's; NaN is none."""
    if mpp is None or isinstance(mpp, Given):
        return mpp
    return None if math.isnan(mpp) else Given(float(mpp))


def givens(slides: "pd.DataFrame") -> list[Given | None]:
    """Resolutions that a manifest gives, a row a slide: its columns `mpp` and, if there is one, `mpp_override`."""
    marked = slides["mpp_override"] if "mpp_override" in slides else [False] * len(slides)
    numbers = [given(mpp) for mpp in slides["mpp"]]
    return [one and one._replace(override=bool(mark)) for one, mark in zip(numbers, marked, strict=True)]


def is_plausible(mpp: float) -> bool:
    """Tell whether a microscope has such a resolution, um/px."""
    return PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1]


def agreed(path: str | Path, reader: Described, told: Given | None) -> tuple[float, str]:
    """Find the resolution of level 0 from the file and from outside of it, and hold it against all that is known.

    Args:
        path: named in errors.
        reader: what the file says.
        told: what its user says.

    Returns:
        um/px, and where it comes from: `"file"`, `"manifest"`, `"command line"` or, where it was marked to win over the
        file, `"override"`.

    Raises:
        InputError: none that a microscope has; two that contradict each other, or one that contradicts the objective;
            pixels that are not square; or a slide of five times the size of glass.
    """
    place = MANIFEST if told is None else told.told_by
    told = None if told is None or math.isnan(told.mpp) else told
    mpp, where = _told(path, reader, told, place)
    _check_power(path, reader.power, mpp, where, told, place)
    _check_size(path, reader.size, mpp, where, place)
    return mpp, where


def _told(path: str | Path, reader: Described, told: Given | None, place: str) -> tuple[float, str]:
    said, (low, high) = reader.mpp, PLAUSIBLE_MPP
    if told is not None and not is_plausible(told.mpp):
        raise InputError(
            f"slide {path}: the {told.told_by}'s mpp {told.mpp:g} is no resolution of a microscope "
            f"({low:g} to {high:g}): give um per pixel of the full-size image, such as 0.25 (40x) or 0.5 (20x)"
        )
    if told is not None and told.override:
        return told.mpp, OVERRIDE
    if said is None or not all(map(is_plausible, said)):
        if told is None:
            makes = f"; an objective of {reader.power:g}x makes about {10 / reader.power:g}" if reader.power else ""
            odd = "" if said is None else f" ({said[0]:g} um/px is none of a microscope{makes})"
            how = "give `--mpp`" if place == COMMAND_LINE else "fill the manifest's `mpp` column"
            raise InputError(
                f"slide {path} does not say its resolution{odd}: {how} (um per pixel of the full-size image; the "
                "scanner's report has it)"
            )
        return told.mpp, told.told_by
    across, down = said
    if abs(across - down) > 0.01 * min(said):
        raise InputError(
            f"slide {path} has pixels that are not square ({across:g} x {down:g} um): resample it to square pixels, or "
            f"if that is wrong, {_mark(place)}"
        )
    if told is not None and abs(told.mpp - across) > SAME * across:
        raise InputError(
            f"slide {path} says {across:g} um/px, the {told.told_by} says {told.mpp:g}: correct or leave out the "
            f"{told.told_by}'s, or if the file is wrong, {_mark(place)}"
        )
    return across, "file"


def _mark(place: str) -> str:
    """How to tell there that one's own resolution wins."""
    if place == COMMAND_LINE:
        return "add `--override-mpp` to the right `--mpp`"
    return "put 1 into the column `mpp_override` of the manifest, beside the right `mpp`"


def _check_power(path: str | Path, power: float | None, mpp: float, where: str, told: Given | None, place: str) -> None:
    """Hold a resolution against the objective that the file names."""
    if power is None or not 1 <= power <= 200:
        return
    factor = max(mpp * power / 10, 10 / (mpp * power))
    if factor < ODD_POWER:
        return
    problem = f"slide {path}: {mpp:g} um/px ({where}) do not go with an objective of {power:g}x, about {10 / power:g}"
    # Whoever gives the file's own number, or marks another one, has looked.
    confirmed = told is not None and (told.override or where == "file")
    if factor > WRONG_POWER and not confirmed:
        raise InputError(f"{problem}: find out which is right, and {_mark(place)}")
    log.warning("%s", problem)


def _check_size(path: str | Path, size: tuple[int, int], mpp: float, where: str, place: str) -> None:
    """Hold a resolution against the size of a glass slide."""
    sides = sorted((side * mpp / 1000 for side in size), reverse=True)
    factor = max(side / glass for side, glass in zip(sides, GLASS_MM, strict=True))
    problem = (
        f"slide {path} is {sides[0]:.0f} x {sides[1]:.0f} mm at {mpp:g} um/px ({where}), a glass slide "
        f"{GLASS_MM[0]:g} x {GLASS_MM[1]:g}"
    )
    if factor > WRONG_SIZE:
        how = "correct it" if where != "file" else _mark(place)
        raise InputError(f"{problem}: the resolution is wrong, {how}")
    if factor > ODD_SIZE:
        log.warning("%s", problem)
