"""Tracing of single functions in every process of a benchmarked program.

Python imports a module of this name when it starts, wherever its folder is on PYTHONPATH; the
program itself is unchanged, so that another version of it is measured in the same way. The variable
``BENCHMARK_TRACE`` is JSON: the folder for the traces, and module, function and part to be traced.
A process appends one line for every call: part, begin and end (s since 1970), processor seconds of
its thread.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

VARIABLE = "BENCHMARK_TRACE"


class Traced(MetaPathFinder):
    """Finds the modules with traced functions, and wraps these when the module has been loaded.

    Args:
        folder: Folder for the traces, one file for each process.
        functions: By module: part by the name of a function, or of a method as ``Class.method``.
    """

    def __init__(self, folder: Path, functions: Mapping[str, Mapping[str, str]]) -> None:
        self._folder, self._functions = folder, functions

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the usual spec with a loader that wraps the functions; None for other modules."""
        spec = PathFinder.find_spec(fullname, path) if fullname in self._functions else None
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            for name, part in self._functions[fullname].items():
                self._wrap(module, name, part)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _wrap(self, module: ModuleType, name: str, part: str) -> None:
        *holders, last = name.split(".")
        try:
            holder: Any = functools.reduce(getattr, holders, module)
            traced = self._traced(getattr(holder, last), part)
        except AttributeError:  # this version of the program has no such function
            return
        setattr(holder, last, traced)

    def _traced(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def traced(*values: Any, **options: Any) -> Any:
            begin, processor = time.time(), time.thread_time()
            try:
                return function(*values, **options)
            finally:
                self._note(part, begin, time.thread_time() - processor)

        return traced

    def _note(self, part: str, begin: float, processor: float) -> None:
        line = f"{part} {begin:.6f} {time.time():.6f} {processor:.6f}\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        descriptor = os.open(self._folder / f"{os.getpid()}.trace", flags, 0o600)
        try:
            os.write(descriptor, line.encode())  # at once, as a process may end without notice
        finally:
            os.close(descriptor)


def _install() -> None:
    if VARIABLE in os.environ:
        wanted = json.loads(os.environ[VARIABLE])
        sys.meta_path.insert(0, Traced(Path(wanted["folder"]), wanted["functions"]))


_install()
