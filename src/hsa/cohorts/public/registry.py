"""The public cohorts as data: what each holds, under which licence, where to ask, how it is laid out, what is unknown.

Nothing here is downloaded. What could not be confirmed from a public source stands in `unconfirmed`, not in the fields
above it; a checksum is listed only where the owner published one.
"""

import difflib
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from hsa.errors import InputError


@dataclass(frozen=True)
class PublicCohort:
    """One cohort.

    Attributes:
        name: what `hsa cohort import` calls it; the prefix of its ids.
        title: its full name.
        url: its page.
        licence: as its owner states it.
        size: slides or patches, and bytes where known.
        access: how to get it.
        citation: what to cite.
        holds: pairs and labels.
        layout: the files as distributed, as the importer expects them below the source folder.
        mpp: um/px that the importer writes unless told otherwise; None if the data say it slide by slide.
        mpp_source: where that number is from.
        checksums: file name -> "algorithm:hexadecimal digest", as the owner published them.
        unconfirmed: what no public source that we could read confirms.
    """

    name: str
    title: str
    url: str
    licence: str
    size: str
    access: str
    citation: str
    holds: str
    layout: str
    mpp: float | None
    mpp_source: str
    checksums: dict[str, str] = field(default_factory=dict)
    unconfirmed: tuple[str, ...] = ()


_ALL = (
    PublicCohort(
        name="acrobat",
        title="ACROBAT, breast cancer slides in several stains",
        url="https://researchdata.se/en/catalogue/dataset/2022-190-1",
        licence="CC BY 4.0",
        size="4,212 slides of 1,153 patients; the validation part (201 slides) is 23.4 GB",
        access="open download from the page, archive by archive",
        citation="Weitz et al., A multi-stain breast cancer histological whole-slide-image data set from routine "
        "diagnostics, Scientific Data 2023, arXiv:2211.13621",
        holds="per patient one H&E slide and one to four of ER, PGR, HER2, Ki-67; no labels",
        layout="""\
df_acrobat_meta.csv      one row a slide; used: filename, mpp_lvl_0
.../0_HE_train.tif       NUMBER_STAIN_PART.tif, pyramids that start at 10x
.../0_KI67_train.tif     STAIN: HE, ER, PGR, HER2, KI67; PART: train, val, test""",
        mpp=None,
        mpp_source="column mpp_lvl_0 of df_acrobat_meta.csv, about 0.91 um/px",
        unconfirmed=(
            "size of the training and test archives",
            "whether checksums are published: none was found",
            "folders inside the archives: files are found at any depth",
        ),
    ),
    PublicCohort(
        name="bcnb",
        title="BCNB, early breast cancer core-needle biopsies",
        url="https://bupt-ai-cz.github.io/BCNB/",
        licence="own terms: non-commercial, cite, do not redistribute",
        size="1,058 H&E slides of 1,058 patients as JPEG, about 35 GB",
        access="agree to the terms and fill in the form on the page, or join bcnb.grand-challenge.org",
        citation="Xu et al., Predicting axillary lymph node metastasis in early breast cancer using deep learning on "
        "primary tumor biopsy slides, Frontiers in Oncology 2021, doi:10.3389/fonc.2021.759007",
        holds="H&E only; ER, PR and HER2 status, Ki-67 in percent",
        layout="""\
patient-clinical-data.xlsx   or .csv saved from it; used: Patient ID, ER, PR, HER2, Ki67
WSIs/1.jpg                   one slide a patient, named by Patient ID; WSIs/*.json are annotations
dataset-splitting/*.txt      the split of the paper on lymph nodes; not used""",
        mpp=0.5,
        mpp_source="assumed: the owners say 200x (20x objective, iScan Coreo) and give no um/px; "
        "other Ventana scanners have 0.465 at 20x",
        unconfirmed=(
            "um/px of the JPEG files",
            "the exact size: 35 GB is one user's copy",
            "whether checksums are published: none was found",
            "the Ki-67 cut-off behind the molecular subtypes, and how many cases are high at 14 %",
        ),
    ),
    PublicCohort(
        name="bci",
        title="BCI, breast cancer patches in H&E and HER2",
        url="https://bupt-ai-cz.github.io/BCI/",
        licence="own terms: non-commercial, cite",
        size="4,873 pairs of 1024 px PNG (3,896 train, 977 test); the paper counts 4,870, from 51 slide pairs",
        access="form on the page, or join bci.grand-challenge.org",
        citation="Liu et al., BCI: breast cancer immunohistochemical image generation through Pyramid Pix2pix, "
        "CVPR Workshops 2022, arXiv:2204.11425",
        holds="registered pairs of H&E and HER2; HER2 score 0, 1+, 2+, 3+ of the slide that a patch is from",
        layout="""\
HE/train/00000_train_1+.png    NUMBER_PART_SCORE.png
IHC/train/00000_train_1+.png   its partner has the same name
HE/test, IHC/test              likewise; train/HE, train/IHC ... is read too""",
        mpp=0.46,
        mpp_source="the paper: Hamamatsu NanoZoomer S60, 0.46 um/px",
        unconfirmed=(
            "which patch is from which slide or patient, so that folds cannot be patient-disjoint",
            "size in bytes",
            "whether checksums are published: none was found",
        ),
    ),
    PublicCohort(
        name="mist",
        title="MIST, breast patches in H&E and four stains",
        url="https://github.com/lifangda01/AdaptiveSupervisedPatchNCE",
        licence="none stated: ask the authors before use",
        size="21,295 pairs of 1024 px JPEG: 5,642 HER2, 5,361 Ki-67, 5,153 ER, 5,139 PR (1,000 of each for test); "
        "from 56 to 64 slides a stain",
        access="links on the page",
        citation="Li et al., Adaptive supervised PatchNCE loss for learning H&E-to-IHC stain translation with "
        "inconsistent groundtruth image pairs, MICCAI 2023, arXiv:2303.06193",
        holds="aligned pairs of H&E and one of HER2, Ki-67, ER, PR; no labels",
        layout="""\
Ki67/TrainValAB/trainA/67M2100642_15_18.jpg   H&E, named SLIDE_ROW_COLUMN
Ki67/TrainValAB/trainB/67M2100642_15_18.jpg   its partner in Ki-67 has the same name
Ki67/TrainValAB/valA, valB                    likewise; and HER2/, ER/, PR/""",
        mpp=0.5,
        mpp_source="assumed: no um/px is stated in what we could read; 0.5 is usual for 20x",
        unconfirmed=(
            "um/px and magnification",
            "that the first part of a name is the slide: seen in names that users show, not stated by the owners",
            "licence, size in bytes",
            "whether checksums are published: none was found",
        ),
    ),
)
COHORTS: dict[str, PublicCohort] = {cohort.name: cohort for cohort in _ALL}


def get(name: str) -> PublicCohort:
    """Look a cohort up.

    Raises:
        InputError: no such cohort; the message lists those that are known.
    """
    if name not in COHORTS:
        close = difflib.get_close_matches(name, COHORTS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise InputError(f"no public cohort {name!r}{hint}. Known: {', '.join(COHORTS)}.")
    return COHORTS[name]


def bad_checksums(cohort: PublicCohort, source: Path) -> list[str]:
    """Compare the files for which the owner published a checksum, as far as they lie below `source`.

    A file that is not there is no problem: archives may be gone once they are unpacked. Files are read in
    blocks, so memory does not grow with them.

    Returns:
        One line a file that differs.
    """
    problems = []
    for name, published in cohort.checksums.items():
        algorithm, _, digest = published.partition(":")
        for path in sorted(source.rglob(name)):
            with path.open("rb") as handle:
                found = hashlib.file_digest(handle, algorithm).hexdigest()
            if found != digest.lower():
                problems.append(
                    f"{path.relative_to(source)}: {algorithm} is {found}, published is {digest}. Download it again."
                )
    return problems


def table() -> str:
    """Lay out the registry as a Markdown table: name and page, what it holds, size, licence, access."""
    rows = [f"| [{c.name}]({c.url}) | {c.holds} | {c.size} | {c.licence} | {c.access} |" for c in COHORTS.values()]
    return "\n".join(["| cohort | holds | size | licence | how to get it |", "|---|---|---|---|---|", *rows]) + "\n"


def facts() -> str:
    """Write, in Markdown, what the table leaves out: layout, resolution, checksums, what is unconfirmed, citation."""
    parts = []
    for c in COHORTS.values():
        sums = ", ".join(f"`{name}`" for name in c.checksums) or "none published that we found"
        parts.append(
            f"**{c.name}.** {c.title}.\n\n```\n{c.layout}\n```\n\n"
            f"- Resolution: {c.mpp_source}.\n- Checksums: {sums}.\n"
            f"- Not confirmed: {'; '.join(c.unconfirmed) or 'nothing'}.\n- Cite: {c.citation}.\n"
        )
    return "\n".join(parts)
