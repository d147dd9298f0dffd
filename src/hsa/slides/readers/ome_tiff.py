"""OME-TIFF, read tile by tile through tifffile."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from PIL import Image

from hsa.errors import InputError
from hsa.slides.readers.pages import RGB, UNASSOCIATED, YCBCR, PagesReader
from hsa.slides.readers.protocol import BROKEN, unreadable
from hsa.slides.readers.segments import JPEG, SEPARATE, segment_shape

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

GREY = 1  # photometric interpretation of TIFF 6.0
# um in the units of OME's UnitsLength (OME model 2016-06); what is not here is no length.
MICRONS = {"m": 1e6, "dm": 1e5, "cm": 1e4, "mm": 1e3, "\xb5m": 1.0, "\u03bcm": 1.0, "nm": 1e-3, "pm": 1e-6}
# Pictures of the glass that scanners put beside the slide, by the name of the image.
BESIDE = re.compile("label|macro|overview|thumbnail", re.IGNORECASE)
# Other images are scans of the slide too where their area is over so much of the largest one's, or at least so much at
# the same resolution within 5 %.
LIKE_SIZE, LIKE_SCAN, SAME_SCAN = 0.5, 0.01, 0.05
FIX = "export one bright-field image, 8-bit RGB, as one OME-TIFF"


class OmeTiffReader(PagesReader):
    """An image of an OME-TIFF: 8-bit RGB, interleaved, in planes or in three pages; levels in SubIFDs.

    It is the one of the number asked for, else the largest. The resolution is PhysicalSizeX and PhysicalSizeY.
    """

    format = "ome-tiff"

    def __init__(self, path: Path, tiff: "TiffFile", scene: int | None = None) -> None:
        try:
            root = ElementTree.fromstring(tiff.ome_metadata)
            images = root.findall(".//{*}Image")
            image = _chosen(path, images, scene)
            pixels = _pixels(image)
            before = sum(_shape(other) == _shape(image) for other in images[: images.index(image)])
            super().__init__(path, tiff, [level.pages for level in _series(path, tiff, pixels, before).levels])
            self.mpp = _physical_size(pixels)
            self.power = _power(root, image)
        except InputError:
            raise
        except BROKEN as error:
            raise unreadable(path, error) from error


def _pixels(image: ElementTree.Element) -> ElementTree.Element:
    pixels = image.find("{*}Pixels")
    if pixels is None:
        raise ValueError("an image without pixels")
    return pixels


def _shape(image: ElementTree.Element) -> tuple[int, int]:
    """Width and height, px."""
    pixels = _pixels(image)
    return int(pixels.attrib["SizeX"]), int(pixels.attrib["SizeY"])


def _chosen(path: Path, images: list[ElementTree.Element], scene: int | None) -> ElementTree.Element:
    """The image of a number, else the largest one, if no other is a scan of the slide as well."""
    listed = ", ".join(
        "#{} {} ({} x {} px)".format(number, repr(image.get("Name") or "no name"), *_shape(image))
        for number, image in enumerate(images, 1)
    )
    if scene is not None:
        if not 1 <= scene <= len(images):
            raise InputError(f"slide {path} has no image #{scene}: choose one of {listed}")
        return images[scene - 1]
    areas = [math.prod(_shape(image)) for image in images]
    largest = images[areas.index(max(areas))]
    scans = [
        number
        for number, image in enumerate(images, 1)
        if image is largest or (not BESIDE.search(image.get("Name") or "") and _is_scan(image, largest))
    ]
    if len(scans) > 1:
        raise InputError(
            f"slide {path} holds {len(scans)} scans: {listed}. Give each that you want as a slide of its own, with its "
            f"number behind the path, such as {path.name}#{scans[1]}"
        )
    return largest


def _is_scan(image: ElementTree.Element, largest: ElementTree.Element) -> bool:
    """Whether an image is as much a scan of the slide as the largest one is."""
    share = math.prod(_shape(image)) / math.prod(_shape(largest))
    one, other = _physical_size(_pixels(image)), _physical_size(_pixels(largest))
    alike = one is not None and other is not None and abs(one[0] - other[0]) <= SAME_SCAN * other[0]
    return share > LIKE_SIZE or (alike and share >= LIKE_SCAN)


def _series(path: Path, tiff: "TiffFile", pixels: ElementTree.Element, before: int) -> "TiffPageSeries":
    """The pages of an image, level by level, once they are known to be 8-bit RGB and in this file.

    Of the images of its width and height, `before` stand before it.
    """
    size = {axis: int(pixels.attrib[f"Size{axis}"]) for axis in "XYZCT"}
    channels = pixels.findall("{*}Channel")
    named = ", ".join(channel.get("Name", "no name") for channel in channels)
    files = {element.text for element in pixels.iter() if element.tag.endswith("}UUID")}
    frames = [(one.keyframe.imagewidth, one.keyframe.imagelength) for one in tiff.series]
    whole = [one for one, frame in zip(tiff.series, frames, strict=True) if frame == (size["X"], size["Y"])][before:]
    problem = ""
    if size["Z"] > 1 or size["T"] > 1:
        problem = f"is a stack ({size['Z']} focal planes, {size['T']} times)"
    elif pixels.attrib["Type"] != "uint8":
        problem = f"has pixels of type {pixels.attrib['Type']}"
    elif len(files) > 1 or not whole or not _is_complete(tiff, whole[0]):
        problem = "lacks pages, or has them in other files"
    elif not _is_colour(whole[0], channels):
        problem = f"has {size['C']} channels ({named}) that are not red, green and blue"
    elif max(math.prod(segment_shape(level.keyframe)) for level in whole[0].levels) > Image.MAX_IMAGE_PIXELS:
        problem = "is too large for a file without tiles"
    if problem:
        raise InputError(f"slide {path} {problem}: {FIX}")
    return whole[0]


def _is_complete(tiff: "TiffFile", series: "TiffPageSeries") -> bool:
    pages = [page for level in series.levels for page in level.pages]
    return all(page is not None and page.parent is tiff for page in pages)


def _is_colour(series: "TiffPageSeries", channels: list[ElementTree.Element]) -> bool:
    """Whether the channels are those of a colour camera, and not so many fluorophores."""
    first, pages = series.keyframe, len(series.pages)
    if first.photometric == RGB or (first.photometric == YCBCR and first.compression == JPEG):
        alpha = first.samplesperpixel == 4 and first.planarconfig != SEPARATE and len(first.extrasamples) == 1
        return pages == 1 and (first.samplesperpixel == 3 or (alpha and first.extrasamples[0] in (1, UNASSOCIATED)))
    if first.photometric != GREY or pages * first.samplesperpixel != 3:
        return False
    if any(channel.get("Fluor") or channel.get("EmissionWavelength") for channel in channels):
        return False
    names = [channel.get("Name", "").lower() for channel in channels]
    unnamed = all(re.fullmatch(r"(channel)?[\s:\d]*", name) for name in names)
    return unnamed or names in (["red", "green", "blue"], ["r", "g", "b"])


def _power(root: ElementTree.Element, image: ElementTree.Element) -> float | None:
    """Magnification of the objective that an image was taken with; None if it names none."""
    used = image.find("{*}ObjectiveSettings")
    for objective in root.iterfind(".//{*}Instrument/{*}Objective") if used is not None else ():
        if objective.get("ID") == used.get("ID"):
            try:
                return float(objective.get("NominalMagnification", ""))
            except ValueError:
                return None
    return None


def _physical_size(pixels: ElementTree.Element) -> tuple[float, float] | None:
    """Um per pixel along x and y; None where it is not given as a length."""
    sizes = []
    for axis in "XY":
        unit = MICRONS.get(pixels.get(f"PhysicalSize{axis}Unit", "\xb5m"), math.nan)
        try:
            sizes.append(float(pixels.get(f"PhysicalSize{axis}", "nan").replace(",", ".")) * unit)
        except ValueError:
            return None
    return None if math.isnan(sum(sizes)) else (sizes[0], sizes[1])
