"""Files that are either whole or absent, and tables of the user."""

import csv
import io
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # half a second, which `hsa --help` need not wait for
    import pandas as pd

from hsa.errors import InputError

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parents[1]  # of an editable install: holds notebooks/, book/, studies/

LEFT_OVER = 86_400.0  # seconds after which nobody writes a temporary file any more
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp(\.\w+)?")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` if the block succeeds, else remove it.

    A reader therefore never sees a half-written file, whenever the writer dies.

    Args:
        path: the file to write. Missing parent folders are made.

    Yields:
        The temporary path, with the suffix of `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed left in a folder: temporary files that nobody has touched for a day."""
    for path in folder.glob(".*.tmp*"):
        with suppress(OSError):
            if _TEMPORARY.fullmatch(path.name) and time.time() - path.stat().st_mtime > LEFT_OVER:
                path.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_json(path: str | Path, data: Any) -> None:
    """Write JSON with sorted keys, whole or not at all, so that equal data give equal bytes."""
    write_text(path, json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: it holds something else.
    """
    try:
        return json.loads(Path(path).read_text())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}): delete it, then make or download it again") from error


def write_frame(path: str | Path, frame: "pd.DataFrame") -> None:
    """Write a frame as CSV or Parquet, by the suffix of `path`, whole or not at all."""
    with replacing(path) as temporary:
        if temporary.suffix == ".parquet":
            # Half the size: the bytes of a number are kept apart, as those of its exponent resemble their neighbours.
            floats = [name for name, kind in frame.dtypes.items() if kind.kind == "f"]
            others = [name for name in frame if name not in floats]
            frame.to_parquet(
                temporary, index=False, compression="zstd", use_dictionary=others, use_byte_stream_split=floats
            )
        else:
            frame.to_csv(temporary, index=False)


def read_rows(path: str | Path) -> "pd.DataFrame":
    """Read a CSV as text, trimmed, its cells parted by commas or semicolons.

    What a spreadsheet leaves around a table, empty rows and columns, is left out.

    Returns:
        A row a row; the index is its number in a spreadsheet, where the header is row 1.

    Raises:
        InputError: not text in UTF-8, not a CSV, a column that stands twice or has no name, or a row
            with more or fewer cells than the header.
    """
    import pandas as pd

    data = Path(path).read_bytes()
    remedy = "Save it as comma-separated UTF-8."
    if b"\0" in data or data.startswith(b"PK\x03\x04"):
        raise InputError(f"{path}: no text, but a workbook or UTF-16. {remedy}")
    rows: list[list[str]] = []
    try:
        # A mark of the byte order stands within, too, where files were written one after another.
        text = data.decode("utf-8").replace("\ufeff", "")
        if found := re.match(r"\s*([<{\[])", text):
            what = {"<": "a web page or XML", "{": "JSON", "[": "JSON"}[found[1]]
            raise InputError(f"{path}: no table, but {what}. {remedy}")
        first = text.partition("\n")[0]
        if found := re.match(r'#|"?sep=."?\s*$', first, re.IGNORECASE):
            what = "a comment" if found[0].startswith("#") else "a line that only Excel reads"
            raise InputError(f"{path}: row 1, {first.strip()[:40]!r}, is {what}. Remove it; row 1 names the columns.")
        sign = ";" if ";" in first and "," not in first else ","  # so spreadsheets of many countries write it
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=sign, skipinitialspace=True, strict=True)
        for row in lines:
            rows.append([cell.strip() for cell in row])
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: not a readable CSV: line {line} is not UTF-8 ({error}). {remedy}") from error
    except csv.Error as error:
        what = f"row {len(rows) + 1}: {error}: a quote that is opened is to be closed"
        raise InputError(f"{path}: not a readable CSV: {what}. {remedy}") from error
    if not rows or not any(rows[0]):
        raise InputError(f"{path}: not a readable CSV: its first row is empty and names no column. {remedy}")
    width = max(k for k, cell in enumerate(rows[0], 1) if cell)
    header = rows[0][:width]
    problems = [f"column {name!r} stands twice. Remove one." for name in sorted(set(header)) if header.count(name) > 1]
    for k in (k for k, name in enumerate(header, 1) if not name):
        index = " pandas writes its row numbers so: use `to_csv(index=False)`." if k == 1 else ""
        problems.append(f"column {k} has no name. Name or remove it.{index}")
    if width == 1 and any(mark in header[0] for mark in "\t=|"):
        problems.append(f"its first row is one column, {header[0]!r}. {remedy}")
    kept = {number: row for number, row in enumerate(rows[1:], 2) if any(row)}
    for number, row in kept.items():
        if row[0].startswith("#") and len(row) != width:
            problems.append(f"row {number}: {','.join(row)[:40]!r} is a comment. Remove it.")
        elif len(row) < width or any(row[width:]):
            problems.append(
                f"row {number}: {len(row)} cells, the header has {width}. A cell that holds a {sign!r} needs quotes; "
                "write 0.5 with a point."
            )
    if problems:
        more = [f"and {len(problems) - 20} more problems"] * (len(problems) > 20)
        raise InputError("\n".join(f"{path}: {problem}" for problem in problems[:20] + more))
    return pd.DataFrame([row[:width] for row in kept.values()], columns=header, index=list(kept), dtype=object)
