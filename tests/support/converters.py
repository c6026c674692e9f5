"""Converter processes that do something else than the product's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from dicom_node.ct import read, reader
from dicom_node.ct.conversion.pool import ConverterPool
from dicom_node.ct.conversion.process import STALL_SECONDS
from dicom_node.denoising import derivation

PROGRAM = """
import errno, os, signal, sys, time
from pathlib import Path
from dicom_node.ct.conversion import __main__ as program, limits, slices
from dicom_node.ct import decoding, files, headers, image_file
limits.MAX_PROCESSOR_SECONDS = 0.2
first = Path({first!r})
once = {once!r}
original = {place}
def replaced(*given, **named):
    if once and first.exists():
        return original(*given, **named)
    first.touch()
    {act}
{place} = replaced
program.main()
"""
"""A converter process in which one function does something else: always, or for the first time."""

DECODE = "decoding._decompressed"
WRITE = "slices.write_file"

Pool = Callable[..., ConverterPool]


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """Make the product use a pool of such processes.

    Its arguments are a statement, in which ``original`` is the function and ``given`` and ``named``
    are what it is called with; the function's place; whether it acts for the first time only; the
    number of processes; and how long one may stand still.
    """
    with ExitStack() as stack:

        def made(
            act: str = "return original(*given, **named)",
            place: str = DECODE,
            *,
            once: bool = False,
            size: int = 1,
            stall_seconds: float = STALL_SECONDS,
        ) -> ConverterPool:
            program = PROGRAM.format(first=str(tmp_path / "first"), once=once, place=place, act=act)
            found = stack.enter_context(
                closing(ConverterPool(size, (sys.executable, "-c", program), stall_seconds))
            )
            for module in (read, reader, derivation):
                monkeypatch.setattr(module, "CONVERTERS", found)
            return found

        yield made
