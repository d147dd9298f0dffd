"""A study: one YAML file, checked once, and the place of every file that it makes."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from hsa.errors import InputError, cut, shown
from hsa.files import REPOSITORY
from hsa.study.dialect import Loader
from hsa.study.paths import Paths
from hsa.study.settings import (
    Candidate,
    Contrast,
    Design,
    Encoder,
    Evaluation,
    FocalCohort,
    ManifestCohort,
    Marker,
    Method,
    Model,
    Name,
    Section,
    Seed,
    Tiles,
    Training,
    Tuning,
    VirtualCohort,
)

_WHOLE = ("methods", "markers", "contrasts", "sweep")  # a file that extends another says all of these, or none
_TOLD, _LISTED = 1000, 50  # characters of one problem, and problems of one file


class Study(Section):
    """Everything that defines a study. Read it with `load`."""

    name: Name
    title: str
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(default=[0], description="training seeds")
    bags: Name | None = Field(default=None, description="study whose slides and bags to use instead of own ones")
    cohort: Annotated[VirtualCohort | FocalCohort | ManifestCohort, Field(discriminator="kind")]
    markers: Annotated[dict[Name, Marker], Field(min_length=1)]
    tiles: Tiles = Tiles()
    encoder: Encoder = Encoder()
    model: Model
    methods: Annotated[dict[Name, Method], Field(min_length=1)]
    baseline: str = Field(description="the method that the full method is compared with")
    full: str = Field(description="the method with all three losses")
    contrasts: dict[Name, Contrast] = Field(default={}, description="what an experiment asks: name -> two methods")
    design: Design = Design()
    training: Training = Training()
    tuning: Tuning | None = None
    evaluation: Evaluation = Evaluation()
    sweep: dict[str, dict[float, dict[str, Any]]] | None = Field(
        default=None, description="axis -> value -> what it changes (dotted keys); {} is the study itself"
    )
    file: Path = Field(exclude=True, description="where the study was read from; not a key of the file")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key in ("baseline", "full"):
            if getattr(self, key) not in self.methods:
                raise ValueError(f"{key}: {getattr(self, key)!r} is not one of methods: {', '.join(self.methods)}")
        for name, pair in self.contrasts.items():
            for key in (pair.of, pair.minus):
                if key not in self.methods:
                    raise ValueError(f"contrasts: {name}: {key!r} is not one of methods: {', '.join(self.methods)}")
        if isinstance(self.cohort, FocalCohort) and len(self.markers) != 1:
            raise ValueError(f"markers: a focal cohort has one, whose foci they are; found {', '.join(self.markers)}")
        if "he" in map(str.lower, self.markers):
            raise ValueError("markers: HE is the routine stain, not a marker")
        if {"majority", "notebooks"} & {name.lower() for name in self.methods}:
            raise ValueError("methods: majority and notebooks are names of results; call the method otherwise")
        for key in ("markers", "methods"):
            if len({name.lower() for name in getattr(self, key)}) < len(getattr(self, key)):
                raise ValueError(f"{key}: two names differ in case only, so their folders would be one")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one stands twice; a seed used twice is one run, not two")
        if self.tuning and self.tuning.seed in self.seeds:
            raise ValueError("tuning.seed: also stands in seeds; the trials must not be the runs that are judged")
        return self

    @property
    def home(self) -> Path:
        """The folder that holds `studies/` and `results/`."""
        folder = self.file.resolve().parent
        return folder.parent if folder.name == "studies" else folder

    @property
    def paths(self) -> Paths:
        """Where this study's files live, for these seeds."""
        results = self.home / "results"
        return Paths(results / self.name, results / (self.bags or self.name), tuple(self.seeds))

    @property
    def seed(self) -> int:
        """The first training seed: that of draws which concern no single run, such as bootstrap samples."""
        return self.seeds[0]

    @property
    def simulated(self) -> bool:
        """Whether its tissue is simulated, whole slides or tiles; else its slides are read from disk."""
        return self.cohort.kind != "manifest"

    def located(self, path: str | None) -> str | None:
        """Give a path of the study file, which is relative to that file, as an absolute one; None stays None."""
        return None if path is None else str((self.file.resolve().parent / path).resolve())

    @property
    def tile_encoder(self) -> Encoder:
        """The settings of the tile encoder, its weights named by an absolute path."""
        return self.encoder.model_copy(update={"weights": self.located(self.encoder.weights)})

    def at(self, seed: int) -> "Study":
        """Take the same study with one training seed."""
        return self.model_copy(update={"seeds": [seed]})

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


def load(study: str | Path, seed: int | None = None, changes: dict[str, Any] | None = None) -> Study:
    """Read and check a study.

    A file may say `extends: <study>`: it then holds only what differs. Sections are merged key by key; lists,
    `methods`, `markers`, `contrasts`, `sweep` and a cohort of another kind replace what they extend.

    Args:
        study: path of a YAML file, or the name of one in `studies/`.
        seed: the one training seed to use in place of the file's.
        changes: dotted key -> value, put over what the file says, such as {"training.lr": 1e-3}.

    Raises:
        InputError: names the file, the key and the remedy, for all problems at once.
    """
    path = find(study)
    data = _read(path)
    for key, value in (changes or {}).items():
        part: Any = value
        for name in reversed(key.split(".")):
            part = {name: part}
        data = _merge(data, part, ("methods",))
    if seed is not None:
        data["seeds"] = [seed]
    chosen = _checked(path, data)
    if chosen.bags and chosen.bags != chosen.name:
        _check_shared(chosen)
    return chosen


def _checked(path: Path, data: dict[str, Any]) -> Study:
    try:
        return Study(**data, file=path)
    except ValidationError as error:
        problems = error.errors()
        more = [f"{path}: and {len(problems) - _LISTED} more problems"] * (len(problems) > _LISTED)
        raise InputError("\n".join([*(_explain(path, problem) for problem in problems[:_LISTED]), *more])) from None


def _read(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a study file with what it extends."""
    if path.resolve() in seen:
        raise InputError(f"{path}: extends itself, by way of {', '.join(p.name for p in seen)}. Remove one `extends`.")
    try:
        data = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not valid YAML in UTF-8: {_of_yaml(error)}. Mend that line.") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected keys and values such as `name: virtual`, found {type(data).__name__}.")
    odd = [key for key in data if not isinstance(key, str)]
    if odd:
        raise InputError(f"{path}: key {shown(odd[0])} is no text; remove it.")
    if "file" in data:
        raise InputError(f"{path}: file: unknown key; remove it.")
    if "extends" not in data:
        return data
    base = data.pop("extends")
    if not isinstance(base, str):
        raise InputError(f"{path}: extends: expected the name of one study, found {shown(base)}. Change the value.")
    beside = path.parent / f"{base}.yml"
    return _merge(_read(beside if beside.is_file() else find(base), (*seen, path.resolve())), data)


def _of_yaml(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError):  # what comes after the problem is its line
        error.problem = cut(error.problem or "")
    return cut(str(error), _TOLD)


def _merge(base: dict[str, Any], over: dict[str, Any], whole: tuple[str, ...] = _WHOLE) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inner = isinstance(value, dict) and isinstance(base.get(key), dict) and key not in whole
        alike = inner and value.get("kind", base[key].get("kind")) == base[key].get("kind")
        merged[key] = _merge(base[key], value, whole) if alike else value
    return merged


def _check_shared(study: Study) -> None:
    """Refuse a study that uses bags made from other slides or in another way than it says itself."""
    path = find(study.file.parent / f"{study.bags}.yml")
    owner = _checked(path, _read(path))
    if owner.bags and owner.bags != owner.name:
        raise InputError(f"{study.file}: bags: {study.bags} uses those of {owner.bags}. Say `bags: {owner.bags}`.")
    for part in ("cohort", "markers", "tiles", "encoder"):
        ours, theirs = (s.model_dump(mode="json")[part] for s in (study, owner))
        if part == "markers":
            ours, theirs = list(ours), list(theirs)
        if ours != theirs:
            raise InputError(
                f"{study.file}: bags: {study.bags}, but `{part}` differs from {owner.file}. "
                f"Give it the same {part}, for example by `extends: {study.bags}`, or remove `bags`."
            )


def _explain(path: Path, problem: ErrorDetails) -> str:
    location = [cut(str(part)) for part in problem["loc"] if part not in ("virtual", "focal", "manifest", "[key]")]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        allowed = _allowed(location[:-1])
        hint = _nearest(location[-1], allowed)
        return f"{path}: {key}: unknown key{hint}. Allowed here: {', '.join(allowed)}."
    if problem["type"] == "union_tag_not_found":
        return f"{path}: {key}.kind: missing. Say `virtual` or `manifest`."
    if problem["type"] == "missing":
        return f"{path}: {key}: missing. Add this key."
    message = cut(problem["msg"].removeprefix("Value error, "), _TOLD)
    given = "" if isinstance(problem["input"], dict) else f" (found {shown(problem['input'])})"
    prefix = f"{key}: " if key else ""
    quotes = problem["type"] == "string_type" and not isinstance(problem["input"], dict | list | None)
    return f"{path}: {prefix}{message}{given}. {'Put it in quotes' if quotes else 'Change the value'}."


def _allowed(location: list[str]) -> list[str]:
    named: dict[str, type[Section]] = {"markers": Marker, "methods": Method}
    if not location:
        return ["extends", *(key for key in Study.model_fields if key != "file")]
    if location[0] in named:
        return list(named[location[0]].model_fields)
    if location[0] == "cohort":
        return sorted({*VirtualCohort.model_fields, *ManifestCohort.model_fields})
    if location[0] == "tuning":
        return list(Candidate.model_fields if "candidates" in location else Tuning.model_fields)
    section = Study.model_fields[location[0]].annotation
    return list(section.model_fields) if isinstance(section, type) and issubclass(section, Section) else []


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
