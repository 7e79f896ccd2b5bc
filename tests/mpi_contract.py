"""What the contract's test starts under MPI: goes through all checks, and prints as JSON which were kept."""

from __future__ import annotations

import json
import tempfile
import traceback
import warnings
from pathlib import Path

import contract

from chunk_memo import FailureWarning

warnings.simplefilter("ignore", FailureWarning)
told = {}
for name, check in contract.CHECKS.items():
    with tempfile.TemporaryDirectory() as folder:
        try:
            check(Path(folder), "mpi")
            told[name] = "kept"
        except Exception:
            told[name] = traceback.format_exc()
print(json.dumps(told))
