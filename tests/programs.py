"""Modules and packages that a test writes, imports, edits and imports again under another name."""

from __future__ import annotations

import functools
import importlib
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_numbers = itertools.count()


class Programs:
    """A folder of packages on ``sys.path``; each import gets a name of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names: list[str] = []

    def __enter__(self) -> Programs:
        sys.path.insert(0, str(self.root))
        return self

    def __exit__(self, *error: object) -> None:
        sys.path.remove(str(self.root))
        for name in [each for each in sys.modules if each.partition(".")[0] in self.names]:
            del sys.modules[name]

    def package(self, files: Mapping[str, str], entry: str = "main:f") -> Any:
        """Write a package, in whose text ``PKG`` stands for its name; import and return its entry."""
        name = f"written_{next(_numbers)}"
        self.names.append(name)
        for file, text in files.items():
            path = self.root / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("PKG", name))
        importlib.invalidate_caches()
        module, _, qualname = entry.partition(":")
        return functools.reduce(getattr, qualname.split("."), importlib.import_module(f"{name}.{module}"))

    def function(self, text: str, name: str = "f") -> Any:
        """Write a module, and return a function of it."""
        return self.package({"__init__.py": "", "main.py": text}, f"main:{name}")
