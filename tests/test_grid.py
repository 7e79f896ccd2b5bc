"""Axes, bins and chunk sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunk_memo import SpecError, UnknownAxisError, UnknownValueError
from chunk_memo.binning import new_layouts
from chunk_memo.grid import AxisBins, Bins, Grid, chunk_sizes, enumerate_boxes, make_axis
from chunk_memo.identity import canonical_many


def grid(sizes: dict[str, int], **values: Any) -> Grid:
    """Return a grid over these axes."""
    axes = tuple(make_axis(name, vs) for name, vs in values.items())
    return Grid(axes, chunk_sizes(sizes, values, axes))


@pytest.mark.parametrize(
    ("given_values", "expected"),
    [
        ([3, 1, 2], (3, 1, 2)),
        ((1, 1, 2), (1, 2)),
        (range(3), (0, 1, 2)),
        (np.array([0.5, 0.25]), (0.5, 0.25)),
        (np.array(["b", "a"]), ("b", "a")),
        ({3, 1, 2}, (1, 2, 3)),
        ({"b": 1, "a": 2}, ("a", "b")),
        ((x for x in [2, 1]), (1, 2)),
        ([1, 1.0, True], (1, 1.0, True)),
        ([[1, 2], [1, 2], {"k": 1}], ([1, 2], {"k": 1})),
    ],
)
def test_sequences_keep_their_order_and_others_are_sorted(given_values: Any, expected: Any) -> None:
    """Sequences and arrays keep their order, other iterables are sorted, duplicates collapse."""
    assert repr(expected) == repr(make_axis("s", given_values).values)


def test_numpy_scalars_become_python_scalars() -> None:
    """Values that equal a Python value are passed on as that; other dtypes stay."""
    values = make_axis("s", [np.int64(1), np.float64(0.5), np.float32(0.5)]).values
    assert [int, float, np.float32] == [type(value) for value in values]


def test_default_chunk_sizes() -> None:
    """Left out, a size is the full length for sequences and arrays, and 1 for others."""
    values: dict[str, Any] = {"a": [1, 2], "b": (1, 2, 3), "c": range(4), "d": np.arange(5), "e": {1, 2}}
    axes = [make_axis(name, vs) for name, vs in values.items()]
    assert {"a": 2, "b": 3, "c": 4, "d": 5, "e": 1} == chunk_sizes(None, values, axes)


@given(st.lists(st.integers(0, 30), min_size=1), st.integers(1, 7), st.lists(st.integers(0, 30), min_size=1))
def test_a_value_that_has_a_bin_keeps_it(first: list[int], size: int, second: list[int]) -> None:
    """New values are binned in declared order; old bins never change."""
    bins = Bins()
    for values in (first, [*second, *first]):
        declared = grid({"s": size}, s=values)
        before = [bins.of("s").values_of(number) for number in range(len(bins.of("s")))]
        for layout in new_layouts(declared, bins, "v1", None):
            assert all(len(group) <= size for group in layout.bins["s"])
            layout.add_to(bins)
        after = [bins.of("s").values_of(number) for number in range(len(bins.of("s")))]
        assert before == after[: len(before)]
        assert {} == bins.unbinned(declared)
    assert not bins.of("s").overlapping


def test_equal_bins_are_one() -> None:
    """Adding a bin that is there returns its number; another order is another bin."""
    bins = AxisBins()
    numbers = [bins.add(vs, canonical_many(vs)) for vs in ([1, 2], [1, 2], [2, 1], [1])]
    assert [0, 0, 1, 2] == numbers
    assert [0, 3, 4] == bins.positions(canonical_many([1])[0])
    assert bins.digests(0) != bins.digests(1)


def test_a_copy_takes_no_part_in_the_original() -> None:
    """Bins added to a copy are not in the original."""
    bins = Bins()
    bins.of("s").add([1], canonical_many([1]))
    twin = bins.copied()
    twin.of("s").add([2], canonical_many([2]))
    twin.of("t").add([2], canonical_many([2]))
    assert (1, 0) == (len(bins.of("s")), len(bins.of("t")))


def test_enumerated_chunks_are_disjoint_and_declared() -> None:
    """Overlaps, unknown values and missing axes are refused."""
    declared = grid({}, s=[1, 2], t=["a"])
    assert [{"s": [1], "t": [0]}] == enumerate_boxes(lambda _: [(("t", ("a",)), ("s", (2,)))], declared)
    with pytest.raises(SpecError, match="overlap at"):
        enumerate_boxes(lambda _: [(("t", ("a",)), ("s", (1, 2))), (("t", ("a",)), ("s", (2,)))], declared)
    with pytest.raises(UnknownValueError, match="3"):
        enumerate_boxes(lambda _: [(("t", ("a",)), ("s", (3,)))], declared)
    with pytest.raises(SpecError, match="each of"):
        enumerate_boxes(lambda _: [(("s", (1,)),)], declared)


def test_an_unknown_axis_is_named() -> None:
    """The message lists the axes that are there."""
    with pytest.raises(UnknownAxisError, match=r"'u'.*\['s', 't'\]"):
        grid({}, s=[1], t=[2]).axis("u")
