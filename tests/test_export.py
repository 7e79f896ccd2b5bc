"""Exports: every kind of results, standard JSON, safe CSV, whole files; nothing that was computed is lost."""

from __future__ import annotations

import csv
import json
import math
import os
import pickle
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chunk_memo.tables
from chunk_memo import ChunkMemo
from chunk_memo.disk import files
from chunk_memo.errors import ChunkFormatError, EncodingError, SpecError, UntrustedPickleError
from chunk_memo.plainjson import NumpyEncoder, plain, unmarked
from chunk_memo.tables import (
    export_all_formats,
    export_results_csv,
    export_results_json,
    export_results_pickle,
    export_summary_statistics,
    load_results_json,
    load_results_pickle,
)
from chunk_memo.tables.export import rows_of

Pair = namedtuple("Pair", "x y")


@dataclass
class Outcome:
    """A result with names."""

    loss: float
    steps: int


# --- what results may be -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "results",
    [
        [{"loss": 0.5, "steps": 3}],
        ({"loss": 0.5, "steps": 3},),
        iter([{"loss": 0.5, "steps": 3}]),
        [Outcome(0.5, 3)],
        pd.DataFrame({"loss": [0.5], "steps": [3]}),
        pd.DataFrame({"loss": [0.5], "steps": [3]}, index=[17]),
    ],
)
def test_results_are_rows(results: Any) -> None:
    """Lists, tuples, iterators, dataclasses and frames."""
    assert [{"loss": 0.5, "steps": 3}] == rows_of(results)


def test_the_labels_of_rows_become_columns() -> None:
    """A pandas index that says something is not lost."""
    assert [{"run": "a", "loss": 0.5}] == rows_of(pd.DataFrame({"loss": [0.5]}, pd.Index(["a"], name="run")))
    assert [{"x": 1, "y": 2}] == rows_of([Pair(1, 2)])


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ({"a": [1, 2]}, r"pass \[results\]"),
        ([1.5], r"'results\[0\]': expected a dict.*float 1.5"),
        ("text", "got str"),
        (None, "got NoneType"),
    ],
)
def test_what_are_no_results(results: Any, said: str) -> None:
    """It is a TypeError that says what was expected, and the way out."""
    with pytest.raises(TypeError, match=said):
        rows_of(results)


def test_a_cache_is_its_stored_points(tmp_path: Path) -> None:
    """Of any kind of output, in the order of its axes, without computing; slices, too."""
    memo = ChunkMemo(tmp_path, {"s": 2, "t": 1}, {"s": [1, 2, 3], "t": ["x", "y"]}, verbose=0)

    @memo.cache(version="1")
    def records(s: list[int], t: list[str], k: int = 10) -> Any:
        return [{"value": k * a, "text": b} for a in s for b in t]

    @memo.cache(version="1")
    def grids(s: list[int], t: list[str], k: int = 10) -> Any:
        return np.multiply.outer(np.array(s) * k, np.ones(len(t), int))

    for function in (records, grids):
        function(s=[3, 2], t="y")
        function(s=1, t="x")
    expected = [(1, "x", 10), (2, "y", 20), (3, "y", 30)]
    cache = records.cache_for(k=10)
    assert [{"s": s, "t": t, "value": v, "text": t} for s, t, v in expected] == rows_of(cache)
    assert [{"s": 3, "t": "y", "value": 30, "text": "y"}] == rows_of(cache.slice(s=3))
    assert [{"s": s, "t": t, "output": v} for s, t, v in expected] == rows_of(grids.cache_for(k=10))
    assert [] == rows_of(records.cache_for(k=11))

    records.invalidate(s=2)
    assert [1, 3] == [row["s"] for row in rows_of(records.cache_for(k=10))]
    written = export_all_formats(grids.cache_for(k=10), tmp_path / "out", "grid")
    assert "output,s,t\n10,1,x\n20,2,y\n30,3,y\n" == written["csv"].read_text()


def test_a_store_is_its_records(tmp_path: Path) -> None:
    """Parameters and metadata become columns."""
    store_module = pytest.importorskip("chunk_memo.store", reason="the store comes with part 6")
    store = store_module.Store(tmp_path / "results", tmp_path / "index.db")
    store.run_or_retrieve({"beta": 2.0}, lambda params, path: Path(path).write_text("x"), git_sha="abc")
    [row] = rows_of(store)
    assert ({"beta": 2.0}, "abc") == (row["params"], row["metadata"]["git_sha"])
    header = export_results_csv(store, tmp_path / "r.csv").read_text().splitlines()[0].split(",")
    assert {"params.beta", "metadata.git_sha", "params_hash", "result_path"} <= set(header)


# --- JSON --------------------------------------------------------------------------------------------------


def test_json_is_standard(tmp_path: Path) -> None:
    """NaN and the infinities are null; or marks, from which the loader makes them again."""
    values = [math.nan, math.inf, -math.inf, np.float32("nan"), "@nan", "@@inf", "@nancy"]
    path = export_results_json([{"v": values, "a": np.array([1.0, math.nan])}], tmp_path / "r.json")
    found = json.loads(path.read_text(), parse_constant=pytest.fail)["results"][0]
    assert ([None, None, None, None, "@nan", "@@inf", "@nancy"], [1.0, None]) == (found["v"], found["a"])
    assert "@nan" == load_results_json(path)["results"][0]["v"][4]

    export_results_json([{"v": values}], path, non_finite="mark")
    json.loads(path.read_text(), parse_constant=pytest.fail)
    back = load_results_json(path)["results"][0]["v"]
    assert [repr(float(v)) if isinstance(v, np.floating) else repr(v) for v in values] == [repr(v) for v in back]
    with pytest.raises(SpecError, match="'non_finite': expected one of"):
        export_results_json([], path, non_finite="zero")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=60)
@given(json_values)
def test_what_json_can_say_comes_back(value: Any) -> None:
    """With marks exactly; and what is written is always standard JSON."""
    text = json.dumps(plain(value, non_finite="mark"), allow_nan=False)
    assert repr(value) == repr(unmarked(json.loads(text)))
    json.loads(json.dumps(value, cls=NumpyEncoder), parse_constant=pytest.fail)


def test_text_is_readable(tmp_path: Path) -> None:
    """Letters of all scripts as they are; half a surrogate pair, which UTF-8 cannot say, as an escape."""
    path = export_results_json([{"name": "Müller 漢"}], tmp_path / "r.json")
    assert "Müller 漢" in path.read_text(encoding="utf-8")
    export_results_json([{"name": "\ud800"}], path)
    assert "\ud800" == load_results_json(path)["results"][0]["name"]


def test_json_names_what_it_cannot_say(tmp_path: Path) -> None:
    """By its place; and two keys that would become one; and what holds itself. No file is left."""
    holds_itself: list[Any] = []
    holds_itself.append(holds_itself)
    cases: list[tuple[Any, type[Exception], str]] = [
        ({"fit": [object()]}, TypeError, r"\['results'\]\[0\]\['fit'\]\[0\].*builtins.object"),
        ({1: "a", "1": "b"}, ValueError, "two of its keys would both be '1'"),
        ({"a": holds_itself}, ValueError, "does it hold itself"),
    ]
    for result, kind, said in cases:
        with pytest.raises(kind, match=said):
            export_results_json([result], tmp_path / "r.json")
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"results": 5}', '{"results": [', "[" * 100_000])
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    """With a clear error."""
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ChunkFormatError, match=r"r\.json': expected"):
        load_results_json(tmp_path / "r.json")


# --- CSV ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-x", "@SUM(A1)", "\tx", "\rx", "＝1", "=HYPERLINK('x')"])
def test_formulas_are_quoted(tmp_path: Path, text: str) -> None:
    """In cells, in nested ones and in the header; not where one asks for it."""
    path = export_results_csv([{"a": text, text: 1, "n": {"b": text}}], tmp_path / "r.csv")
    with path.open(newline="") as file:
        header, cells = csv.reader(file)
    assert ["'" + text] * 2 == [cell for cell in cells if cell != "1"]
    assert "'" + text in header
    with export_results_csv([{"a": text}], path, quote_formulas=False).open(newline="") as file:
        assert [["a"], [text]] == list(csv.reader(file))


def test_numbers_are_no_formulas(tmp_path: Path) -> None:
    """Negative numbers stay numbers, as numbers and as text; floats as short as they are exact."""
    row = {"a": -0.5, "b": np.float32(0.1), "c": "-5.5e-3", "d": np.int8(-3), "e": 0.1 + 0.2, "f": -math.inf}
    path = export_results_csv([row], tmp_path / "r.csv")
    assert "-0.5,0.1,-5.5e-3,-3,0.30000000000000004,-inf" == path.read_text().splitlines()[1]


def test_cells_with_separators_survive(tmp_path: Path) -> None:
    """Commas, quotes, line breaks; what is no text is JSON; an empty column name and an empty dict, too."""
    row = {"a": 'x,"y"\nz', "b": [1, None], "c": {}, "": True, "d": Path("p"), "e": {"f": {"g": (1, 2)}}}
    path = export_results_csv([row], tmp_path / "r.csv")
    with path.open(newline="") as file:
        header, cells = csv.reader(file)
    assert ["", "a", "b", "c", "d", "e.f.g"] == header
    assert ["True", 'x,"y"\nz', "[1, null]", "{}", "p", "[1, 2]"] == cells
    with export_results_csv([{"e": {"f": 1}}], path, flatten_nested=False).open(newline="") as file:
        assert [["e"], ['{"f": 1}']] == list(csv.reader(file))


def test_columns_that_would_be_one_are_an_error(tmp_path: Path) -> None:
    """A value that is overwritten by another of its name is lost."""
    with pytest.raises(SpecError, match=r"both be the column 'a\.b'"):
        export_results_csv([{"a": {"b": 1}, "a.b": 2}], tmp_path / "r.csv")


def test_no_results_make_an_empty_file(tmp_path: Path) -> None:
    """Without a header, but for a frame that has columns."""
    assert "" == export_results_csv([], tmp_path / "r.csv").read_text()
    assert "a,b\n" == export_results_csv(pd.DataFrame({"b": [], "a": []}), tmp_path / "r.csv").read_text()


# --- summary -----------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(st.none() | st.floats(allow_infinity=False, min_value=-1e100, max_value=1e100), min_size=1))
def test_the_summary_is_that_of_the_values_that_are_there(values: list[float | None]) -> None:
    """Mean, population std, min, max and median, as NumPy has them; a field without numbers is left out."""
    there = [value for value in values if value is not None and not math.isnan(value)]
    rows = [{"x": value} for value in values]
    written: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "save", lambda path, buffers: written.extend(buffers))
        export_summary_statistics(rows, "unwritten.json")
    found = json.loads(written[0])["statistics"]
    if not there:
        assert {} == found
        return
    known = np.array(there)
    expected = [len(there), known.mean(), known.std(), known.min(), known.max(), np.median(known)]
    assert expected == pytest.approx(list(found["x"].values()))


def test_the_summary_takes_numbers_of_all_kinds(tmp_path: Path) -> None:
    """Huge ints, fractions, arrays without axes; complex numbers, bools and durations are none."""
    from decimal import Decimal
    from fractions import Fraction

    rows = [
        {"big": 10**400, "f": Fraction(1, 2), "d": Decimal("0.5"), "z": np.array(3), "c": 1j, "b": True},
        {"big": 1, "inf": math.inf, "v": np.arange(3), "t": np.timedelta64(1, "s"), "s": Decimal("sNaN")},
    ]
    path = export_summary_statistics(rows, tmp_path / "s.json")
    found = json.loads(path.read_text(), parse_constant=pytest.fail)["statistics"]
    assert ["big", "d", "f", "inf", "z"] == list(found)
    assert (1, 10**400, None) == (found["big"]["min"], found["big"]["max"], found["big"]["mean"])
    assert (0.5, 0.5, 3) == (found["f"]["mean"], found["d"]["mean"], found["z"]["max"])


# --- pickle ------------------------------------------------------------------------------------------------


def test_foreign_and_changed_pickles_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain ones, changed ones, and those of another user; no byte of them is unpickled."""
    path = export_results_pickle([{"a": 1}], tmp_path / "r.pkl")
    data = path.read_bytes()
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("a pickle was opened"))
    for other in (pickle.dumps({"results": []}), data[:-9] + b"x" + data[-8:], data[:20], b""):
        path.write_bytes(other)
        with pytest.raises(UntrustedPickleError, match=r"r\.pkl"):
            load_results_pickle(path)
    path.write_bytes(data)
    monkeypatch.setenv("CHUNK_MEMO_CONFIG", str(tmp_path / "other"))
    with pytest.raises(UntrustedPickleError, match="neither yours nor trusted"):
        load_results_pickle(path)


def test_what_cannot_be_pickled_is_named(tmp_path: Path) -> None:
    """As a TypeError; the old file stays."""
    path = export_results_pickle([{"a": 1}], tmp_path / "r.pkl")
    with pytest.raises(EncodingError, match="can be pickled"):
        export_results_pickle([{"a": lambda: 0}], path)
    assert [{"a": 1}] == load_results_pickle(path)["results"]


# --- files -------------------------------------------------------------------------------------------------


def test_one_format_that_fails_leaves_the_others(tmp_path: Path) -> None:
    """The error comes after the others were written, and says so."""
    with pytest.raises(EncodingError) as caught:
        export_all_formats([{"span": Pair, "x": 1}], tmp_path, "r")
    assert ["r.pkl", "r_summary.json"] == sorted(path.name for path in tmp_path.iterdir())
    assert any("written all the same" in note and "r.pkl" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("name", ["../r", "a/b", "", ".r", "a\0b", "x" * 300])
def test_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    """A base name that would lead elsewhere is an error."""
    with pytest.raises(SpecError, match="'base_name': expected"):
        export_all_formats([], tmp_path / "in", name)
    assert [] == list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, and nothing beside it."""
    path = export_results_json([{"a": 1}], tmp_path / "r.json")
    old = path.read_bytes()

    def full(*arguments: Any) -> Any:
        raise OSError(28, "No space left on device")

    for name in ("write", "fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(OSError, match="No space"):
                export_results_json([{"a": 2}], path)
        assert ([path], old) == (list(tmp_path.iterdir()), path.read_bytes())


def test_a_link_is_followed(tmp_path: Path) -> None:
    """The file that it names is replaced, and the link stays; folders are made."""
    real, link = tmp_path / "data" / "r.json", tmp_path / "link.json"
    real.parent.mkdir()
    link.symlink_to(real)
    export_results_json([{"a": 1}], link)
    assert link.is_symlink()
    assert [{"a": 1}] == load_results_json(real)["results"]


def test_the_room_is_lazy() -> None:
    """Its names are listed; a wrong one is an AttributeError."""
    assert set(chunk_memo.tables.__all__) <= set(dir(chunk_memo.tables))
    for name in chunk_memo.tables.__all__:
        assert getattr(chunk_memo.tables, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = chunk_memo.tables.nothing  # type: ignore[attr-defined]
