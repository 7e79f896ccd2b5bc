"""The readers of manifests and encodings under fuzz: what nobody wrote is refused, and nothing else happens."""

from __future__ import annotations

import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import fuzz_chunks  # noqa: E402  # the folder is not on the path before

from chunk_memo.errors import EncodingError  # noqa: E402

EXECUTIONS = 8_000
SECONDS = 3_600
"""How long atheris looks under ``-m long``."""


def test_the_seeds_are_read() -> None:
    """Every file that the fuzzer begins with is a good one, and each kind of output is among them."""
    kinds = set()
    for data, ref in fuzz_chunks.seeds():
        try:
            block = fuzz_chunks.read(data, ref)
            assert block is not None
            kinds.add(block.kind)
        except EncodingError as error:
            kinds.add(type(error).__name__)
    assert {"grid", "columns", "list", "opaque", "PickleRefusedError"} <= kinds


def test_recipes() -> None:
    """A fixed series of recipes: some files are taken, most are refused, all in the same way each time."""
    rng = random.Random(5)
    taken = []
    for number in range(EXECUTIONS):
        recipe = rng.randbytes(rng.choice((20, 60, 200)))
        taken.append(fuzz_chunks.one_tree(recipe) if number % 4 == 0 else fuzz_chunks.one_file(recipe))
    assert 0 < sum(taken) < EXECUTIONS / 2


@given(st.binary(max_size=400))
@settings(max_examples=1000)
def test_any_recipe(data: bytes) -> None:
    """Whatever the bytes say."""
    fuzz_chunks.try_one_input(data)


@pytest.mark.long
def test_an_hour_of_atheris(tmp_path: Path) -> None:
    """Guided by coverage, one CPU-hour finds nothing but refusals."""
    if find_spec("atheris") is None:
        pytest.skip("atheris is not installed; run `pip install atheris`")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    done = subprocess.run(
        [sys.executable, str(HERE / "fuzz_chunks.py"), f"-max_total_time={SECONDS}", "-max_len=400", str(corpus)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr[-4000:]
