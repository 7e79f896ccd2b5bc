"""Pictures of results, of what is stored and of what runs did, by matplotlib.

Each function draws on axes that it is given, or makes a figure of its own, and returns what it drew on, so that
anything can be changed afterwards. Titles, labels and units come from the results: names of axes and variables,
``metadata={"units": …, "long_name": …}`` of the memo, and params.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from chunk_memo.errors import SpecError, UnknownAxisError
from chunk_memo.results import STATUS, SweepResult, Variable, filled

if TYPE_CHECKING:
    from chunk_memo.display.history import RunHistory

__all__ = ["plot_coverage", "plot_result", "plot_timeline"]

_MOST_LINES = 12
"""Lines in one picture."""

_MOST_PICTURES = 24

_COLOURS = ("#c9ced6", "#1a6fb5", "#c62828")
"""Missing, stored, failed."""


def _pyplot() -> Any:
    from chunk_memo.tables.needs import needed

    needed("matplotlib", "notebook")
    import matplotlib.pyplot as plt

    return plt


# --- results ------------------------------------------------------------------------------------------------


def plot_result(
    result: SweepResult,
    *,
    x: str | None = None,
    y: str | None = None,
    hue: str | None = None,
    col: str | None = None,
    value: str | None = None,
    ax: Any = None,
) -> Any:
    """Draw results; see :meth:`SweepResult.plot`.

    Parameters
    ----------
    result : SweepResult
        The results.
    x, y, hue, col : str, optional
        Axes to draw along, in colours, and in pictures of their own.
    value : str, optional
        The variable, where there are several.
    ax : matplotlib.axes.Axes, optional
        Where to draw a single picture.

    Returns
    -------
    matplotlib.axes.Axes, or ndarray of them
        What was drawn on.
    """
    plt = _pyplot()
    variable = _chosen(result, value)
    data = _numbers(variable)
    if result.design.dims == ("case",) and "case" in result.dims:
        return _draw_cases(plt, result, data.reshape(-1), variable.name, x, y, ax)
    data = data.reshape(result.shape)
    roles = _roles(result, x, y, hue, col)
    order = [roles[role] for role in ("col", "y", "hue", "x") if role in roles]
    data = np.transpose(data, [result.dims.index(name) for name in order])
    if "col" not in roles:
        axes = ax if ax is not None else plt.subplots(layout="constrained")[1]
        _draw(axes, result, data, roles, variable.name, _span(data))
        axes.set_title(_title(result))
        return axes
    if ax is not None:
        raise SpecError(
            f"col={roles['col']!r} makes several pictures, which one ax cannot hold; leave one of them out"
        )
    labels = _values(result, roles["col"])
    if len(labels) > _MOST_PICTURES:
        raise SpecError(
            f"col={roles['col']!r} would make {len(labels)} pictures; select some of its values by sel(…)"
        )
    columns = min(4, len(labels))
    rows = -(-len(labels) // columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(3.2 * columns + 0.8, 2.8 * rows + 0.4),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    span = _span(data)
    for number, axes in enumerate(grid.reshape(-1)):
        if number >= len(labels):
            axes.set_visible(False)
            continue
        _draw(axes, result, data[number], roles, variable.name, span)
        axes.set_title(f"{roles['col']} = {_text(labels[number])}")
        axes.label_outer()
    figure.suptitle(_title(result))
    return grid


def _chosen(result: SweepResult, value: str | None) -> Variable:
    variables = result.read().variables
    if value is not None and value not in variables:
        raise SpecError(f"there is no variable {value!r}; the variables are {list(variables)}")
    if value is None:
        scalar = [
            name for name, each in variables.items() if not each.trailing and each.values.dtype.kind in "biuf"
        ]
        if not scalar:
            raise SpecError(
                f"none of {list(variables)} is one number per point, so that there is nothing to draw;"
                f" result.to_pandas() shows what there is"
            )
        value = scalar[0]
    if variables[value].trailing:
        raise SpecError(
            f"{value!r} is an array of the shape {variables[value].trailing} at each point; reduce it first, as"
            f" in result.to_xarray()[{value!r}].mean(…).plot()"
        )
    return variables[value]


def _numbers(variable: Variable) -> npt.NDArray[Any]:
    values = filled(variable.values)
    try:
        return np.asarray(values, float)
    except (TypeError, ValueError):
        raise SpecError(
            f"{variable.name!r} is no number (dtype {values.dtype}), so it cannot be drawn; name another one by"
            f" value=…"
        ) from None


def _roles(result: SweepResult, x: str | None, y: str | None, hue: str | None, col: str | None) -> dict[str, str]:
    """Give each axis its part: along, up, in colours, in pictures of its own."""
    given = {"x": x, "y": y, "hue": hue, "col": col}
    roles = {role: name for role, name in given.items() if name is not None}
    for role, name in roles.items():
        if name not in result.dims:
            raise UnknownAxisError(f"{role}={name!r} is no axis; the axes are {list(result.dims)}")
    if len(set(roles.values())) < len(roles):
        raise SpecError(f"an axis can have one part only, got {roles}")
    if "y" in roles and "hue" in roles:
        raise SpecError(
            "y= makes a map, in which the colours are the values, so hue= has no place; leave one out"
        )
    left = [name for name in result.dims if name not in roles.values()]
    by_length = sorted(
        left, key=lambda name: (not _is_numeric(_values(result, name)), -len(_values(result, name)))
    )
    if "x" not in roles and by_length:
        roles["x"] = by_length.pop(0)
    if by_length and not {"y", "hue"} & roles.keys():
        few = len(_values(result, by_length[0])) <= _MOST_LINES
        roles["hue" if few else "y"] = by_length.pop(0)
    if by_length and "col" not in roles:
        roles["col"] = by_length.pop(0)
    if by_length:
        raise SpecError(
            f"{by_length} are left over: a picture shows three axes at most; choose values of the others, as in"
            f" result.sel({by_length[0]}=…).plot()"
        )
    return roles


def _values(result: SweepResult, name: str) -> list[Any]:
    found: list[Any] = result.coords[name]
    return found


def _is_numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in values)


def _places(values: Sequence[Any]) -> npt.NDArray[Any]:
    """Return where values stand along a picture's edge: numbers as such, others one behind the other."""
    return np.asarray(values, float) if _is_numeric(values) else np.arange(len(values), dtype=float)


def _text(value: Any, most: int = 24) -> str:
    said = f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
    said = "".join(char if char.isprintable() else "�" for char in said[: most + 1])
    said = said if len(said) <= most else f"{said[: most - 1]}…"
    return said.replace("$", r"\$")


def _label(result: SweepResult, name: str) -> str:
    """Return what an edge is called: the long name or the name, and the unit."""
    metadata = result.cache.metadata

    def known(what: str) -> str:
        mapping = metadata.get(what)
        return str(mapping.get(name, "")) if isinstance(mapping, Mapping) else ""

    unit = known("units")
    return _text(known("long_name") or name, 40) + (f" [{_text(unit, 20)}]" if unit else "")


def _title(result: SweepResult) -> str:
    """Return the function's name, the params, and what was selected."""
    chosen = {name: value for name, value in result.coords.items() if not isinstance(value, list)}
    shown = [f"{name}={_text(value)}" for name, value in [*result.params.items(), *chosen.items()][:5]]
    return _text(result.name, 40) + (f" ({', '.join(shown)})" if shown else "")


def _span(data: npt.NDArray[Any]) -> tuple[float, float] | None:
    there = data[np.isfinite(data)]
    return (float(there.min()), float(there.max())) if there.size else None


def _edge(axis: Any, values: Sequence[Any], label: str) -> None:
    """Name an edge, and what stands along it where that is no number."""
    axis.set_label_text(label)
    if not _is_numeric(values):
        axis.set_ticks(range(len(values)), [_text(value) for value in values])


def _draw(
    axes: Any,
    result: SweepResult,
    data: npt.NDArray[Any],
    roles: Mapping[str, str],
    name: str,
    span: tuple[float, float] | None,
) -> None:
    if not roles.get("x"):
        axes.plot([0], data.reshape(-1), "o")
        axes.set_ylabel(_label(result, name))
        axes.set_xticks([])
        return
    along = _values(result, roles["x"])
    _edge(axes.xaxis, along, _label(result, roles["x"]))
    if "y" in roles:
        up = _values(result, roles["y"])
        _edge(axes.yaxis, up, _label(result, roles["y"]))
        _draw_map(axes, _places(along), _places(up), data, _label(result, name), span)
        return
    axes.set_ylabel(_label(result, name))
    places = _places(along)
    order = np.argsort(places, kind="stable")
    style = "-o" if len(along) <= 40 else "-"
    rows = data if "hue" in roles else data[np.newaxis]
    labels = [_text(value) for value in _values(result, roles["hue"])] if "hue" in roles else [None]
    if len(rows) > _MOST_LINES * 4:
        raise SpecError(f"hue={roles['hue']!r} would make {len(rows)} lines; use y={roles['hue']!r} for a map")
    for row, label in zip(rows, labels, strict=True):
        axes.plot(places[order], row[order], style, markersize=3, label=label)
    if "hue" in roles:
        axes.legend(title=_label(result, roles["hue"]), fontsize="small")


def _draw_map(
    axes: Any,
    across: npt.NDArray[Any],
    up: npt.NDArray[Any],
    data: npt.NDArray[Any],
    label: str,
    span: tuple[float, float] | None,
) -> None:
    low, high = span if span is not None else (None, None)
    columns, rows = np.argsort(across, kind="stable"), np.argsort(up, kind="stable")
    mesh = axes.pcolormesh(
        across[columns], up[rows], data[np.ix_(rows, columns)], shading="nearest", vmin=low, vmax=high
    )
    axes.figure.colorbar(mesh, ax=axes, label=label)


def _draw_cases(
    plt: Any, result: SweepResult, data: npt.NDArray[Any], name: str, x: str | None, y: str | None, ax: Any
) -> Any:
    """Draw points that form no grid: over one axis, or over two with the value in colours."""
    names = [axis for axis, values in result.coords.items() if _is_numeric(values)] or list(result.coords)
    for role, given in (("x", x), ("y", y)):
        if given is not None and given not in result.coords:
            raise UnknownAxisError(f"{role}={given!r} is no axis; the axes are {list(result.coords)}")
    x = x or next(axis for axis in names if axis != y)
    y = y or next((axis for axis in names if axis != x), None)
    axes = ax if ax is not None else plt.subplots(layout="constrained")[1]
    along = _values(result, x)
    _edge(axes.xaxis, along, _label(result, x))
    if y is None:
        axes.scatter(_places(along), data, s=12)
        axes.set_ylabel(_label(result, name))
    else:
        up = _values(result, y)
        _edge(axes.yaxis, up, _label(result, y))
        dots = axes.scatter(_places(along), _places(up), c=data, s=12)
        axes.figure.colorbar(dots, ax=axes, label=_label(result, name))
    axes.set_title(_title(result))
    return axes


# --- what is stored -----------------------------------------------------------------------------------------


def plot_coverage(result: SweepResult, *, ax: Any = None) -> Any:
    """Draw which points are stored, missing and failed; see :meth:`SweepResult.plot_coverage`.

    Parameters
    ----------
    result : SweepResult
        The results.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on: the first axis runs down, the last one to the right, others one below the other.
    """
    plt = _pyplot()
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    axes = ax if ax is not None else plt.subplots(figsize=(6.4, 3.6), layout="constrained")[1]
    status = result.status
    flat = status.reshape(-1, status.shape[-1]) if status.ndim else status.reshape(1, 1)
    axes.imshow(flat, cmap=ListedColormap(_COLOURS), vmin=0, vmax=2, aspect="auto", interpolation="nearest")
    names = result.dims
    _positions(
        axes.xaxis, _values(result, names[-1]) if names and names[-1] in result.coords else [], flat.shape[1]
    )
    axes.set_xlabel(_label(result, names[-1]) if names else "")
    if len(names) == 2:
        _positions(axes.yaxis, _values(result, names[0]), flat.shape[0])
        axes.set_ylabel(_label(result, names[0]))
    else:
        axes.set_yticks([])
        axes.set_ylabel(" × ".join(_label(result, name) for name in names[:-1]))
    counts = [int((status == state).sum()) for state in range(3)]
    patches = [
        Patch(color=_COLOURS[state], label=f"{STATUS[state]} ({counts[state]:,})")
        for state in (1, 0, 2)
        if counts[state]
    ]
    axes.legend(handles=patches, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small", frameon=False)
    axes.set_title(_title(result))
    return axes


def _positions(axis: Any, values: Sequence[Any], length: int) -> None:
    """Name some positions along an edge by the values that stand there."""
    step = max(1, -(-length // 8))
    places = list(range(0, length, step))
    axis.set_ticks(places, [_text(values[place]) if place < len(values) else str(place) for place in places])


# --- what runs did ------------------------------------------------------------------------------------------


def plot_timeline(history: RunHistory, *, ax: Any = None) -> Any:
    """Draw what each worker was at: a bar for each chunk, from its begin to its end.

    Parameters
    ----------
    history : RunHistory
        What was observed.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.
    """
    plt = _pyplot()
    rows = [row for row in history.to_dicts() if row["outcome"] in ("done", "failed")]
    axes = ax if ax is not None else plt.subplots(figsize=(6.4, 3.2), layout="constrained")[1]
    lanes: list[tuple[str, Any]] = []
    begin = min((row["started_at"] for row in rows), default=None)
    colours = {"done": _COLOURS[1], "failed": _COLOURS[2]}
    for row in sorted(rows, key=lambda row: (row["worker"], row["started_at"])):
        start = (row["started_at"] - begin).total_seconds()
        axes.broken_barh(
            [(start, max(row["seconds"], 1e-9))],
            (_lane(lanes, row) - 0.4, 0.8),
            facecolor=colours[row["outcome"]],
            edgecolor="white",
            linewidth=0.5,
        )
    first = {worker: number for number, (worker, _) in reversed(list(enumerate(lanes)))}
    first = dict(sorted(first.items(), key=lambda item: item[1]))
    axes.set_yticks(list(first.values()), [_text(worker) for worker in first])
    axes.invert_yaxis()
    axes.set_xlabel("seconds since the first chunk began")
    names = ", ".join(dict.fromkeys(_text(row["name"], 40) for row in rows if row["name"]))
    points = sum(row["points"] for row in rows if row["outcome"] == "done")
    axes.set_title(f"{names or 'run'}: {len(rows):,} chunks, {points:,} points")
    return axes


def _lane(lanes: list[tuple[str, Any]], row: Mapping[str, Any]) -> int:
    """Return the first free lane of a worker: threads of one process share its name."""
    slack = (row["ended_at"] - row["started_at"]) / 100
    for number, (worker, end) in enumerate(lanes):
        if worker == row["worker"] and end <= row["started_at"] + slack:
            lanes[number] = (worker, row["ended_at"])
            return number
    lanes.append((row["worker"], row["ended_at"]))
    return len(lanes) - 1
