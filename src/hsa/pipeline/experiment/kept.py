"""What an experiment has found so far: small files in `book/reference/<study>/`, committed with the book.

`<point>/<marker>.parquet` holds a row for each test case, method and seed; `units.json` says of each unit with what
fingerprint, settings and code it was made, and what its folds chose. A unit that is there is not made again.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hsa import files
from hsa.errors import InputError

KEYS = ["marker", "method", "seed"]


@dataclass(frozen=True)
class Unit:
    """One method of one marker with one seed at one point.

    Attributes:
        point: name of the point, "middle" for the study itself.
        marker, method: as the study names them.
        seed: training seed.
    """

    point: str
    marker: str
    method: str
    seed: int

    @property
    def name(self) -> str:
        """Its key in units.json."""
        return f"{self.point}/{self.marker}/{self.method}/{self.seed}"


class Kept:
    """The kept results of one study; read it with `Kept(study.paths.kept)`.

    Attributes:
        folder: where they lie.
        units: name of a unit -> its record, which carries "fingerprint".
        tuned: "<marker>/<method>" -> the record of its tuning, which carries "fingerprint".
    """

    def __init__(self, folder: Path):
        self.folder = folder
        found = files.read_json(self._register) if self._register.is_file() else {}
        if not isinstance(found, dict) or not all(isinstance(found.get(key, {}), dict) for key in ("units", "tuned")):
            raise InputError(
                f"{self._register}: expected units and tuned; restore it with `git checkout`, or remove it."
            )
        self.units: dict[str, dict[str, Any]] = found.get("units", {})
        self.tuned: dict[str, dict[str, Any]] = found.get("tuned", {})

    @property
    def _register(self) -> Path:
        return self.folder / "units.json"

    def has(self, unit: Unit, fingerprint: str) -> bool:
        """Tell whether a unit is kept and was made by the same settings and code."""
        return self.units.get(unit.name, {}).get("fingerprint") == fingerprint

    def add(self, unit: Unit, cases: pd.DataFrame, record: Mapping[str, Any]) -> None:
        """Keep a unit, in place of what was kept of it: first its cases, then the record that vouches for them.

        Args:
            unit: which.
            cases: a row a test case (`hsa.training.trial.Outcome`).
            record: what units.json says of it, with "fingerprint".
        """
        path = self.folder / unit.point / f"{unit.marker}.parquet"
        own: dict[str, Any] = {"marker": unit.marker, "method": unit.method, "seed": unit.seed}
        rows = cases.assign(**own)
        if path.is_file():
            before = pd.read_parquet(path)
            same = np.logical_and.reduce([before[key] == value for key, value in own.items()])
            rows = pd.concat([before[~same], rows], ignore_index=True)
        numbers = rows.select_dtypes("float").columns
        rows = rows.astype(dict.fromkeys(numbers, np.float32)).sort_values(
            [*KEYS, "fold", "case_id"], ignore_index=True
        )
        files.write_frame(path, rows)
        self.units[unit.name] = dict(record)
        self._write()

    def tune(self, marker: str, method: str, record: Mapping[str, Any]) -> None:
        """Keep what was tuned for a method of a marker."""
        self.tuned[f"{marker}/{method}"] = dict(record)
        self._write()

    def cases(self, point: str) -> pd.DataFrame:
        """Read the cases of a point, of all its markers, methods and seeds; no rows where none is kept."""
        found = [pd.read_parquet(path) for path in sorted((self.folder / point).glob("*.parquet"))]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*KEYS, "case_id"])

    def folds(self) -> pd.DataFrame:
        """Lay out what the folds of every unit chose and measured: the fields of `Unit`, then those of the fold."""
        rows = []
        for name, record in self.units.items():
            point, marker, method, seed = name.rsplit("/", 3)
            unit = asdict(Unit(point, marker, method, int(seed)))
            rows += [unit | fold for fold in record["folds"]]
        return pd.DataFrame(rows)

    def _write(self) -> None:
        ordered = {"tuned": dict(sorted(self.tuned.items())), "units": dict(sorted(self.units.items()))}
        files.write_json(self._register, ordered)
