"""Walk through the parts: decorator, subsets, status, streaming, direct caches, auto_load.

Everything is kept in a temporary folder, which is removed at the end.
"""

from __future__ import annotations

import functools
import tempfile

from chunk_memo import (
    ChunkCache,
    ChunkMemo,
    auto_load,
    params_to_cache_id,
    run,
    run_streaming,
)

AXIS_VALUES = {"strat": ["aaa", "bb"], "s": [1, 2, 3, 4]}
CHUNK_SPEC = {"strat": 1, "s": 3}


def headline(text):
    """Print a line above each part."""
    print(f"\n--- {text}")


def tell(diag):
    """Print what a call computed and what it found."""
    print(
        f"executed {diag.executed_chunks} chunks ({diag.executed_points} points), "
        f"cached {diag.cached_chunks} chunks ({diag.cached_points} points)"
    )


def decorated(root):
    """Memoize a function; ask for all, for a part, and by position."""
    memo = ChunkMemo(root=root, chunk_spec=CHUNK_SPEC, axis_values=AXIS_VALUES)

    @memo.cache()
    def foo(alpha, strat, s):
        return [
            {"alpha": alpha, "strat": each, "s": n, "value": len(each) + alpha * n} for each in strat for n in s
        ]

    headline("a decorated function, called for a part of its grid")
    output, diag = foo(alpha=0.5, strat=["aaa", "bb"], s=[1, 2])
    for row in output:
        print(row)
    tell(diag)

    headline("the whole grid: only what is missing is computed")
    output, diag = foo(alpha=0.5)
    tell(diag)

    headline("a subset, in another order, and the same by position")
    output, diag = foo(alpha=0.5, strat="bb", s=[4, 1])
    by_position, _ = foo(alpha=0.5, axis_indices={"strat": 1, "s": [3, 0]})
    print([row["value"] for row in output], output == by_position)
    tell(diag)

    headline("what is stored, for two values of alpha")
    for alpha in (0.5, 0.6):
        status = foo.cache_status(alpha=alpha)
        print(f"alpha {alpha}: {len(status['cached_chunks'])} of {status['total_chunks']} chunks")


def streamed(root):
    """Fill a cache without keeping the outputs in memory."""
    memo = ChunkMemo(root=root, chunk_spec=CHUNK_SPEC, axis_values=AXIS_VALUES)

    @memo.stream_cache()
    def squares(strat, s):
        return [len(each) * n**2 for each in strat for n in s]

    headline("streaming: to disk, one chunk in memory at a time")
    diag = squares()
    tell(diag)
    print(f"at most {diag.max_stream_items} points in memory at once")


def area(params, strat, s):
    """Return one output per point, in the order of the axes by name: s, then strat."""
    return [params["alpha"] * n * len(each) for n in s for each in strat]


def direct(root):
    """Make a cache by hand and let a runner fill it; then find it again from its params."""
    params = {"alpha": 0.5}
    work = functools.partial(area, params)
    broad = ChunkCache(
        root=root,
        cache_id=params_to_cache_id(params),
        metadata={"params": params},
        chunk_spec=CHUNK_SPEC,
        axis_values=AXIS_VALUES,
    )

    headline("a cache made by hand, and a slice of it")
    tell(run_streaming(broad, work))
    output, diag = run(broad.slice(strat=["aaa"], s=[1, 2]), work)
    print(output)
    tell(diag)

    headline("auto_load: the broad cache serves a narrower grid")
    memo = auto_load(root=root, params=params, axis_values={"strat": ["aaa"], "s": [3]}, allow_superset=True)
    output, diag = run(memo.cache_for_params(params), work)
    print(output)
    tell(diag)


def main():
    """Take the walk."""
    with tempfile.TemporaryDirectory() as root:
        decorated(root)
        streamed(root)
        direct(root)


if __name__ == "__main__":
    main()
