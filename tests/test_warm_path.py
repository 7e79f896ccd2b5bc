"""A warm call touches chunk files and layouts, reads only, takes no lock and needs no HDF5 library."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]

PROGRAM = """
import sys
import numpy as np
from chunk_memo import ChunkMemo

root, width = sys.argv[1], int(sys.argv[2])
memo = ChunkMemo(root, {"x": 3, "y": 4}, {"x": list(range(9)), "y": list(range(8))}, verbose=0)

@memo.cache(version="1")
def sweep(x, y):
    return np.add.outer(np.add.outer(np.asarray(x), np.asarray(y)), np.arange(width))

@memo.cache(version="1")
def dicts(x, y):
    return [{"x": a, "y": b, "word": "word", "number": a / 7} for a in x for b in y]

subset = {"x": [7, 1], "y": [6, 0, 5]}
executed = [
    function(**request)[1].executed_points for function in (sweep, dicts) for request in (subset, {})
]
heavy = {"h5py", "h5netcdf", "netCDF4", "xarray", "pandas", "polars", "pyarrow", "joblib", "tqdm", "click"}
print(sum(executed), sorted(heavy & set(sys.modules)))
"""


def called(root: Path, width: int, *before: str) -> str:
    """Make the calls in a fresh process; return what it says of points executed and modules imported."""
    program = root.parent / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [*before, sys.executable, "-W", "error", program, root, str(width)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("width", [1, 2000], ids=["small files", "large files"])
class TestWarmCall:
    """A second process asks for some of what is stored, and for all of it."""

    def test_no_heavy_import(self, tmp_path: Path, width: int) -> None:
        """Nothing is executed, and neither h5py nor another heavy package is imported."""
        assert called(tmp_path / "root", width).startswith("144 ['h5py'")
        assert "0 []" == called(tmp_path / "root", width)

    @pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
    def test_system_calls(self, tmp_path: Path, width: int) -> None:
        """Only chunk files and layouts are opened, all for reading; no lock, no write, no HDF5 library."""
        root, log = tmp_path / "root", tmp_path / "calls"
        called(root, width)
        before = snapshot(root)
        probe = ["strace", "-f", "-qq", "-y", "-s", "4096", "-o", str(log), "-e", "trace=%file,%desc"]
        assert "0 []" == called(root, width, *probe)
        assert before == snapshot(root)
        lines = [line.partition(" ")[2].strip() for line in log.read_text().splitlines()]
        opened = [line for line in lines if re.match(r"open(at)?\(", line)]
        assert [] == [line for line in opened if re.search(r"libhdf5|h5py|netcdf", line, re.IGNORECASE)]
        assert [] == [line for line in lines if re.match(r"flock\(|fcntl\(.*F_(OFD_)?SETLK", line)]
        inside = [line for line in lines if f'"{root}/' in line or f"<{root}/" in line]
        opened = [line for line in opened if line in inside]
        assert len([line for line in opened if '.h5"' in line]) >= 18  # else strace saw nothing
        assert [] == [line for line in opened if "O_RDONLY" not in line]
        known = re.compile(
            r'/[0-9a-f]{32}(/chunks/([0-9a-f]{32}\.h5)?|/(layouts/)?[^/"]*\.json|/layouts)?"'
            r'|/chunks>, "[0-9a-f]{32}\.h5"'
        )
        assert [] == [line for line in opened if not known.search(line)]
        reading = "(new)?f?l?stat(at|x)?|p?read(64|v2?)?|lseek|close|getdents64|ioctl|f?access(at2?)?|fcntl"
        assert [] == [line for line in inside if not re.match(rf"(open(at)?|{reading})\(", line)]


def snapshot(root: Path) -> dict[Path, tuple[int, int, int]]:
    """Return inode, length and time of change of everything in a root."""
    found = {path: path.stat() for path in root.rglob("*")}
    return {path: (status.st_ino, status.st_size, status.st_ctime_ns) for path, status in found.items()}
