"""The points of a cache as a tidy table: every kind of output, what is missing, one schema, box by box."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from chunk_memo import ChunkCache, ColumnTypeError, SpecError, run
from chunk_memo.tables import tidy_batches, tidy_reader, tidy_schema, tidy_table
from chunk_memo.tables.arrow import cast, from_array, from_values, unite
from chunk_memo.tables.tidy import Tidy

S, T = [3, 1, 2, 7, 5], ["b", "a", "c"]


def made(
    folder: Path,
    function: Callable[..., Any],
    *,
    s: Any = None,
    params: dict[str, Any] | None = None,
    spec: dict[str, int] | None = None,
    **options: Any,
) -> ChunkCache:
    """Return a cache over s and t, computed at all of it or at some values of s."""
    cache = ChunkCache(
        folder,
        "demo",
        {"params": {"alpha": 0.5} if params is None else params},
        chunk_spec=spec or {"s": 2, "t": 2},
        axis_values={"s": S, "t": T},
        verbose=0,
        **options,
    )
    run(cache if s is None else cache.slice(s=s), function)
    return cache


def grid(s: list[int], t: list[str]) -> Any:
    """Return an array over the block."""
    return np.add.outer(np.array(s) * 100.0, [float(ord(x)) for x in t])


def flat(s: list[int], t: list[str]) -> Any:
    """Return an array of one row per point."""
    return grid(s, t).reshape(-1)


def listed(s: list[int], t: list[str]) -> Any:
    """Return a list of numbers."""
    return [100.0 * a + ord(b) for a in s for b in t]


def columns(s: list[int], t: list[str]) -> Any:
    """Return a dict of arrays."""
    return {"value": grid(s, t)}


def records(s: list[int], t: list[str]) -> Any:
    """Return a list of dictionaries that carry their coordinates."""
    return [{"s": a, "t": b, "value": 100.0 * a + ord(b)} for a in s for b in t]


def frame(s: list[int], t: list[str]) -> Any:
    """Return a DataFrame."""
    return pd.DataFrame({"value": flat(s, t)})


def polars_frame(s: list[int], t: list[str]) -> Any:
    """Return a DataFrame of polars."""
    return pl.DataFrame({"value": flat(s, t)})


KINDS = [grid, flat, listed, columns, records, frame, polars_frame]


@pytest.mark.parametrize("function", KINDS)
def test_every_kind_of_output_makes_the_same_table(function: Callable[..., Any], tmp_path: Path) -> None:
    """Params, axes and outputs are columns, one row per point, whatever form the function returned."""
    table = tidy_table(made(tmp_path, function))
    assert ["alpha", "s", "t", "value"] == table.column_names
    expected = {(0.5, a, b, 100.0 * a + ord(b)) for a in S for b in T}
    assert expected == {tuple(row.values()) for row in table.to_pylist()}
    assert len(S) * len(T) == table.num_rows


def test_single_values_and_whole_pieces(tmp_path: Path) -> None:
    """Functions of single values have a row per point; one piece per call stands at each of its points."""
    points = made(tmp_path / "a", lambda s, t: f"{s}{t}", vectorize=True)
    assert {f"{a}{b}" for a in S for b in T} == set(tidy_table(points)["value"].to_pylist())
    pieces = tidy_table(made(tmp_path / "b", lambda s, t: {"sizes": [len(s), len(t)], "at": s[0]}))
    assert len(S) * len(T) == pieces.num_rows
    rows = {(row["s"], row["t"]): row["sizes"] for row in pieces.to_pylist()}
    assert ([2, 2], [1, 1]) == (rows[3, "b"], rows[5, "c"])


class Colour(enum.Enum):
    """A class of a user's."""

    RED = "red"


@dataclass(frozen=True)
class Fit:
    """A class of a user's."""

    beta: float
    steps: int


def test_types_survive(tmp_path: Path) -> None:
    """Strings, times, bools, complex numbers, arrays and nested dictionaries have Arrow's own types."""
    when = datetime.datetime(2024, 5, 6, 7, 8, 9, 123456)

    def everything(s: list[int], t: list[str]) -> Any:
        return [
            {
                "text": "é" * a,
                "flag": a > 2,
                "count": a,
                "narrow": np.float32(a),
                "z": complex(a, 1),
                "when": when,
                "day": when.date(),
                "took": datetime.timedelta(seconds=a),
                "array": np.arange(a, dtype="int16"),
                "matrix": np.ones((2, 3)),
                "nested": {"deep": {"er": a}},
                "none": None,
                "colour": Colour.RED,
                "fit": Fit(0.5, a),
                "tuple": (1, 2),
                "raw": b"\0\1",
                "money": decimal.Decimal("1.50"),
                "large": 2**70,
            }
            for a in s
            for _ in t
        ]

    table = tidy_table(made(tmp_path, everything))
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    expected = {
        "alpha": "double",
        "s": "int64",
        "t": "string",
        "text": "string",
        "flag": "bool",
        "count": "int64",
        "narrow": "float",
        "z": "struct<real: double, imag: double>",
        "when": "timestamp[us]",
        "day": "date32[day]",
        "took": "duration[us]",
        "array": "list<item: int16>",
        "matrix": "list<item: list<item: double>>",
        "nested.deep.er": "int64",
        "none": "null",
        "colour": "string",
        "fit.beta": "double",
        "fit.steps": "int64",
        "tuple": "list<item: int64>",
        "raw": "binary",
        "money": "decimal128(3, 2)",
        "large": "decimal128(38, 0)",
    }
    assert expected == types
    row = next(row for row in table.to_pylist() if row["s"] == 3)
    assert ("ééé", True, {"real": 3.0, "imag": 1.0}, when) == (row["text"], row["flag"], row["z"], row["when"])
    assert ([0, 1, 2], [[1.0] * 3] * 2, 2**70) == (row["array"], row["matrix"], int(row["large"]))


def test_points_without_outputs_are_left_out_or_marked(tmp_path: Path) -> None:
    """Missing and failed points have no row; marked, they have one of nulls that says which it is."""

    def inverse(s: int, t: str) -> float:
        return 1 / (s - 1)

    with warnings.catch_warnings(action="ignore"):
        cache = ChunkCache(
            tmp_path, "demo", chunk_spec={"s": 2}, axis_values={"s": S, "t": T}, vectorize=True, verbose=0
        )
        run(cache.slice(s=[1, 7]), inverse, on_error="record")
    assert [(7, x, 1 / 6) for x in T] == [tuple(row.values()) for row in tidy_table(cache).to_pylist()]
    marked = tidy_table(cache, missing="mark").to_pylist()
    states = {row["s"]: row["point_state"] for row in marked}
    assert {3: "missing", 1: "failed", 2: "missing", 7: "stored", 5: "missing"} == states
    assert len(S) * len(T) == len(marked)
    assert {None} == {row["value"] for row in marked if row["s"] != 7}


def test_a_slice_is_a_table_of_its_own(tmp_path: Path) -> None:
    """A slice has the rows of its points, once each, in the order sliced."""
    part = made(tmp_path, grid).slice(s=[7, 3, 7], t="a")
    assert [7, 3] == tidy_table(part)["s"].to_pylist()


def test_looking_changes_nothing(tmp_path: Path) -> None:
    """A table of a cache whose declared values are new writes no file, and has no row for them."""
    made(tmp_path, grid, s=[3, 1])
    before = sorted(tmp_path.rglob("*"))
    wider = ChunkCache(tmp_path, "demo", axis_values={"s": [0, 3, 1, 9], "t": [*T, "z"]}, verbose=0)
    assert {3, 1} == set(tidy_table(wider)["s"].to_pylist())
    assert before == sorted(tmp_path.rglob("*"))


def test_one_schema_for_all_batches(tmp_path: Path) -> None:
    """Chunks of ints, floats and other keys share a schema that is known before the first row."""

    def uneven(s: list[int], t: list[str]) -> Any:
        return [{"v": a if a < 3 else a / 2, **({"extra": "x"} if a > 4 else {})} for a in s for _ in t]

    cache = made(tmp_path, uneven, spec={"s": 1, "t": 3})
    schema = tidy_schema(cache)
    assert {"v": "double", "extra": "string"} == {name: str(schema.field(name).type) for name in ("v", "extra")}
    tidy = Tidy(cache)
    batches = [tidy.read(box) for box in tidy.boxes(3)]
    assert len(S) == len(batches)
    assert {schema} == {batch.schema for batch in batches}
    assert {3: 1.5, 1: 1.0, 2: 2.0, 7: 3.5, 5: 2.5} == {
        row["s"]: row["v"] for batch in batches for row in batch.to_pylist()
    }


def test_batches_are_read_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first batch of a stream reads its own two chunks only."""
    cache = made(tmp_path, grid)
    read: list[int] = []
    whole = ChunkCache.read

    def counted(self: ChunkCache, selection: Any, *rest: Any, **more: Any) -> Any:
        read.append(selection.points)
        return whole(self, selection, *rest, **more)

    monkeypatch.setattr(ChunkCache, "read", counted)
    monkeypatch.setattr("chunk_memo.tables.tidy.Tidy.boxes", _small(Tidy.boxes))
    stream = tidy_batches(cache)
    next(stream)
    assert 6 == sum(read)
    assert len(S) * len(T) - 6 == sum(batch.num_rows for batch in stream)


def _small(boxes: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self: boxes(self, 4)


@pytest.mark.parametrize("most", [1, 2, 5, 6, 7, 100])
def test_boxes_cover_each_chunk_once(most: int, tmp_path: Path) -> None:
    """Whatever the size of boxes, each point has one row."""
    tidy = Tidy(made(tmp_path, grid, s=[3, 1, 7]))
    rows = [row for box in tidy.boxes(most) for row in tidy.read(box).to_pylist()]
    assert sorted((a, b) for a in (3, 1, 7) for b in T) == sorted((row["s"], row["t"]) for row in rows)


def test_chosen_columns_and_readers(tmp_path: Path) -> None:
    """Columns come in the order asked for; a stream is what Arrow takes; an unknown name is an error."""
    cache = made(tmp_path, grid)
    assert ["value", "s"] == tidy_reader(cache, ["value", "s"]).read_all().column_names
    with pytest.raises(SpecError, match=r"no column 'loss'; the columns are \['alpha', 's', 't', 'value'\]"):
        tidy_table(cache, ["loss"])
    with pytest.raises(SpecError, match="missing must be 'omit' or 'mark', got 'keep'"):
        tidy_table(cache, missing="keep")


def test_names_that_clash_stay_apart(tmp_path: Path) -> None:
    """An output of a param's name is ``output.name``; nested params are columns, too."""
    params = {"alpha": 0.5, "model": {"depth": 3}}
    table = tidy_table(made(tmp_path, lambda s, t: {"alpha": grid(s, t)}, params=params))
    assert ["alpha", "model.depth", "s", "t", "output.alpha"] == table.column_names


def test_a_cache_without_axes_and_an_empty_one(tmp_path: Path) -> None:
    """A cache without axes is one row; where nothing is stored there are columns and no rows."""
    cache = ChunkCache(tmp_path, "single", {"params": {"a": 1}}, axis_values={}, verbose=0)
    run(cache, lambda: np.float64(2.5))
    assert [{"a": 1, "value": 2.5}] == tidy_table(cache).to_pylist()
    empty = ChunkCache(tmp_path, "none", {"params": {"a": 1}}, axis_values={"s": [1]}, verbose=0)
    assert (["a", "s"], 0) == (tidy_table(empty).column_names, tidy_table(empty).num_rows)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2.5], pa.array([1.0, 2.5])),
        ([1, "a", None], pa.array(["1", "a", None])),
        ([True, 1], pa.array(["True", "1"])),
        ([[1, "a"], None, []], pa.array([["1", "a"], None, []])),
        ([2**80, None], pa.array([decimal.Decimal(2**80), None], pa.decimal128(38, 0))),
        (["\ud800"], pa.array(["\\ud800"])),
        ([{3, 1}], pa.array([[1, 3]])),
    ],
)
def test_every_value_finds_a_form(values: list[Any], expected: Any) -> None:
    """Values of several kinds become one kind that holds them all, text at last."""
    assert expected == from_values(values)


def test_types_are_united_and_cast() -> None:
    """Types unite to one that holds both; a cast to one that does not is an error that names the column."""
    assert pa.list_(pa.float64()) == unite(pa.list_(pa.int8()), pa.list_(pa.float64()))
    assert math.isclose(0.5, from_array(np.array([0.5], "<f2"))[0].as_py())
    with pytest.raises(ColumnTypeError, match="column 'loss' holds string here and double"):
        cast(pa.array(["a"]), pa.float64(), "loss")
