"""A study: one YAML file, checked once, and the place of every file that it makes."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from hsa.errors import InputError
from hsa.files import REPOSITORY
from hsa.settings import (
    Encoder,
    Evaluation,
    ManifestCohort,
    Marker,
    Method,
    Model,
    Name,
    Section,
    Tiles,
    Training,
    VirtualCohort,
)


@dataclass(frozen=True)
class Paths:
    """Where the files of a study live, below `results/<study>/`."""

    root: Path
    seed: int

    @property
    def cohort(self) -> Path:
        """Folder of the virtual cohort: slides, manifest.csv, truth.csv."""
        return self.root / "cohort"

    @property
    def bags(self) -> Path:
        """Folder of one HDF5 bag a slide."""
        return self.root / "bags"

    @property
    def summary(self) -> Path:
        """Every headline number of the study."""
        return self.root / "summary.json"

    def marker(self, marker: str) -> Path:
        """Folder of what is made for one marker with this seed."""
        return self.root / f"seed{self.seed}" / marker.lower()

    def method(self, marker: str, method: str) -> Path:
        """Folder of one method's models, embeddings and predictions."""
        return self.marker(marker) / method

    def notebook(self, marker: str, name: str) -> Path:
        """One executed notebook."""
        return self.marker(marker) / "notebooks" / f"{name}.ipynb"


class Study(Section):
    """Everything that defines a study. Read it with `load`."""

    name: Name
    title: str
    seed: int = 0
    cohort: Annotated[VirtualCohort | ManifestCohort, Field(discriminator="kind")]
    markers: Annotated[dict[Name, Marker], Field(min_length=1)]
    tiles: Tiles = Tiles()
    encoder: Encoder = Encoder()
    model: Model
    methods: Annotated[dict[Name, Method], Field(min_length=1)]
    baseline: str = Field(description="the method that the full method is compared with")
    full: str = Field(description="the method with all three losses")
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    file: Path = Field(exclude=True, description="where the study was read from; not a key of the file")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key in ("baseline", "full"):
            if getattr(self, key) not in self.methods:
                raise ValueError(f"{key}: {getattr(self, key)!r} is not one of methods: {', '.join(self.methods)}")
        if "HE" in self.markers:
            raise ValueError("markers: HE is the routine stain, not a marker")
        if len({m.lower() for m in self.markers}) < len(self.markers):
            raise ValueError("markers: two names differ in case only, so their folders would be one")
        return self

    @property
    def home(self) -> Path:
        """The folder that holds `studies/` and `results/`."""
        folder = self.file.resolve().parent
        return folder.parent if folder.name == "studies" else folder

    @property
    def paths(self) -> Paths:
        """Where this study's files live, for this seed."""
        return Paths(self.home / "results" / self.name, self.seed)

    def require_marker(self, marker: str) -> str:
        """Return `marker`, or raise an `InputError` that lists the markers of this study."""
        if marker not in self.markers:
            raise InputError(
                f"{self.file}: unknown stain {marker!r}{_nearest(marker, self.markers)}. "
                f"This study has {', '.join(self.markers)}; add yours under `markers:`."
            )
        return marker

    def require_method(self, method: str) -> str:
        """Return `method`, or raise an `InputError` that lists the methods of this study."""
        if method not in self.methods:
            raise InputError(
                f"{self.file}: unknown method {method!r}{_nearest(method, self.methods)}. "
                f"This study has {', '.join(self.methods)}; add yours under `methods:`."
            )
        return method


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, and 5e-5 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def find(study: str | Path) -> Path:
    """Find a study file by path, or by name in `studies/` of this folder, its parents or the repository.

    Raises:
        InputError: no such file; the message lists the places that were tried.
    """
    path = Path(study)
    if path.suffix in (".yml", ".yaml"):
        if path.is_file():
            return path
        raise InputError(f"{path}: no such study file. Give a path, or a name from studies/.")
    here = Path.cwd()
    homes = [here, *here.parents, REPOSITORY]
    for home in homes:
        if (home / "studies" / f"{study}.yml").is_file():
            return home / "studies" / f"{study}.yml"
    known = sorted({file.stem for home in homes for file in (home / "studies").glob("*.yml")})
    raise InputError(
        f"no study {str(study)!r}{_nearest(str(study), known)}: no studies/{study}.yml here or in a folder "
        f"above. Known: {', '.join(known) or 'none'}. Or give the path of a .yml file."
    )


def load(study: str | Path, seed: int | None = None) -> Study:
    """Read and check a study.

    Args:
        study: path of a YAML file, or the name of one in `studies/`.
        seed: training seed to use in place of the file's.

    Raises:
        InputError: names the file, the key and the remedy, for all problems at once.
    """
    path = find(study)
    try:
        data = yaml.load(path.read_text(), Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}. Mend that line.") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected keys and values such as `name: virtual`, found {type(data).__name__}.")
    if "file" in data:
        raise InputError(f"{path}: file: unknown key; remove it.")
    if seed is not None:
        data["seed"] = seed
    try:
        return Study(**data, file=path)
    except ValidationError as error:
        raise InputError("\n".join(_explain(path, problem) for problem in error.errors())) from None


def _explain(path: Path, problem: dict) -> str:
    location = [str(part) for part in problem["loc"] if part not in ("virtual", "manifest", "[key]")]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        allowed = _allowed(location[:-1])
        hint = _nearest(location[-1], allowed)
        return f"{path}: {key}: unknown key{hint}. Allowed here: {', '.join(allowed)}."
    if problem["type"] == "missing":
        return f"{path}: {key}: missing. Add this key."
    message = problem["msg"].removeprefix("Value error, ")
    given = "" if isinstance(problem["input"], dict) else f" (found {problem['input']!r})"
    prefix = f"{key}: " if key else ""
    return f"{path}: {prefix}{message}{given}. Change the value."


def _allowed(location: list[str]) -> list[str]:
    named = {"markers": Marker, "methods": Method}
    if not location:
        return [key for key in Study.model_fields if key != "file"]
    if location[0] in named:
        return list(named[location[0]].model_fields)
    if location[0] == "cohort":
        return sorted({*VirtualCohort.model_fields, *ManifestCohort.model_fields})
    return list(Study.model_fields[location[0]].annotation.model_fields)


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
