"""``python -m chunk_memo.cli``: the command line, where the script ``chunk-memo`` is not on the path."""

from __future__ import annotations

from chunk_memo.cli import main

if __name__ == "__main__":
    main(prog_name="chunk-memo")
