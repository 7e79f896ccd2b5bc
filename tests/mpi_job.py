"""What the test of MPI starts: prints as JSON what the map did. It has no guard, as a user's script."""

from __future__ import annotations

import json

from mapping import Again, Unknown, square

from chunk_memo.errors import MapBrokenError, SpecError
from chunk_memo.maps.mpi import MPI

told: dict[str, object] = {"workers": MPI().workers}
told["squares"] = sorted(done.result for done in MPI().run(square, iter(range(200))))

again = Again([1, 2])
came: list[int] = []
for outcome in MPI(window=1).run(square, again):
    came.append(outcome.task)
    if outcome.task in (1, 2):
        again.tasks.append(outcome.task + 10)
told["again"] = sorted(came)

windowed = Again(list(range(100)))
run = MPI(window=5).run(square, windowed)
next(run)
run.close()
told["taken"] = windowed.taken

try:
    list(MPI().run(Unknown(), iter([1])))
except MapBrokenError as error:
    told["unknown"] = str(error)

from mpi4py.futures import MPIPoolExecutor  # noqa: E402

with MPIPoolExecutor(main=False) as executor:
    told["own executor"] = [
        MPI(executor).workers,
        sum(done.result for done in MPI(executor).run(square, iter([3]))),
    ]
    try:
        MPI(executor, max_workers=2)
    except SpecError as error:
        told["refused"] = str(error)

print(json.dumps(told))
