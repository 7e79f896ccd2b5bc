"""Results as xarray Datasets: labelled, lazy, in Dask's blocks where asked for; and caches that it opens itself.

A lazy variable is an array that reads points when it is indexed (:class:`StoredArray`), the same for
``to_xarray``, for Dask and for ``xarray.open_dataset(folder, engine="chunk_memo")``. Its dtype has to be known
before anything is read, so it is learned from one stored file; where others turn out to hold something that does
not fit it, the read says so. Small results are read at once, and have the dtype of all their values.

What lacks is NaN or NaT (of texts, xarray makes None a NaN), and the coordinate ``status`` tells it from a NaN
that the function returned.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chunk_memo.disk.layouts import ROOMS
from chunk_memo.errors import CacheNotFoundError, OutputError, SpecError
from chunk_memo.results import STATUS, STORED, SweepResult, filled, forms_of, spread, variables_of
from chunk_memo.tables.needs import needed

needed("xarray", "frames")

import xarray as xr  # noqa: E402
from xarray.backends import BackendArray, BackendEntrypoint  # noqa: E402
from xarray.core import indexing  # noqa: E402

__all__ = ["ChunkMemoBackend", "StoredArray", "dataset"]

_SMALL = 64_000_000
"""Bytes up to which results are read at once."""

_BLOCK = 64_000_000
"""Bytes of a Dask block that ``chunks="auto"`` aims at."""

_OBJECT = 64
"""Bytes that an object is taken for."""

Array = npt.NDArray[Any]


def dataset(
    result: SweepResult,
    *,
    chunks: Any = None,
    lazy: bool | None = None,
    dims: Mapping[str, Sequence[str]] | Sequence[str] | None = None,
    status: bool | None = None,
) -> xr.Dataset:
    """Return results as a Dataset; see :meth:`SweepResult.to_xarray`.

    Parameters
    ----------
    result : SweepResult
        The results.
    chunks : mapping, int, "auto" or {}, optional
        Make Dask arrays of these blocks.
    lazy : bool, optional
        Whether files are read when values are looked at.
    dims : sequence of str, or mapping, optional
        Names of the dimensions of one output.
    status : bool, optional
        Whether there is a coordinate ``status``.

    Returns
    -------
    xarray.Dataset
        The Dataset.
    """
    if chunks is not None and lazy is False:
        raise SpecError(
            "lazy=False reads everything at once, which chunks= is there to avoid; leave one of them out"
        )
    sample = forms_of(result.design) if lazy is not False else {}
    if lazy is None:
        lazy = chunks is not None or _bytes_of(sample, result.points) > _SMALL
    if lazy:
        made = _lazy(result, sample, dims, status)
        return made if chunks is None else _in_blocks(made, result, chunks)
    read = result.read()
    variables = {
        name: (
            _names(result, name, each.trailing, dims),
            filled(each.values).reshape((*result.shape, *each.trailing)),
        )
        for name, each in read.variables.items()
    }
    states = read.status.reshape(result.shape)
    wanted = bool((states != STORED).any()) if status is None else status
    return _dataset(result, variables, states if wanted else None)


def _dataset(result: SweepResult, variables: Mapping[str, Any], states: Any) -> xr.Dataset:
    """Put coordinates, attributes and variables together."""
    coords: dict[str, Any] = {}
    metadata = result.cache.metadata
    for name, (dim, values) in result.design.coords.items():
        own = _coordinate(values)
        if dim in result.squeezed:
            coords[name] = ((), own[0], _attributes(metadata, name))
        elif dim != name or _can_be_index(own):
            coords[name] = ((dim,), own, _attributes(metadata, name))
        else:
            coords[f"{name}_value"] = ((dim,), own, _attributes(metadata, name))
    taken = {*coords, *result.dims}
    named = {_free(name, taken): each for name, each in variables.items()}
    if states is not None:
        coords[_free("status", {*taken, *named})] = (
            result.dims,
            states,
            {"flag_values": list(range(len(STATUS))), "flag_meanings": " ".join(STATUS)},
        )
    data = {name: xr.Variable(each[0], each[1], _attributes(metadata, name)) for name, each in named.items()}
    return xr.Dataset(data, coords, _params(result))


def _free(name: str, taken: Iterable[str]) -> str:
    """Return a name that is not taken: that of a variable may be that of an axis."""
    while name in taken:
        name += "_"
    return name


def _coordinate(values: Sequence[Any]) -> Array:
    """Return axis values as an array in which each is what it was."""
    array = variables_of([(value,) for value in values], "").get("_0", np.zeros(0))
    if array.ndim != 1:
        array = np.fromiter(values, object, len(values))
    if array.dtype == object and all(type(value) is str and not value.endswith("\0") for value in values):
        return np.array(list(values), np.str_)
    return array


def _can_be_index(values: Array) -> bool:
    if values.dtype != object:
        return values.dtype.kind not in "V"
    try:
        return all(hash(value) is not None and not isinstance(value, np.ndarray) for value in values)
    except TypeError:
        return False


def _attributes(metadata: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return unit and long name of a variable or an axis, as the memo's metadata has them."""
    found = {}
    for attribute in ("units", "long_name"):
        known = metadata.get(attribute)
        if isinstance(known, Mapping) and isinstance(known.get(name), str):
            found[attribute] = known[name]
    return found


def _params(result: SweepResult) -> dict[str, Any]:
    """Return the params as attributes that netCDF can hold; what it cannot, as text."""
    return {str(name): _attribute(value) for name, value in result.params.items()}


def _attribute(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return int(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, str | int | float | np.number):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.ndim == 1:
        return value
    text = repr(value)
    return text if len(text) <= 1000 else f"{text[:999]}…"


def _names(
    result: SweepResult,
    name: str,
    trailing: tuple[int, ...],
    dims: Mapping[str, Sequence[str]] | Sequence[str] | None,
) -> tuple[str, ...]:
    """Return the dimensions of a variable: those of the points, then those of one output."""
    own = result.cache.metadata.get("dims") if dims is None else dims
    if isinstance(own, Mapping):
        own = own.get(name)
    if own is None:
        return (*result.dims, *(f"{name}_{number}" for number in range(len(trailing))))
    own = (own,) if isinstance(own, str) else tuple(own)
    if len(own) != len(trailing):
        raise SpecError(
            f"one output of {name!r} has {len(trailing)} dimensions (shape {trailing}), and dims names"
            f" {list(own)}; name each of them once"
        )
    return (*result.dims, *own)


# --- lazy ---------------------------------------------------------------------------------------------------


def _bytes_of(sample: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], points: int) -> int:
    sizes = (
        (_OBJECT if dtype.hasobject else dtype.itemsize) * math.prod(trailing)
        for dtype, trailing in sample.values()
    )
    return points * sum(sizes)


def _lazy(
    result: SweepResult,
    sample: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    dims: Mapping[str, Sequence[str]] | Sequence[str] | None,
    status: bool | None,
) -> xr.Dataset:
    """Return a Dataset whose variables read when they are looked at."""
    lacks = result.plan().executed_points > 0
    blocks = dict(zip(result.dims, _preferred(result), strict=True))
    variables = {}
    for name, (dtype, trailing) in sample.items():
        if lacks:
            dtype = filled(np.ma.MaskedArray(np.zeros(2, dtype), [True, False])).dtype
        array = StoredArray(result, name, dtype, trailing)
        names = _names(result, name, trailing, dims)
        variables[name] = (names, indexing.LazilyIndexedArray(array))
    states = None
    if lacks if status is None else status:
        states = indexing.LazilyIndexedArray(StoredArray(result, None, np.dtype(np.int8), ()))
    made = _dataset(result, variables, states)
    for variable in made.variables.values():
        if variable.dims[: len(result.dims)] == result.dims and result.dims:
            chosen = {dim: blocks[dim] for dim in result.dims}
            variable.encoding["preferred_chunks"] = {
                **chosen,
                **{dim: variable.sizes[dim] for dim in variable.dims if dim not in chosen},
            }
    return made


def _preferred(result: SweepResult) -> list[int]:
    """Return the chunk size along each dimension that is shown."""
    sizes = result.cache.chunk_spec
    named = zip(result.dims, result.shape, strict=True)
    return [max(1, min(size, sizes.get(name, size))) for name, size in named]


def _in_blocks(made: xr.Dataset, result: SweepResult, chunks: Any) -> xr.Dataset:
    """Let Dask read a lazy Dataset in blocks."""
    needed("dask", "notebook")
    if isinstance(chunks, Mapping):
        strange = [name for name in chunks if name not in made.sizes]
        if strange:
            raise SpecError(f"chunks names {strange[0]!r}; the dimensions are {list(made.sizes)}")
        preferred = dict(zip(result.dims, _preferred(result), strict=True))
        return made.chunk({**preferred, **chunks})
    if chunks == "auto":
        return made.chunk(_auto(made, result))
    return made.chunk(chunks)


def _auto(made: xr.Dataset, result: SweepResult) -> dict[str, int]:
    """Return blocks of whole chunks of some 64 MB, growing along the last axes first."""
    blocks = dict(zip(result.dims, _preferred(result), strict=True))
    sizes = [
        (_OBJECT if v.dtype.hasobject else v.dtype.itemsize)
        * math.prod(size for dim, size in v.sizes.items() if dim not in blocks)
        for v in made.data_vars.values()
    ]
    per_point = max(sizes, default=1)
    for name, length in reversed(list(zip(result.dims, result.shape, strict=True))):
        room = _BLOCK // max(1, per_point * math.prod(blocks.values()))
        if room > 1:
            blocks[name] = min(length, blocks[name] * room)
    return blocks


class StoredArray(BackendArray):
    """One variable of a result, which reads the points that it is indexed with.

    Parameters
    ----------
    result : SweepResult
        The results.
    name : str or None
        The variable; None for the status of the points.
    dtype : numpy.dtype
        Its dtype.
    trailing : tuple of int
        The shape of one output.
    """

    def __init__(
        self, result: SweepResult, name: str | None, dtype: np.dtype[Any], trailing: tuple[int, ...]
    ) -> None:
        self.result = replace(result, diagnostics=None, function=None, rerun=None)
        self.name = name
        self.dtype = dtype
        self.shape = (*result.shape, *trailing)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return some of the values."""
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:
        result = self.result
        dims = result.dims
        wanted = {
            name: index if isinstance(index, slice) else np.atleast_1d(index)
            for name, index in zip(dims, key, strict=False)
        }
        values = self._values(result.isel(**wanted))
        # Outer indices count each by itself: the last first, so that those before keep their places.
        for position, index in reversed(list(enumerate(key))):
            if position >= len(dims):
                values = values[(*(slice(None),) * position, index)]
            elif not isinstance(index, slice) and np.ndim(index) == 0:
                values = values[(*(slice(None),) * position, 0)]
        return values

    def _values(self, part: SweepResult) -> Array:
        """Return the values of all points of a part, in the dtype that was promised."""
        trailing = self.shape[len(part.dims) :]
        if self.name is None:
            return part.status
        if not part.points:
            return np.zeros((*part.shape, *trailing), self.dtype)
        read = part.read()
        if not read.variables:  # nothing of it is stored
            return self._promised(filled(spread(np.zeros((0, *trailing), self.dtype), np.ones(part.shape, bool))))
        if self.name not in read.variables:
            raise OutputError(
                f"some stored outputs of {part.name!r} have no {self.name!r}, but {list(read.variables)}; read"
                f" them at once, by to_xarray(lazy=False)"
            )
        variable = read.variables[self.name]
        if variable.trailing != trailing:
            raise OutputError(
                f"some outputs of {self.name!r} have the shape {variable.trailing}, others {trailing}; select"
                f" those of one shape"
            )
        return self._promised(filled(variable.values).reshape((*part.shape, *trailing)))

    def _promised(self, values: Array) -> Array:
        """Return values in the dtype that was learned from one file; they may be of another that fits into it."""
        if values.dtype == self.dtype:
            return values
        try:
            cast = values.astype(self.dtype)
            fits = np.can_cast(values.dtype, self.dtype, "safe") or _same(values, cast)
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise OutputError(
                f"some stored outputs of {self.name!r} are of the dtype {values.dtype}, which the {self.dtype} of"
                f" others cannot hold; read them at once, by to_xarray(lazy=False)"
            )
        return cast


def _same(values: Array, cast: Array) -> bool:
    try:
        back = cast.astype(values.dtype)
        return bool(np.array_equal(values, back, equal_nan=values.dtype.kind in "fc"))
    except (TypeError, ValueError):
        return False


# --- xarray.open_dataset ------------------------------------------------------------------------------------


class ChunkMemoBackend(BackendEntrypoint):
    """Lets ``xarray.open_dataset(folder, engine="chunk_memo")`` open the folder of a cache."""

    description = "Open a cache of chunk_memo, a folder of chunk files, as one lazy Dataset"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "dims", "status")

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        dims: Mapping[str, Sequence[str]] | Sequence[str] | None = None,
        status: bool | None = None,
    ) -> xr.Dataset:
        """Open a cache.

        Parameters
        ----------
        filename_or_obj : path-like
            The cache's folder, ``<root>/<cache_id>``.
        drop_variables : str or iterable of str, optional
            Variables to leave out.
        dims : sequence of str, or mapping, optional
            Names of the dimensions of one output, as in :meth:`SweepResult.to_xarray`.
        status : bool, optional
            Whether there is a coordinate ``status``; by default where not all points are stored.

        Returns
        -------
        xarray.Dataset
            The Dataset; values are read when they are looked at.

        Raises
        ------
        CacheNotFoundError
            Where the folder is no cache.
        """
        from chunk_memo.cache import ChunkCache

        path = Path(os.path.abspath(filename_or_obj))
        if not path.is_dir():
            raise CacheNotFoundError(f"'{path}' is no folder; pass that of a cache, <root>/<cache_id>")
        if not (path / "metadata.json").is_file():
            caches = sorted(each for each in path.iterdir() if (each / "metadata.json").is_file())
            way = f"such as '{caches[0]}', or chunk_memo.open('{path}')" if caches else "<root>/<cache_id>"
            kind = "a folder of caches" if caches else "no cache"
            raise CacheNotFoundError(f"'{path}' is {kind}; pass that of a cache, {way}")
        cache = ChunkCache.load_from_cache(path.parent, path.name)
        made = dataset(SweepResult.of(cache), lazy=True, dims=dims, status=status)
        dropped = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
        return made.drop_vars(dropped, errors="ignore")

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Tell whether a path is the folder of a cache.

        Parameters
        ----------
        filename_or_obj : object
            What ``xarray.open_dataset`` was given.

        Returns
        -------
        bool
            Whether it is.
        """
        try:
            path = Path(filename_or_obj)
            rooms = (path / room / "chunks" for room in ROOMS)
            return (path / "metadata.json").is_file() and any(each.is_dir() for each in rooms)
        except (TypeError, ValueError, OSError):
            return False
