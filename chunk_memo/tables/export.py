"""Results as files for other programs: JSON, CSV, pickle, and a summary of what is numeric.

Results are a list of dicts, one for each experiment, or what can be seen as one: see :func:`rows_of`. Every file
is written beside its final name, synced and renamed, so that a reader finds the old one or the new one, whole.
"""

from __future__ import annotations

import csv
import dataclasses
import decimal
import fractions
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from chunk_memo.cache import ChunkCache
from chunk_memo.dataframes import library_of
from chunk_memo.disk import files, signing
from chunk_memo.errors import ChunkFormatError, ChunkMemoError, EncodingError, SpecError
from chunk_memo.outputs import Block, Collector
from chunk_memo.placing import CellPlace
from chunk_memo.plainjson import NumpyEncoder, now_text, plain, unmarked
from chunk_memo.selection import Cell, Selection
from chunk_memo.tables.needs import needed

__all__ = [
    "create_results_dataframe",
    "export_all_formats",
    "export_results_csv",
    "export_results_json",
    "export_results_pickle",
    "export_summary_statistics",
    "load_results_json",
    "load_results_pickle",
    "rows_of",
]

_PathLike = str | os.PathLike[str]

_PICKLE = "exported results"
"""What signed pickles of this kind are called."""

_FORMULA = "=+-@\t\r\n＝＋－＠"
"""What the text of a cell must not begin with: spreadsheets take it for a formula."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.ASCII)


# --- rows --------------------------------------------------------------------------------------------------


def rows_of(results: Any) -> list[dict[str, Any]]:
    """Return results as one dict per experiment.

    Parameters
    ----------
    results : iterable, DataFrame, Store or ChunkCache
        Dicts, dataclasses or named tuples; or a pandas or polars DataFrame, whose rows are the experiments (a
        pandas index that is no plain numbering becomes columns); or a :class:`~chunk_memo.Store`, whose records
        are; or a :class:`~chunk_memo.ChunkCache` or a slice of one, of which every *stored* point is one: the
        axis values, then the entries of the output, or the output under the name ``"output"``. Nothing is
        computed.

    Returns
    -------
    list of dict
        The rows.

    Raises
    ------
    EncodingError
        A ``TypeError``, for anything else.

    Examples
    --------
    >>> rows_of([{"acc": 0.95}, {"acc": 0.9, "loss": 0.1}])
    [{'acc': 0.95}, {'acc': 0.9, 'loss': 0.1}]
    """
    if library_of(results) == "pandas":
        return _rows_of_pandas(results)
    if library_of(results) == "polars":
        rows: list[dict[str, Any]] = results.to_dicts()
        return rows
    if isinstance(results, ChunkCache):
        return list(_rows_of_cache(results))
    if hasattr(results, "run_or_retrieve") and hasattr(results, "list"):  # a Store, which need not be imported
        results = results.list()
    if isinstance(results, Mapping):
        raise EncodingError(
            "'results': expected a list of dicts, one for each experiment, got one dict; pass [results] for one"
            " experiment, or a DataFrame made of it for columns"
        )
    if isinstance(results, str | bytes) or not isinstance(results, Iterable):
        raise EncodingError(
            f"'results': expected dicts, a DataFrame, a Store or a ChunkCache, got {type(results).__name__}"
        )
    return [_row(number, result) for number, result in enumerate(results)]


def _entries(result: Any) -> dict[str, Any] | None:
    """Return what has names as a dict, None for everything else."""
    if isinstance(result, Mapping):
        return dict(result)
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    if isinstance(result, tuple) and hasattr(result, "_asdict"):
        return dict(result._asdict())
    return None


def _row(number: int, result: Any) -> dict[str, Any]:
    entries = _entries(result)
    if entries is not None:
        return entries
    raise EncodingError(
        f"'results[{number}]': expected a dict, a dataclass or a named tuple, got {type(result).__name__}"
        f" {result!r:.80}; name what it is, as in {{'value': result}}"
    )


def _rows_of_pandas(frame: Any) -> list[dict[str, Any]]:
    import pandas

    if not isinstance(frame.index, pandas.RangeIndex):
        numbered = frame.index.nlevels == 1 and frame.index.name is None and frame.index.dtype.kind in "iu"
        frame = frame.reset_index(drop=numbered)
    if not frame.columns.is_unique:
        raise SpecError(f"the DataFrame has columns of one name among {list(frame.columns)}; rename them")
    columns = {label: frame[label].tolist() for label in frame.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class _Points(Collector):
    """Gathers the stored outputs of a cache, point by point, and leaves holes where nothing is stored."""

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.outputs: Any = np.full(selection.shape, None, object)
        self.stored = np.zeros(selection.shape, bool)

    @property
    def by_chunk(self) -> bool:
        """True, so that chunks are handed over one by one."""
        return True

    def add(self, rank: int, cell: Cell, block: Block, points: Any = None) -> None:
        """Take a block."""
        found = block.outputs()
        values = np.fromiter(found, object, len(found))
        place = CellPlace(cell, points)
        place.scatter(self.outputs, values)
        place.scatter(self.stored, np.ones(len(found), bool))


def _rows_of_cache(cache: ChunkCache) -> Iterator[dict[str, Any]]:
    selection = cache.selection()
    points = _Points(selection)
    cache.read(selection, points)
    for at in np.argwhere(points.stored).tolist():
        axes = {name: values[i] for name, values, i in zip(selection.order, selection.values, at, strict=True)}
        yield _joined(axes, points.outputs[tuple(at)])


def _joined(axes: dict[str, Any], output: Any) -> dict[str, Any]:
    """Return the axis values of a point and the entries of its output; of two that differ both are kept."""
    entries = _entries(output)
    row = dict(axes)
    for name, value in ({"output": output} if entries is None else entries).items():
        row[name if name not in axes or _is_same(value, axes[name]) else f"output.{name}"] = value
    return row


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and isinstance(one, bool | int | float | str) and one == other


def _flat(row: Mapping[Any, Any], number: int) -> dict[str, Any]:
    """Return a row without dicts in it: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}

    def put(name: str, value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for key, member in value.items():
                put(f"{name}.{key}", member)
            return
        if name in flat:
            raise SpecError(
                f"'results[{number}]': two of its entries would both be the column {name!r}; rename one"
            )
        flat[name] = value

    for key, value in row.items():
        put(str(key), value)
    return flat


def create_results_dataframe(results: Any, *, flatten_nested: bool = True) -> Any:
    """Return results as a pandas DataFrame.

    Parameters
    ----------
    results : iterable, DataFrame, Store or ChunkCache
        What :func:`rows_of` takes.
    flatten_nested : bool, default True
        Whether an entry that is a dict becomes several columns, ``"name.key"``.

    Returns
    -------
    pandas.DataFrame
        A row for each experiment; columns in the order in which they first occur.

    Raises
    ------
    ImportError
        Where pandas is not installed.

    Examples
    --------
    >>> create_results_dataframe([{"loss": 0.5, "at": {"step": 3}}]).to_dict("list")
    {'loss': [0.5], 'at.step': [3]}
    """
    pandas = needed("pandas", "frames")
    rows = rows_of(results)
    return pandas.DataFrame([_flat(row, n) for n, row in enumerate(rows)] if flatten_nested else rows)


# --- JSON --------------------------------------------------------------------------------------------------


def export_results_json(
    results: Any,
    output_path: _PathLike,
    metadata: Mapping[str, Any] | None = None,
    pretty: bool = True,
    *,
    non_finite: str = "null",
    encoder: type[NumpyEncoder] = NumpyEncoder,
) -> Path:
    """Write results as standard JSON, with a time and metadata.

    Parameters
    ----------
    results : iterable, DataFrame, Store or ChunkCache
        What :func:`rows_of` takes.
    output_path : path-like
        The file; folders are made, and a file of that name is replaced.
    metadata : mapping, optional
        What else there is to say.
    pretty : bool, default True
        Whether to indent.
    non_finite : {"null", "mark"}
        What stands for NaN and the infinities, which JSON does not have: ``null``, or strings such as ``"@nan"``,
        from which :func:`load_results_json` makes them again. The file says which.
    encoder : type, default NumpyEncoder
        A subclass for types of one's own.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    EncodingError
        A ``TypeError``, for a value that JSON cannot say; it names the place.
    SpecError
        For two keys that would become one.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "results.json"
    >>> _ = export_results_json([{"acc": np.float32(0.5)}], path, {"version": "1.0"})
    >>> load_results_json(path)["results"]
    [{'acc': 0.5}]
    """
    rows = rows_of(results)
    given = encoder()
    form = plain(
        {"metadata": dict(metadata or {}), "results": rows},
        non_finite=non_finite,
        default=given.default,
        where="",
    )
    envelope = {"timestamp": now_text(), "num_experiments": len(rows)}
    if non_finite == "mark":
        envelope["non_finite"] = "mark"
    return _write_json({**envelope, **form}, output_path, pretty)


def _write_json(document: Mapping[str, Any], output_path: _PathLike, pretty: bool) -> Path:
    indent = 2 if pretty else None
    text = json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:  # a lone half of a surrogate pair, which only an escape can say
        data = json.dumps(document, indent=indent, allow_nan=False).encode("ascii")
    return _write(output_path, data + b"\n")


def _write(output_path: _PathLike, data: bytes) -> Path:
    path = Path(output_path)
    files.save(path, [data])
    return path


def load_results_json(path: _PathLike) -> dict[str, Any]:
    """Read what :func:`export_results_json` wrote.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    dict
        ``timestamp`` (ISO 8601), ``num_experiments``, ``metadata`` and ``results``.

    Raises
    ------
    ChunkFormatError
        A ``ValueError``, where it is no such file.
    """
    data = Path(path).read_bytes()
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ChunkFormatError(
            f"'{os.fspath(path)}': expected JSON, got {error}; export the results again"
        ) from None
    if not isinstance(found, dict) or not isinstance(found.get("results"), list):
        raise ChunkFormatError(f"'{os.fspath(path)}': expected what export_results_json writes, got other JSON")
    return unmarked(found) if found.pop("non_finite", None) == "mark" else found


# --- CSV ---------------------------------------------------------------------------------------------------


def export_results_csv(
    results: Any,
    output_path: _PathLike,
    flatten_nested: bool = True,
    *,
    quote_formulas: bool = True,
    encoding: str = "utf-8",
) -> Path:
    """Write results as CSV for spreadsheets: a row for each, columns in alphabetical order.

    Parameters
    ----------
    results : iterable, DataFrame, Store or ChunkCache
        What :func:`rows_of` takes. Where a row lacks a column, or has None there, the cell is empty; lists,
        arrays and other objects are written as JSON.
    output_path : path-like
        The file; folders are made, and a file of that name is replaced. Without results it is empty.
    flatten_nested : bool, default True
        Whether an entry that is a dict becomes several columns, ``"name.key"``; else it is JSON in one cell.
    quote_formulas : bool, default True
        Whether text that a spreadsheet would take for a formula, as ``=…`` or ``@…``, gets a ``'`` in front.
        Without it, opening the file may run what whoever made the results wrote.
    encoding : str, default "utf-8"
        Pass ``"utf-8-sig"`` for old versions of Excel.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    EncodingError
        A ``TypeError``, for a value that has no text form; it names the place.
    SpecError
        For two entries that would be the same column.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "results.csv"
    >>> _ = export_results_csv([{"p": 0.0, "fit": {"acc": 0.95}}, {"p": 0.1, "note": "=1+1"}], path)
    >>> print(path.read_text(), end="")
    fit.acc,note,p
    0.95,,0.0
    ,'=1+1,0.1
    """
    flat = _flat if flatten_nested else lambda row, _: {str(key): value for key, value in row.items()}
    rows = [flat(row, number) for number, row in enumerate(rows_of(results))]
    columns = {str(label): None for label in results.columns} if library_of(results) else {}
    columns |= dict.fromkeys(name for row in rows for name in row)
    names = sorted(columns)
    guard = _guarded if quote_formulas else str
    lines: list[str] = []
    # With another line terminator the module would leave a lone carriage return in a cell unquoted.
    target = SimpleNamespace(write=lambda line: lines.append(line.removesuffix("\r\n") + "\n"))
    writer = csv.writer(target, lineterminator="\r\n")
    if names:
        writer.writerow(map(guard, names))
        for number, row in enumerate(rows):
            writer.writerow(
                _cell(row[name], guard, f"results[{number}][{name!r}]") if name in row else "" for name in names
            )
    return _write(output_path, "".join(lines).encode(encoding, "backslashreplace"))


def _cell(value: Any, guard: Callable[[str], str], where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return guard(str(value))
    if isinstance(value, bool | int | float) or (isinstance(value, np.generic) and value.dtype.kind in "biuf"):
        return str(value)  # as short as its precision allows
    form = plain(value, where=where)
    if form is None:
        return ""
    if isinstance(form, str):
        return guard(form)
    return json.dumps(form, ensure_ascii=False)


def _guarded(text: str) -> str:
    formula = text[:1] in _FORMULA and text and not _NUMBER.fullmatch(text)
    return f"'{text}" if formula else text


# --- statistics --------------------------------------------------------------------------------------------


def export_summary_statistics(results: Any, output_path: _PathLike) -> Path:
    """Write mean, standard deviation, minimum, maximum and median of every numeric field, as JSON.

    The standard deviation is that of the population, the root of the mean squared distance from the mean (divided
    by n, not n - 1). Numbers inside of dicts count as fields ``"name.key"``. None, NaN and whatever is no real
    number, bools included, are missing values: they are left out, and ``count`` says how many are there.

    Parameters
    ----------
    results : iterable, DataFrame, Store or ChunkCache
        What :func:`rows_of` takes.
    output_path : path-like
        The file; folders are made, and a file of that name is replaced.

    Returns
    -------
    Path
        The file.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "summary.json"
    >>> _ = export_summary_statistics([{"acc": 0.5}, {"acc": 1.0}, {"acc": None}], path)
    >>> json.loads(path.read_text())["statistics"]["acc"]
    {'count': 2, 'mean': 0.75, 'std': 0.25, 'min': 0.5, 'max': 1.0, 'median': 0.75}
    """
    rows = rows_of(results)
    numbers: dict[str, list[Any]] = {}
    for number, row in enumerate(rows):
        for name, value in _flat(row, number).items():
            found = _number(value)
            if found is not None:
                numbers.setdefault(name, []).append(found)
    statistics = {name: _statistics(numbers[name]) for name in sorted(numbers)}
    document = {"num_experiments": len(rows), "timestamp": now_text(), "statistics": statistics}
    return _write_json(plain(document), output_path, True)


def _number(value: Any) -> int | float | None:
    """Return a real number that is there, as Python's own; None for everything else."""
    if isinstance(value, np.ndarray) and value.ndim == 0 and not isinstance(value, np.ma.MaskedArray):
        value = value[()]
    if isinstance(value, np.generic) and value.dtype.kind in "iuf":  # its classes count durations as integers
        value = float(value) if value.dtype.kind == "f" else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float | decimal.Decimal | fractions.Fraction):
        return None
    if isinstance(value, int):
        return int(value)
    try:
        number = float(value)
    except (ValueError, OverflowError):  # a signalling NaN, a fraction beyond all floats
        return None
    return None if math.isnan(number) else number


def _statistics(values: Sequence[int | float]) -> dict[str, Any]:
    floats = np.array([_as_float(value) for value in values])
    with np.errstate(invalid="ignore", over="ignore"):
        mean, std, median = (float(value) for value in (floats.mean(), floats.std(), np.median(floats)))
    return {
        "count": len(values),
        "mean": mean,
        "std": std,
        "min": min(values),
        "max": max(values),
        "median": median,
    }


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


# --- pickle ------------------------------------------------------------------------------------------------


def export_results_pickle(
    results: Any, output_path: _PathLike, metadata: Mapping[str, Any] | None = None
) -> Path:
    """Write results as a signed pickle, which keeps arrays and objects of one's own as they are.

    Parameters
    ----------
    results : iterable, DataFrame, Store or ChunkCache
        What :func:`rows_of` takes; lists and DataFrames are kept as they are.
    output_path : path-like
        The file; folders are made, and a file of that name is replaced.
    metadata : mapping, optional
        What else there is to say.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    EncodingError
        A ``TypeError``, for a value that cannot be pickled.
    KeyFileError
        Where there is no key to sign with, and none can be made.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "results.pkl"
    >>> _ = export_results_pickle([{"theta": np.arange(3), "span": range(5)}], path)
    >>> load_results_pickle(path)["results"]
    [{'theta': array([0, 1, 2]), 'span': range(0, 5)}]
    """
    kept = results if library_of(results) or isinstance(results, list) else rows_of(results)
    envelope = {
        "timestamp": now_text(),
        "num_experiments": len(kept),
        "metadata": dict(metadata or {}),
        "results": kept,
    }
    try:
        data = signing.dump(envelope, _PICKLE)
    except ChunkMemoError:
        raise
    except Exception as error:  # whatever an object's own code raises
        raise EncodingError(
            f"'results': expected values that can be pickled, got an error: {error}; leave out what holds open"
            " files, locks or local functions"
        ) from error
    return _write(output_path, data)


def load_results_pickle(path: _PathLike) -> dict[str, Any]:
    """Read what :func:`export_results_pickle` wrote, if its signature is one's own, or one that is trusted.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    dict
        ``timestamp`` (ISO 8601), ``num_experiments``, ``metadata`` and ``results``.

    Raises
    ------
    UntrustedPickleError
        Where it was not signed, by a key that is not trusted, or was changed since: loading a pickle can run any
        code, so nothing of it was looked at.
    """
    found = signing.load(files.read_whole(path), _PICKLE, os.fspath(path))
    if not isinstance(found, dict) or "results" not in found:
        raise ChunkFormatError(
            f"'{os.fspath(path)}': expected what export_results_pickle writes, got another pickle"
        )
    return found


# --- all of them -------------------------------------------------------------------------------------------


def export_all_formats(
    results: Any,
    output_dir: _PathLike,
    base_name: str = "results",
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Path]:
    """Write results as JSON, CSV, pickle and summary.

    Parameters
    ----------
    results : iterable, DataFrame, Store or ChunkCache
        What :func:`rows_of` takes; an empty list makes all four files, too.
    output_dir : path-like
        The folder; it is made if need be.
    base_name : str, default "results"
        What the files' names begin with.
    metadata : mapping, optional
        What else there is to say; in JSON and pickle.

    Returns
    -------
    dict of str to Path
        The files ``{base_name}.json``, ``{base_name}.csv``, ``{base_name}.pkl`` and
        ``{base_name}_summary.json``, by ``"json"``, ``"csv"``, ``"pickle"`` and ``"summary"``.

    Raises
    ------
    ChunkMemoError, OSError
        The first that went wrong, after all others were written.

    Examples
    --------
    >>> import tempfile
    >>> written = export_all_formats([{"acc": 0.95}], tempfile.mkdtemp(), "exp001")
    >>> sorted(path.name for path in written.values())
    ['exp001.csv', 'exp001.json', 'exp001.pkl', 'exp001_summary.json']
    """
    stem = Path(output_dir) / files.file_stem(base_name, "base_name")
    kept = results if library_of(results) or isinstance(results, list) else rows_of(results)
    writers: dict[str, tuple[str, Callable[[Path], Path]]] = {
        "json": (".json", lambda path: export_results_json(kept, path, metadata)),
        "csv": (".csv", lambda path: export_results_csv(kept, path)),
        "pickle": (".pkl", lambda path: export_results_pickle(kept, path, metadata)),
        "summary": ("_summary.json", lambda path: export_summary_statistics(kept, path)),
    }
    written: dict[str, Path] = {}
    errors: list[Exception] = []
    for name, (suffix, write) in writers.items():
        try:
            written[name] = write(stem.with_name(stem.name + suffix))
        except Exception as error:  # whatever it is, the other files are worth having
            errors.append(error)
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"also: {other}")
        errors[0].add_note(f"written all the same: {[str(path) for path in written.values()]}")
        raise errors[0]
    return written
