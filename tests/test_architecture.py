"""The house keeps its order: imports run downward, private names stay home, the door is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "chunk_memo"
HOME = Path(__file__).parent.parent / PACKAGE

# From the bottom up. What stands on one line may not import each other, save inside one folder.
STOREYS: tuple[tuple[str, ...], ...] = (
    ("doors", "errors"),
    ("events", "options", "plainjson", "travel"),
    ("identity.grammar",),
    ("identity.graph", "identity.project", "identity.syntax", "identity.walk"),
    ("identity.arrays", "identity.containers", "identity.instances", "identity.names"),
    ("identity.source",),
    ("identity.classes", "identity.parts", "identity.watch"),
    ("identity.reach",),
    ("identity.tables", "identity.functions", "identity.rebuilding"),
    ("identity.canonical",),
    ("identity.decoding", "identity.digests"),
    ("identity.jsonable",),
    ("identity",),
    ("provenance", "runparams"),
    ("runs",),
    ("keys",),
    ("grid",),
    ("naming", "selection"),
    ("plan",),
    ("disk.filters",),
    ("disk.files", "disk.hdf5image", "disk.columns", "disk.mounts"),
    ("disk.chunkfile", "disk.signing", "disk.array_columns", "disk.classes", "disk.converters"),
    ("disk.batches", "disk.container_columns", "disk.frames_encoding", "disk.leases", "disk.sealing"),
    ("disk.records",),
    ("disk.encoding", "disk.layouts", "disk.results", "disk.runimport", "disk.runindex"),
    ("dataframes",),
    ("placing",),
    ("outputs",),
    ("blockfile",),
    ("chunks",),
    ("binning", "catalog", "items", "status", "tasks"),
    ("regions",),
    ("layers",),
    ("failures",),
    ("ledger",),
    ("scattered",),
    ("cleaning", "planning", "points", "reading", "survey", "verification", "writing"),
    ("doctor", "merging", "runwork"),
    ("runqueue",),
    ("cache", "store"),
    ("discovery", "protocol", "upkeep", "work"),
    ("maps.base",),
    ("maps",),
    ("queueing",),
    ("engine",),
    ("overrides", "runners"),
    ("parallel", "results"),
    ("cases",),
    ("versions",),
    ("lineage",),
    ("decorated", "sweeps"),
    ("memo",),
    ("tables", "lab", "display"),
    ("cli",),
)
FRONT_DOOR = len(STOREYS)
"""``chunk_memo`` itself may import everything, and nothing inside imports it."""

TALL = {"disk", "identity"}
"""Folders with storeys of their own; the modules of others may import each other."""

HEAVY = {
    "click",
    "dask",
    "distributed",
    "duckdb",
    "h5py",
    "joblib",
    "matplotlib",
    "netCDF4",
    "pandas",
    "polars",
    "pyarrow",
    "ray",
    "sqlalchemy",
    "tqdm",
    "xarray",
}


def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of each module, by its name inside the package ("" is the door)."""
    found = {}
    for path in sorted(HOME.rglob("*.py")):
        parts = path.relative_to(HOME).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return found


def storey(name: str) -> int | None:
    """Return the storey of a module, or None for one that has no place in the house."""
    if name == "":
        return FRONT_DOOR
    if name == "disk":
        return storey("disk.files")
    for number, rooms in enumerate(STOREYS):
        if any(name == room or name.startswith(room + ".") for room in rooms):
            return number
    return None


def at_import_time(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from at_import_time(ast.Module(body=child.orelse, type_ignores=[]))
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from at_import_time(child)


def targets(
    statement: ast.Import | ast.ImportFrom, known: set[str], importer: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield (module inside the package, imported name or "") for what a statement imports."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            if alias.name.split(".")[0] == PACKAGE:
                yield alias.name[len(PACKAGE) + 1 :], ""
        return
    base = statement.module or ""
    if statement.level:
        raise AssertionError(f'relative import in "{importer}": name modules in full')
    if base.split(".")[0] != PACKAGE:
        return
    inside = base[len(PACKAGE) + 1 :]
    for alias in statement.names:
        child = f"{inside}.{alias.name}".lstrip(".")
        yield (child, "") if child in known else (inside, alias.name)


def upward(trees: dict[str, ast.Module]) -> list[str]:
    """Return the imports that do not run downward."""
    wrong = []
    for name, tree in trees.items():
        for statement in at_import_time(tree):
            for target, _ in targets(statement, set(trees), name):
                above, below = storey(name), storey(target)
                folder = name.split(".")[0]
                neighbours = "." in name and folder == target.split(".")[0] and folder not in TALL
                if above is None or below is None or (above <= below and not neighbours):
                    wrong.append(f"{name} imports {target or PACKAGE} (line {statement.lineno})")
    return wrong


def trespasses(trees: dict[str, ast.Module]) -> list[str]:
    """Return the uses of private names of another module, wherever in a file they stand."""
    wrong = []
    for name, tree in trees.items():
        borrowed: dict[str, str] = {}  # the names by which this module knows other modules
        for node in ast.walk(tree):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            for target, imported in targets(node, set(trees), name):
                if any(is_private(part) for part in [*target.split("."), imported]):
                    wrong.append(f"{name} imports {target}:{imported} (line {node.lineno})")
                if imported == "":
                    borrowed |= {alias.asname or alias.name: target for alias in node.names}
        wrong += [
            f"{name} uses {ast.unparse(node)} (line {node.lineno})"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and is_private(node.attr)
            if ast.unparse(node.value) in borrowed
        ]
    return wrong


def is_private(name: str) -> bool:
    """Return whether a name is private: one leading underscore, and no dunder."""
    return name.startswith("_") and not name.endswith("__")


def planted(**sources: str) -> dict[str, ast.Module]:
    """Return trees of made-up modules; ``__`` in a keyword stands for a dot."""
    return {name.replace("__", "."): ast.parse(source) for name, source in sources.items()}


def test_every_module_has_its_place() -> None:
    """A module that the house does not know is noticed."""
    assert [] == [name for name in modules() if storey(name) is None]


def test_imports_run_downward() -> None:
    """No module imports, at the top of its file, from its own storey or from above."""
    assert [] == upward(modules())


def test_there_is_no_circle() -> None:
    """The imports at the top of the files can be put in one order."""
    trees = modules()
    graph = {
        name: {
            target
            for statement in at_import_time(tree)
            for target, _ in targets(statement, set(trees), name)
            if target != name
        }
        for name, tree in trees.items()
    }
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {error.args[1]}")
    assert set(trees) <= set(order)


def test_private_names_stay_at_home() -> None:
    """No module imports or reaches for a name of another that begins with an underscore."""
    assert [] == trespasses(modules())


@pytest.mark.parametrize(
    ("trees", "expected"),
    [
        (planted(grid="from chunk_memo.cache import X", cache=""), 1),
        (planted(cache="import chunk_memo.store", store=""), 1),
        (planted(disk__files="from chunk_memo.disk import layouts", disk__layouts=""), 1),
        (planted(identity__walk="import chunk_memo.identity.tables", identity__tables=""), 1),
        (planted(identity__walk="from chunk_memo.identity import digest", identity=""), 1),
        (planted(cache="try:\n    import chunk_memo.memo\nexcept ImportError: ...", memo=""), 1),
        (planted(grid="from chunk_memo import ChunkMemo"), 1),
        (planted(attic="", grid="import chunk_memo.attic"), 1),
        (planted(cache="from chunk_memo.grid import Axis", grid=""), 0),
        (planted(maps__dask="from chunk_memo.maps.threads import f", maps__threads=""), 0),
        (planted(cache="def f():\n    import chunk_memo.tables.frames", tables__frames=""), 0),
        (
            planted(
                grid="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from chunk_memo.cache import X",
                cache="",
            ),
            0,
        ),
    ],
)
def test_an_upward_import_would_be_seen(trees: dict[str, ast.Module], expected: int) -> None:
    """The checker finds planted upward imports, and lets the permitted ones pass."""
    assert expected == len(upward(trees))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from chunk_memo.grid import _cut", 1),
        ("from chunk_memo import grid\ngrid._cut()", 1),
        ("import chunk_memo.grid as g\ndef f():\n    return g._cut", 1),
        ("def f():\n    from chunk_memo.grid import _cut", 1),
        ("from chunk_memo.grid import Grid\nclass A:\n    def f(self):\n        self._x", 0),
        ("from chunk_memo import __version__", 0),
    ],
)
def test_a_trespass_would_be_seen(source: str, expected: int) -> None:
    """The checker finds planted uses of private names, and no others."""
    assert expected == len(trespasses(planted(cache=source, grid="")))


def test_the_front_door_is_light() -> None:
    """``import chunk_memo`` loads none of the heavy packages."""
    code = f"import sys, chunk_memo; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "[]\n" == done.stdout
