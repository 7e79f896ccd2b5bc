"""How each library sweeps a grid, reads it again, answers for one point, and takes one value more.

Every contestant gets the function that its documentation asks for: one call per point, save where the library
knows only arrays. All but chunk_memo leave syncing to the operating system.
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.grids import Shape, surface, sweep_over, through_call

__all__ = ["CHUNK", "CONTESTANTS", "Contestant", "value"]

CHUNK: Shape = (10, 100)
"""Points of a chunk along both axes, for those that store chunks."""


def value(x: int, y: int) -> float:
    """Return a number for one point; it costs next to nothing."""
    return x * (y + 0.5)


class Contestant:
    """One library at work on a grid; the base class says what is asked of it.

    Parameters
    ----------
    folder : Path
        An empty folder.
    shape : tuple of int
        Points along both axes.
    """

    name: ClassVar[str]
    """The library and what of it is used."""
    package: ClassVar[str]
    """What must be installed."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.root = folder / "stored"
        self.rows, self.columns = shape
        self.open()

    @classmethod
    def missing(cls) -> str:
        """Return why this library cannot take part, or an empty text."""
        return "" if importlib.util.find_spec(cls.package) else f"{cls.package} is not installed"

    @property
    def axes(self) -> tuple[list[int], list[int]]:
        """The values of both axes."""
        return list(range(self.rows)), list(range(self.columns))

    def open(self) -> None:
        """Make the objects that a program makes when it starts."""
        raise NotImplementedError

    def sweep(self) -> Any:
        """Return all values; those that are not stored are computed."""
        raise NotImplementedError

    def one(self, x: int, y: int) -> Any:
        """Return the value of a stored point."""
        raise NotImplementedError

    def grow(self) -> Any:
        """Return all values after the first axis got one more."""
        self.rows += 1
        return self.sweep()

    def close(self) -> None:
        """Let go of what is open."""

    # --- what is timed -------------------------------------------------------------------------------------

    def timed(self, task: str, *arguments: int) -> float:
        """Do one of the tasks below, and return the seconds that it took."""
        if task == "cold":
            self.close()
            shutil.rmtree(self.root, ignore_errors=True)
        start = time.perf_counter()
        self.did = getattr(self, task)(*arguments)
        return time.perf_counter() - start

    def cold(self) -> Any:
        """Sweep with nothing stored."""
        self.open()
        return self.sweep()

    def warm(self) -> Any:
        """Sweep with everything stored, by new objects."""
        self.close()
        self.open()
        return self.sweep()

    def answer(self) -> np.ndarray:
        """Return what the last task gave, as an array of the grid's shape."""
        return np.asarray(self.did, dtype=float).reshape(self.rows, self.columns)


class Ours(Contestant):
    """chunk_memo with a function of arrays."""

    name = "chunk_memo"
    package = "chunk_memo"
    _how: ClassVar[tuple[Callable[..., Any], bool]] = (surface, False)
    _durability: ClassVar[str] = "full"

    def open(self) -> None:
        """Declare the grid and decorate the function."""
        function, vectorize = self._how
        shape = (self.rows, self.columns)
        options: dict[str, Any] = {"vectorize": vectorize, "durability": self._durability}
        self._function = sweep_over(self.root, shape, CHUNK, function, **options)

    def sweep(self) -> Any:
        """Call it for all points."""
        return self._function()[0]

    def one(self, x: int, y: int) -> Any:
        """Call it for one point."""
        return through_call(self._function, x=x, y=y)

    def grow(self) -> Any:
        """Call it for one value more."""
        self.rows += 1
        return self._function(x=self.axes[0], extend_cache=True)[0]


class OursUnsynced(Ours):
    """chunk_memo where it leaves syncing to the operating system, as the others do."""

    name = "chunk_memo, not synced"
    _durability = "fast"


class OursPerPoint(Ours):
    """chunk_memo with a function of one point."""

    name = "chunk_memo, one call per point"
    _how = (value, True)


class JoblibMemory(Contestant):
    """joblib.Memory: one result per call."""

    name = "joblib.Memory"
    package = "joblib"

    def open(self) -> None:
        """Decorate the function."""
        import joblib

        self._function = joblib.Memory(self.root, verbose=0).cache(value)

    def sweep(self) -> Any:
        """Call it for each point."""
        xs, ys = self.axes
        return [[self._function(x, y) for y in ys] for x in xs]

    def one(self, x: int, y: int) -> Any:
        """Call it for one point."""
        return self._function(x, y)


class DiskcacheMemoize(JoblibMemory):
    """diskcache: one result per call."""

    name = "diskcache memoize"
    package = "diskcache"

    def open(self) -> None:
        """Decorate the function; without the limit of 1 GB, beyond which results would be evicted."""
        import diskcache

        self._cache = diskcache.Cache(str(self.root), eviction_policy="none")
        self._function = self._cache.memoize()(value)

    def close(self) -> None:
        """Close the database."""
        self._cache.close()


class PipefuncMap(Contestant):
    """pipefunc: a map over two axes into a run folder."""

    name = "pipefunc map"
    package = "pipefunc"

    def open(self) -> None:
        """Make the pipeline; in one process, which is quickest for a function that costs nothing."""
        from pipefunc import Pipeline, pipefunc

        self._pipeline = Pipeline([pipefunc(output_name="z", mapspec="x[i], y[j] -> z[i, j]")(value)])

    def sweep(self) -> Any:
        """Map, and go on with what the run folder holds."""
        return self._map(resume=self.root.exists())

    def one(self, x: int, y: int) -> Any:
        """Load the outputs of the run, and take the point."""
        from pipefunc.map import load_outputs

        return load_outputs("z", run_folder=self.root)[x, y]

    def grow(self) -> Any:
        """Map anew: a run folder takes no further values."""
        self.rows += 1
        return self._map(resume=False)

    def _map(self, *, resume: bool) -> Any:
        xs, ys = self.axes
        found = self._pipeline.map(
            {"x": xs, "y": ys},
            run_folder=self.root,
            parallel=False,
            storage="file_array",
            show_progress=False,
            resume=resume,
        )
        return found["z"].output


class XyzpyHarvester(Contestant):
    """xyzpy: a Harvester with one netCDF file."""

    name = "xyzpy Harvester"
    package = "xyzpy"

    def open(self) -> None:
        """Label the function and name the file."""
        import xyzpy

        self.root.mkdir(exist_ok=True)
        runner = xyzpy.Runner(value, var_names=["out"])
        self._harvester = xyzpy.Harvester(runner, data_name=str(self.root / "data.nc"))

    def sweep(self) -> Any:
        """Harvest what is missing."""
        xs, ys = self.axes
        self._harvester.harvest_combos({"x": xs, "y": ys}, missing_only=True, verbosity=0)
        return self._harvester.full_ds["out"].values

    def warm(self) -> Any:
        """Read the file, which is all that it takes."""
        self.open()
        return self._harvester.full_ds["out"].values

    def one(self, x: int, y: int) -> Any:
        """Select the point in the dataset, which is in memory by now."""
        return self._harvester.full_ds["out"].sel(x=x, y=y).item()


class ZarrArray(Contestant):
    """zarr: an array, written chunk by chunk; the program must know itself what is stored."""

    name = "zarr array"
    package = "zarr"

    def open(self) -> None:
        """Open the array if it is there."""
        import zarr

        self._array: Any = zarr.open_array(self.root) if self.root.exists() else None

    def sweep(self) -> Any:
        """Write what is not there yet, and read all."""
        import zarr

        xs, ys = self.axes
        if self._array is None:
            shape = (self.rows, self.columns)
            self._array = zarr.create_array(store=self.root, shape=shape, chunks=CHUNK, dtype="float64")
            for start in range(0, self.rows, CHUNK[0]):
                self._array[start : start + CHUNK[0]] = surface(xs[start : start + CHUNK[0]], ys)
        return self._array[:]

    def one(self, x: int, y: int) -> Any:
        """Index the array."""
        return self._array[x, y]

    def grow(self) -> Any:
        """Append a row, and read all."""
        self.rows += 1
        self._array.append(surface([self.rows - 1], self.axes[1]))
        return self._array[:]


CONTESTANTS: tuple[type[Contestant], ...] = (
    Ours,
    OursUnsynced,
    OursPerPoint,
    JoblibMemory,
    DiskcacheMemoize,
    PipefuncMap,
    XyzpyHarvester,
    ZarrArray,
)
"""All that can run in this process; the first one is ours."""
