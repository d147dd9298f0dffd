"""Draw book/_static/overview.png, the picture of the README: one virtual case, H&E and its IHC sections.

Usage: python workflow/overview.py, after `make book` or `hsa cohort`.
"""

from hsa.cohorts import cohort
from hsa.cohorts.cohort import HE
from hsa.files import REPOSITORY
from hsa.reporting import figures
from hsa.slides.slide import Slide
from hsa.study.study import load


def main() -> None:
    """Draw the first case that is positive for every marker."""
    figures.use_style()
    study = load("virtual")
    read = cohort.load(study)
    case = read.labels.index[(read.labels == 1).all(axis=1)][0]
    paths = read.slides[read.slides["case_id"] == case].set_index("stain")["path"]
    fig, axes = figures.panels(1, 1 + len(study.markers), height=2.1, width=7.6)
    for ax, stain in zip(axes, [HE, *study.markers], strict=True):
        with Slide.open(paths[stain]) as slide:
            ax.imshow(slide.thumbnail(1.25))
        ax.set_axis_off()
        ax.set_title("H&E" if stain == HE else stain)
    figures.save(fig, REPOSITORY / "book" / "_static" / "overview.png")


if __name__ == "__main__":
    main()
