"""CSV sweeps as Parquet datasets: which files there are, what their names and folders say, what is new.

A file is converted when its bytes, or the parameters that hold for it, are others than the last time; what it was
made into before is then replaced. So the same sweep can be converted again and again, while it runs.

What a file's parameters are, from the outermost to what counts most: ``params.json``, ``config.json`` (or
``.yaml``) in a folder above it, or a single other JSON file; a folder named ``column=value``, or like
``split_0.7-0.3_q0.95_k10_zcdp``; a file named like ``seed_001_sgd_gamma1.0-split0.5_zcdp.csv``; its own columns.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from xxhash import xxh3_128_hexdigest

from chunk_memo.disk import files
from chunk_memo.errors import ChunkMemoError, SpecError, TableError
from chunk_memo.tables.dataset import Contents, Dataset, Update
from chunk_memo.tables.grids import GRID_ID, attach_grid_id, keep_params
from chunk_memo.tables.needs import needed
from chunk_memo.tables.rows import PARTITION_COLUMNS

pa = needed("pyarrow")
csv = needed("pyarrow.csv")
pc = needed("pyarrow.compute")

__all__ = ["Converted", "SkippedFile", "convert_csv_to_parquet", "csv_files", "params_of_csv"]

GRANULARITIES = ("seed", "event")
_RULES = 1
"""Goes up when the same file would become other rows; all files are then converted again."""

_BATCH = 256
"""So many files make one entry of the dataset's log: a kill loses at most the work on these."""


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that could not be converted."""

    path: str
    """The file."""
    reason: str
    """Why."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What one conversion did, or would do.

    Examples
    --------
    >>> print(Converted("seed", ("a.csv",), ("b.csv", "c.csv"), rows=1))
    1 file converted to 1 seed row, 2 up to date
    """

    granularity: str
    """``"seed"`` or ``"event"``."""
    converted: tuple[str, ...] = ()
    """Files that were converted, or would be."""
    up_to_date: tuple[str, ...] = ()
    """Files that have not changed since they were."""
    empty: tuple[str, ...] = ()
    """Files without rows."""
    skipped: tuple[SkippedFile, ...] = field(default=())
    """Files that could not be converted, and why."""
    rows: int = 0
    """Number of rows added."""
    dry_run: bool = False
    """Whether nothing was written."""

    def __str__(self) -> str:
        """Return the numbers in one line."""
        kind = "" if self.dry_run else f" to {_many(self.rows, f'{self.granularity} row')}"
        parts = [f"{_many(len(self.converted), 'file')} {'would be ' * self.dry_run}converted{kind}"]
        parts += [f"{len(self.up_to_date)} up to date"] if self.up_to_date else []
        parts += [f"{len(self.empty)} empty"] if self.empty else []
        parts += [f"{len(self.skipped)} skipped"] if self.skipped else []
        return ", ".join(parts)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def convert_csv_to_parquet(
    csv_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    granularity: str = "seed",
    *,
    dry_run: bool = False,
    folder: str | os.PathLike[str] | None = None,
) -> Converted:
    r"""Convert the CSV files below a folder, those that are new or have changed.

    Parameters
    ----------
    csv_dir : path-like
        The folder of the sweep.
    output_dir : path-like
        The folder of the datasets, as in :func:`write_seed_rows`.
    granularity : {"seed", "event"}
        Whether a file becomes one row of ``seeds``, or each of its rows one of ``events``. The row of a run has
        ``avg_regret_empirical``, ``N_star_emp`` and ``m_emp`` (inserts and deletes), ``final_acc``,
        ``total_events``, the last ``eps_spent``, ``capacity_remaining`` and ``rho_spent``, and of each other
        number ``<name>_mean`` and ``<name>_last``. A file with a different ``seed`` in every row has one row per
        run already, and is taken as it is.
    dry_run : bool, default False
        Whether to tell only.
    folder : path-like, optional
        Convert only the files that lie directly in this folder, which lies below `csv_dir` or is it.

    Returns
    -------
    Converted
        What was done; files that could not be read are listed with the reason, and the others are converted.

    Raises
    ------
    SpecError
        Where the granularity is another.
    FileNotFoundError
        Where there is no such folder.

    Examples
    --------
    >>> import tempfile
    >>> sweep, out = Path(tempfile.mkdtemp()), tempfile.mkdtemp()
    >>> _ = (sweep / "seed_1_sgd.csv").write_text("event,op,regret,acc\n0,insert,0.5,0.7\n1,delete,0.25,0.8\n")
    >>> print(convert_csv_to_parquet(sweep, out))
    1 file converted to 1 seed row
    >>> print(convert_csv_to_parquet(sweep, out))
    0 files converted to 0 seed rows, 1 up to date
    """
    if granularity not in GRANULARITIES:
        raise SpecError(f"granularity must be 'seed' or 'event', got {granularity!r}")
    base = os.path.abspath(output_dir)
    found = csv_files(csv_dir, base, folder=folder)
    dataset = Dataset(f"{base}/{granularity}s")
    work = _Work(dataset, dataset.contents(), base, Path(os.path.abspath(csv_dir)), granularity, dry_run)
    for start in range(0, len(found), _BATCH):
        work.convert(found[start : start + _BATCH])
    return work.result()


def csv_files(
    csv_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str] = "",
    *,
    folder: str | os.PathLike[str] | None = None,
) -> list[str]:
    """List the CSV files below a folder.

    Parameters
    ----------
    csv_dir : path-like
        The folder.
    output_dir : path-like, optional
        A folder that is passed over, should it lie inside.
    folder : path-like, optional
        Only files that lie directly in this one.

    Returns
    -------
    list of str
        Absolute paths, sorted; files and folders whose names begin with a dot are passed over.

    Raises
    ------
    FileNotFoundError
        Where there is no such folder.
    """
    top = os.path.abspath(csv_dir)
    if not os.path.isdir(top):
        raise FileNotFoundError(f"there is no folder '{csv_dir}'; give the folder that holds the CSV files")
    if folder is not None:
        only = os.path.abspath(folder)
        if os.path.commonpath([top, only]) != top:
            raise SpecError(f"folder '{folder}' does not lie in '{csv_dir}'; give one that does")
    skipped = os.path.abspath(output_dir) if output_dir else None
    listed: list[str] = []
    for here, folders, names in os.walk(top):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and f"{here}/{n}" != skipped)
        if folder is None or here == only:
            listed += [f"{here}/{n}" for n in names if n.lower().endswith(".csv") and not n.startswith(".")]
    return sorted(listed)


class _Work:
    """One conversion, batch by batch."""

    def __init__(
        self, dataset: Dataset, contents: Contents, base: str, top: Path, granularity: str, dry_run: bool
    ) -> None:
        self.dataset = dataset
        self.known = {name: group.sources for name, group in contents.groups.items()}
        self.base = base
        self.granularity = granularity
        self.dry_run = dry_run
        self.configs = _Configs(top)
        self.converted: list[str] = []
        self.up_to_date: list[str] = []
        self.empty: list[str] = []
        self.skipped: list[SkippedFile] = []
        self.rows = 0

    def result(self) -> Converted:
        return Converted(
            self.granularity,
            tuple(self.converted),
            tuple(self.up_to_date),
            tuple(self.empty),
            tuple(self.skipped),
            self.rows,
            self.dry_run,
        )

    def convert(self, paths: Sequence[str]) -> None:
        """Convert some files by one entry of the log."""
        ready: list[tuple[str, Any, tuple[str, ...]]] = []
        for path in paths:
            try:
                ready += self._read(path)
            except (ChunkMemoError, OSError, ValueError) as error:
                self._skip(path, error)
        if not ready or self.dry_run:
            self.converted += [path for path, _, _ in ready]
            return
        failed: dict[str, Exception] = {}
        came = {name for _, table, _ in ready for name in table.column_names}
        usual = [name for name in PARTITION_COLUMNS if name in came]

        def change(update: Update) -> None:
            failed.clear()
            for path, table, sources in ready:
                try:
                    update.add(table, usual=usual, widen=True, group=path, sources=sources)
                except (ChunkMemoError, ValueError) as error:
                    failed[path] = error

        self.rows += self.dataset.update(change).rows
        for path, reason in failed.items():
            self._skip(path, reason)
        self.converted += [path for path, _, _ in ready if path not in failed]

    def _skip(self, path: str, error: Exception) -> None:
        self.skipped.append(SkippedFile(path, str(error).strip().partition("\n")[0] or type(error).__name__))

    def _read(self, path: str) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
        """Yield the rows of a file that is to be converted, and what they are made from."""
        data = files.read_whole(path)
        params = self.configs.of(path)
        told = json.dumps(params, sort_keys=True, default=str)
        sources = (f"{_RULES} {self.granularity} {xxh3_128_hexdigest(data)} {xxh3_128_hexdigest(told.encode())}",)
        if self.known.get(path) == sources:
            self.up_to_date.append(path)
            return
        if not data.strip():
            self.empty.append(path)
            return
        table = csv.read_csv(pa.BufferReader(data), convert_options=csv.ConvertOptions(strings_can_be_null=True))
        if not table.num_rows:
            self.empty.append(path)
            return
        rows, params = _rows_of(table, params, self.granularity)
        if GRID_ID in params and not self.dry_run:
            with files.Syncer() as syncer:
                keep_params(self.base, params[GRID_ID], params, syncer)
        yield path, rows, sources


# --- rows --------------------------------------------------------------------------------------------------


def _rows_of(table: Any, params: Mapping[str, Any], granularity: str) -> tuple[Any, dict[str, Any]]:
    """Return the rows that a file makes, and the parameters that hold for all of them, with their id."""
    table = _named(table)
    own = {}
    for name in table.column_names:
        column = table.column(name)
        if name in PARTITION_COLUMNS and name != "seed" and len(column.unique()) == 1 and column[0].is_valid:
            own[name] = column[0].as_py()
    whole = {**params, **own}
    counted = {name: value for name, value in whole.items() if name != "seed"}
    if counted and GRID_ID not in counted and GRID_ID not in table.column_names:
        counted = attach_grid_id(counted)
    whole = {**whole, **({GRID_ID: counted[GRID_ID]} if GRID_ID in counted else {})}
    labels = {name: value for name, value in whole.items() if not isinstance(value, Mapping | list)}
    if granularity == "event" or _is_of_runs(table):
        made = dict(zip(table.column_names, table.columns, strict=True))
    else:
        made = _summary(table)
    count = table.num_rows if granularity == "event" or _is_of_runs(table) else 1
    head = {name: pa.repeat(pa.scalar(value), count) for name, value in labels.items() if name not in made}
    return pa.table({**head, **made}), counted


def _named(table: Any) -> Any:
    names = [name.strip() or f"column_{number}" for number, name in enumerate(table.column_names)]
    return table.rename_columns(names)


def _is_of_runs(table: Any) -> bool:
    """Tell whether each row is a run of its own: a seed in each, no two alike, and no events."""
    if "seed" not in table.column_names or not {"op", "event"}.isdisjoint(table.column_names):
        return False
    seeds = table.column("seed")
    return len(seeds.unique()) == table.num_rows and not seeds.null_count


_LAST = ("eps_spent", "capacity_remaining", "rho_spent")


def _summary(table: Any) -> dict[str, Any]:
    """Return the one row that stands for the events of a run."""
    row: dict[str, Any] = {}
    types: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        kind = column.type
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if name in PARTITION_COLUMNS or (not number and len(column.unique()) == 1):
            row[name], types[name] = column[0].as_py(), kind
        elif name == "regret" and number:
            row["avg_regret_empirical"] = pc.mean(column).as_py()
        elif name == "op":
            counts = {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}
            row.update(N_star_emp=counts.get("insert", 0), m_emp=counts.get("delete", 0))
        elif name == "acc" and number:
            row["final_acc"] = _float(column[-1].as_py())
        elif name in _LAST and number:
            row[name] = _float(column[-1].as_py())
        elif number and name not in ("event", "step"):
            row[f"{name}_mean"], row[f"{name}_last"] = pc.mean(column).as_py(), _float(column[-1].as_py())
    row["total_events"] = table.num_rows
    return {name: pa.array([value], types.get(name, _type_of(value))) for name, value in row.items()}


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _type_of(value: Any) -> Any:
    return pa.float64() if value is None or isinstance(value, float) else pa.scalar(value).type


# --- parameters --------------------------------------------------------------------------------------------

_NUMBER = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_ACCOUNTANTS = frozenset({"zcdp", "rdp", "gdp", "pld", "eps", "default", "legacy", "relaxed", "strict"})
_NAMES = {"gamma": "gamma_bar", "split": "gamma_split", "q": "quantile", "k": "delete_ratio", "rho": "rho_total"}


def params_of_csv(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what the name of a CSV file says of its run.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    dict
        ``seed``, ``algo`` and what else is recognised; empty where nothing is.

    Examples
    --------
    >>> params_of_csv("seed_001_memorypair_gamma1.0-split0.5_zcdp.csv")
    {'seed': 1, 'algo': 'memorypair', 'gamma_bar': 1.0, 'gamma_split': 0.5, 'accountant': 'zcdp'}
    """
    stem = Path(path).name.rpartition(".")[0]
    found = re.search(r"(?:^|_)seed[_-]?(\d+)(?:_([A-Za-z][A-Za-z0-9]*?)(?=_|$))?", stem)
    if found is None:
        return {}
    params: dict[str, Any] = {"seed": int(found[1])}
    if found[2]:
        params["algo"] = found[2]
    for part in stem[found.end() :].split("_"):
        params.update(_pairs(part))
        if part.lower() in _ACCOUNTANTS:
            params["accountant"] = part
    return params


def _pairs(part: str) -> dict[str, Any]:
    """Return the values of ``gamma1.0-split0.5``."""
    pairs = re.findall(rf"(?:^|-)([A-Za-z]+)({_NUMBER})(?=-[A-Za-z]|$)", part)
    return {_NAMES.get(name, name): _number(text) for name, text in pairs}


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)


def _params_of_folder(name: str) -> dict[str, Any]:
    """Return what the name of a folder says: ``column=value``, or ``split_0.7-0.3_q0.95_k10_zcdp``."""
    column, equals, text = name.partition("=")
    if equals and column:
        text = unquote(text)
        return {column: _number(text) if re.fullmatch(_NUMBER, text) else text}
    found = re.search(rf"(?:^|_)split_?({_NUMBER})-({_NUMBER})(?=_|$)", name)
    if found is None:
        return {}
    params: dict[str, Any] = {"gamma_bar": float(found[1]), "gamma_split": float(found[2])}
    for part in name[found.end() :].split("_"):
        single = re.fullmatch(rf"([a-zA-Z]+?)({_NUMBER})", part)
        if single:
            params[_NAMES.get(single[1], single[1])] = _number(single[2])
        elif part.lower() in _ACCOUNTANTS:
            params["accountant"] = part
    return params


class _Configs:
    """The parameters that hold for the files of each folder; read once each."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._known: dict[Path, dict[str, Any] | Exception] = {}

    def of(self, path: str) -> dict[str, Any]:
        """Return the parameters that hold for a file."""
        held = self._of_folder(Path(path).parent)
        if isinstance(held, Exception):
            raise held
        return {**held, **params_of_csv(path)}

    def _of_folder(self, folder: Path) -> dict[str, Any] | Exception:
        if folder not in self._known:
            try:
                self._known[folder] = self._read(folder)
            except (ChunkMemoError, OSError, ImportError) as error:
                self._known[folder] = (
                    error if isinstance(error, ChunkMemoError | OSError) else _as_table_error(error)
                )
        return self._known[folder]

    def _read(self, folder: Path) -> dict[str, Any]:
        above: dict[str, Any] | Exception = {}
        if folder != self._top and self._top in folder.parents:
            above = self._of_folder(folder.parent)
        if isinstance(above, Exception):
            raise above
        named = _params_of_folder(folder.name) if folder != self._top else _params_of_folder(self._top.name)
        return {**above, **named, **_config_in(folder)}


def _as_table_error(error: Exception) -> TableError:
    return TableError(str(error))


def _config_in(folder: Path) -> dict[str, Any]:
    names = set(files.list_folder(folder))
    jsons = sorted(name for name in names if name.endswith(".json") and not name.startswith("."))
    wanted = ["params.json", "config.json", "params.yaml", "config.yaml", "params.yml", "config.yml"]
    chosen = next((name for name in wanted if name in names), None) or (jsons[0] if len(jsons) == 1 else None)
    if chosen is None:
        return {}
    path = folder / chosen
    text = files.read_whole(path)
    try:
        load = json.loads if chosen.endswith(".json") else needed("yaml", "snakemake").safe_load
        held = load(text)
    except ImportError:
        raise
    except Exception as error:  # of either reader
        raise TableError(
            f"'{path}' cannot be read ({str(error).partition(chr(10))[0]}); mend or remove it"
        ) from error
    if held is None:
        return {}
    if not isinstance(held, dict):
        raise TableError(f"'{path}' must hold an object of parameters, got {held!r:.100}; mend or remove it")
    return {str(name): value for name, value in held.items()}


def _main() -> None:
    from chunk_memo.cli import main

    main(["convert", *sys.argv[1:]])


if __name__ == "__main__":
    _main()
