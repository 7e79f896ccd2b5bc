"""File systems that can do less: ``os.link`` or ``os.rename`` fail for ``disk/files``, in all processes.

Python imports this module when it starts, if this folder is in PYTHONPATH. ``CHUNK_MEMO_TEST_REFUSED`` says what
is refused, and with which error: ``link:EPERM`` or ``link:ENOSYS,rename:EPERM``.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

_HOME = "chunk_memo.disk.files"


def _refused(true: Callable[..., Any], number: int) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if sys._getframe(1).f_globals.get("__name__") == _HOME:
            raise OSError(number, os.strerror(number), str(arguments[0]))
        return true(*arguments, **options)

    return call


for _each in filter(None, os.environ.get("CHUNK_MEMO_TEST_REFUSED", "").split(",")):
    _call, _, _name = _each.partition(":")
    for _one in (_call, "replace") if _call == "rename" else (_call,):
        setattr(os, _one, _refused(getattr(os, _one), getattr(errno, _name)))
