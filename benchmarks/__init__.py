"""How fast, as ratios to the plainest way to do the same and to rivals, measured in one run.

``python -m benchmarks`` measures all subjects, or those that are named, and prints Markdown tables:

==============  ====================================================================================
`reads`         warm reads of whole grids, against h5py and bare system calls
`writes`        cold sweeps, synced and not
`points`        calls for one point, against diskcache and joblib
`records`       dicts of numbers and a string, against pickle
`inserts`       a value in the middle of an axis, against a warm read
`extensions`    one more value after very many
`planning`      plans of a million chunks; what a chunk costs among 100,000
`streaming`     peak memory of a stream
`safety`        commits and verified loads of 8 MB in memory, against plain h5py
`imports`       ``import chunk_memo`` against ``import numpy``
`rivals`        the same sweep by joblib, diskcache, pipefunc, xyzpy, zarr and the older package
`growth`        cost per chunk from 100 to 100,000 chunks, with a picture
==============  ====================================================================================

`timing` lets the ways to do one thing take turns, `report` makes the tables, `grids` and `bare` hold what the
subjects share. The modules ``bench_*.py`` run the same cases at a small size under pytest, as ordinary tests,
or timed with ``--benchmark-enable``.
"""
