"""Marker programmes as data: how a marker stains, what it imprints on H&E, how a reader calls it.

Every number that ties a label to morphology is in `MARKERS`; nothing else in the package knows a marker's
name. To add a marker, add a row.
"""

from dataclasses import dataclass

import numpy as np

from hsa.errors import InputError


@dataclass(frozen=True)
class Programme:
    """One immunohistochemical marker.

    The latent score z ~ N(0, 1) of a case fixes the expected positive fraction of its tumour nuclei (or
    membranes), `sigmoid(centre + spread z)`, unless the marker is `aberrant`: then z above `centre` makes
    the case overexpressed or null (share `null_share`), and z below it wild-type with a fraction between
    the two `wild_type` bounds.

    Attributes:
        pattern: "nuclear" or "membranous".
        centre: logit of the fraction at z = 0; for an aberrant marker the cut on z.
        spread: logits per unit of z.
        positive: a read fraction above this is called positive.
        null_below: a read fraction below this is called positive too (loss of expression).
        imprint: morphology latent -> weight. At study strength s the latent is
            (sum_m s w_m z_m + e) / sqrt(sum_m (s w_m)^2 + 1), e ~ N(0, 1), so it is N(0, 1) at each s.
        intensity: DAB optical density of a positive cell, low and high.
        weak: DAB optical density of wild-type positive cells, for an aberrant marker.
        immune: share of lymphocytes that stain.
        stroma: share of stromal cells that stain (the internal control of an aberrant marker).
        patchiness: share of the variance of single-cell positivity that neighbours have in common.
        reader_sd: error of one reader of the fraction, in logits. 0.3 reads 20 % as 16-25 % (1 SD), the order of
            the between-reader spread of Ki-67 counts.
        reader_flip: chance that one reader misreads the whole pattern, whatever the fraction.
    """

    pattern: str
    centre: float
    spread: float
    positive: float
    imprint: dict[str, float]
    intensity: tuple[float, float]
    null_below: float = 0.0
    aberrant: bool = False
    null_share: float = 0.0
    wild_type: tuple[float, float] = (0.1, 0.4)
    weak: tuple[float, float] = (0.15, 0.5)
    immune: float = 0.0
    stroma: float = 0.0
    patchiness: float = 0.3
    reader_sd: float = 0.25
    reader_flip: float = 0.0

    def expected_fraction(self, z: float, rng: np.random.Generator) -> float:
        """Expected positive fraction of the tumour cells of a case with latent score `z`."""
        u, v = rng.random(2)
        if not self.aberrant:
            return float(sigmoid(self.centre + self.spread * z))
        if z < self.centre:
            return self.wild_type[0] + u * (self.wild_type[1] - self.wild_type[0])
        return 0.0 if v < self.null_share else 0.80 + 0.18 * u

    def call(self, fraction: float) -> int:
        """1 where the read `fraction` (0-1) counts as positive or aberrant, else 0."""
        return int(fraction > self.positive or fraction < self.null_below)

    def read(self, fraction: float, rng: np.random.Generator) -> tuple[float, int]:
        """What a reader reports of the true `fraction`: the read fraction and the label."""
        noise, flip = rng.standard_normal(), rng.random()
        logit = np.log((fraction + 1e-4) / (1 - fraction + 1e-4))
        read = 0.0 if fraction == 0 else float(sigmoid(logit + self.reader_sd * noise))
        label = self.call(read)
        return read, 1 - label if flip < self.reader_flip else label


MARKERS: dict[str, Programme] = {
    # Proliferation: mitoses, dense chromatin, crowded nuclei.
    "Ki-67": Programme(
        pattern="nuclear",
        centre=-2.3,
        spread=1.05,
        positive=0.20,
        imprint={"mitoses": 1.0, "hyperchromasia": 1.0, "crowding": 1.0},
        intensity=(0.55, 1.5),
        immune=0.05,
        stroma=0.02,
        patchiness=0.25,
        reader_sd=0.3,
    ),
    # TP53 mutation: genomic instability seen as pleomorphism, large nuclei, prominent nucleoli. Stroma and
    # lymphocytes stain weakly, so that a null tumour can be told from a failed stain.
    "P53": Programme(
        pattern="nuclear",
        centre=0.05,
        spread=0.0,
        positive=0.60,
        null_below=0.01,
        aberrant=True,
        null_share=0.3,
        imprint={"pleomorphism": 1.2, "nuclear_size": 1.0, "nucleoli": 1.2},
        intensity=(0.8, 1.6),
        immune=0.12,
        stroma=0.15,
        patchiness=0.1,
        reader_sd=0.25,
        reader_flip=0.05,
    ),
    # Adaptive immune resistance: interferon from infiltrating lymphocytes induces PD-L1 at the front.
    "PD-L1": Programme(
        pattern="membranous",
        centre=-1.95,
        spread=1.5,
        positive=0.10,
        imprint={"infiltration": 1.0, "exocytosis": 0.8, "interface": 0.8},
        intensity=(0.35, 1.1),
        immune=0.15,
        patchiness=0.6,
        reader_sd=0.5,
    ),
}

# What each imprinted latent, N(0, 1), changes on every section of a case; `cells` and `specimen` hold the rates.
LATENTS: dict[str, str] = {
    "crowding": "tumour nuclei stand closer: their hard-core distance falls by 8 % per unit",
    "exocytosis": "lymphocytes within the epithelium: their density grows by e^0.85 per unit",
    "hyperchromasia": "darker tumour nuclei: 14 % more hematoxylin and less pale chromatin per unit",
    "infiltration": "lymphocytes in the stroma: e^0.75 more per unit, and more aggregates",
    "interface": "a ragged tumour front: e^0.55 more fine warp of the nests per unit, and more buds",
    "mitoses": "mitotic share of the tumour nuclei: 1.4 % at 0, e times more per unit, 9 % at most",
    "nuclear_size": "tumour nuclear radius: 4.1 um at 0, 9 % larger per unit",
    "nucleoli": "share of tumour nuclei with a prominent nucleolus (half at 0), and its size",
    "pleomorphism": "spread of nuclear radius (7 to 29 %), irregular contours, giant nuclei",
}


def programme(marker: str) -> Programme:
    """The programme of `marker`.

    Raises:
        InputError: the virtual tissue does not know this marker.
    """
    if marker not in MARKERS:
        raise InputError(
            f"virtual tissue knows no marker {marker!r}; known markers: {', '.join(MARKERS)}. "
            "Use one of these names, or give the cohort as a manifest of real slides."
        )
    return MARKERS[marker]


def mix(
    strength: float, scores: dict[str, float], noise: dict[str, float], programmes: dict[str, Programme]
) -> dict[str, float]:
    """Imprint marker scores on the morphology latents, with N(0, 1) marginals at every strength.

    Args:
        strength: study-wide multiplier of the imprint weights; 0 removes all label information.
        scores: marker -> z ~ N(0, 1).
        noise: latent -> e ~ N(0, 1), independent of the scores.
        programmes: marker -> programme, whose imprint weights are used.

    Returns:
        Latent -> (sum s w z + e) / sqrt(sum (s w)^2 + 1).
    """
    out = {}
    for latent, e in noise.items():
        pairs = [(strength * p.imprint.get(latent, 0.0), scores[m]) for m, p in programmes.items()]
        out[latent] = (sum(w * z for w, z in pairs) + e) / np.sqrt(sum(w * w for w, _ in pairs) + 1.0)
    return out


def sigmoid(x: float | np.ndarray) -> float | np.ndarray:
    """Logistic function, without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(x)))
