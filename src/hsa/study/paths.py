"""Where the files of a study live."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Where the files of a study live, below `results/<study>/`.

    Attributes:
        root: `results/<study>`.
        data: `results/<study>` of the study whose slides and bags are used.
        seeds: training seeds.
    """

    root: Path
    data: Path
    seeds: tuple[int, ...]

    @property
    def cohort(self) -> Path:
        """Folder of the virtual cohort: slides, manifest.csv, truth.csv."""
        return self.data / "cohort"

    @property
    def bags(self) -> Path:
        """Folder of one HDF5 bag a slide."""
        return self.data / "bags"

    @property
    def summary(self) -> Path:
        """Every headline number of the study."""
        return self.root / "summary.json"

    @property
    def kept(self) -> Path:
        """Folder of an experiment's results, which are committed with the book."""
        return self.root.parents[1] / "book" / "reference" / self.root.name

    def marker(self, marker: str) -> Path:
        """Folder of what is made for one marker over all seeds: seed0, or seeds0-1-2."""
        return self.root / f"seed{'s' * (len(self.seeds) > 1)}{'-'.join(map(str, self.seeds))}" / marker.lower()

    def method(self, marker: str, method: str) -> Path:
        """Folder of one method's models, embeddings and predictions; of one seed, see `Study.at`."""
        if len(self.seeds) != 1:
            raise ValueError(f"{len(self.seeds)} seeds: a model has one. Take study.at(seed).paths.")
        return self.marker(marker) / method

    def tuning(self, marker: str, method: str) -> Path:
        """Folder of the trials that chose a method's hyper-parameters, fold by fold."""
        return self.root / "tuning" / marker.lower() / method

    def notebook(self, marker: str, name: str) -> Path:
        """One executed notebook."""
        return self.marker(marker) / "notebooks" / f"{name}.ipynb"
