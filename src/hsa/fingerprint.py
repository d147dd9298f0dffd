"""What a result depends on, found by reading the code: the modules that make it, without comments and docstrings.

A file that carries another fingerprint than today's is out of date and is made again. What decides a number is the
code that makes it, its settings and its inputs. Settings and inputs are given here as values; the code is found by its
imports.
"""

import ast
import hashlib
import json
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from hsa.files import PACKAGE

# These carry files, settings and paths about. What of them enters a result is in its settings, so that an edit here
# makes nothing again.
_CARRIERS = ("hsa.study",)


def fingerprint(values: Any, *entries: str | Path, stop: Collection[str] = ()) -> str:
    """Reckon the fingerprint of a result.

    Args:
        values: settings and inputs: anything that JSON can hold.
        entries: modules whose functions make the result, such as `"hsa.training.fit"`, or a notebook.
        stop: modules that are other steps: their results come in as values, so their code is not looked at.

    Returns:
        16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode())
    for entry in entries:
        for module in sorted(closure(entry, frozenset(stop))):
            digest.update(f"{module} {_looked_into(module)[0]}".encode())
    return digest.hexdigest()[:16]


@cache
def closure(entry: str | Path, stop: frozenset[str] = frozenset()) -> frozenset[str]:
    """Find the modules of this package that an entry runs through: those it imports, in functions too, and so on.

    The ground of the package and the wing `study`, which every module stands on, are left out, as are imports for types
    alone.

    Args:
        entry: a module, which is itself part of what is found, or a notebook, which is not.
        stop: modules at which to stop.
    """
    found, waiting = set(), list(_imports(_cells(entry))) if isinstance(entry, Path) else [entry]
    while waiting:
        module = waiting.pop()
        if module in found or _carries(module) or (module in stop and module != entry):
            continue
        found.add(module)
        waiting += _looked_into(module)[1]
    return frozenset(found)


def _carries(module: str) -> bool:
    on_the_ground = module.count(".") < 2 and _file(module).parent == PACKAGE
    return on_the_ground or any(module == wing or module.startswith(f"{wing}.") for wing in _CARRIERS)


def _file(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _looked_into(module: str) -> tuple[str, frozenset[str]]:
    return _read(_file(module).read_text())


@cache
def _read(text: str) -> tuple[str, frozenset[str]]:
    """Digest of a module's code, and what it imports."""
    tree = ast.parse(text)
    return hashlib.sha256(_plain(tree).encode()).hexdigest(), frozenset(_imports(tree))


def _cells(notebook: Path) -> ast.Module:
    cells = json.loads(notebook.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    # Lines for IPython are no Python; none of them imports from this package.
    return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", "\n".join(code), flags=re.M))


def _imports(tree: ast.AST) -> set[str]:
    """Modules of this package that code imports when it runs, the packages that they lie in included."""
    found = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    found = {".".join(parts[:n]) for parts in (name.split(".") for name in found) for n in range(1, len(parts) + 1)}
    return {name for name in found if name.split(".")[0] == "hsa" and _file(name).is_file()}


def _plain(node: Any) -> str:
    """Write code as one line without comments, docstrings, places and `__all__`.

    Fields that are empty are left out, so that a Python with new ones writes the same.
    """
    if isinstance(node, list):
        return "[" + ",".join(map(_plain, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        fields["body"] = [one for k, one in enumerate(node.body) if not (k == 0 and _is_text(one)) and not _is_all(one)]
    told = {name: value for name, value in fields.items() if value is not None and value != [] and name != "kind"}
    return f"{type(node).__name__}({','.join(f'{name}={_plain(value)}' for name, value in sorted(told.items()))})"


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
