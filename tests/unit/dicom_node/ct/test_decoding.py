"""Compressed frames are decoded in processes of their own, which no frame can harm for long."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.pixels.utils import pixel_array
from support.compression import COMPRESSED, RELABELLED, compress
from support.ct_factory import make_series
from support.peers import wait_until

from dicom_node.ct import pixels
from dicom_node.ct.decoding.frame import Frame
from dicom_node.ct.decoding.limits import decoding_bytes
from dicom_node.ct.decoding.pool import DecoderLost, DecoderPool, UndecodableFrame
from dicom_node.ct.folder import looks_compressed
from dicom_node.ct.transfer_syntaxes import READABLE
from dicom_node.errors import StorageError, UnreadableFile

PROGRAM = """
import os, signal
from pathlib import Path
from dicom_node.ct.decoding import __main__ as program, frame
first, decode = Path({first!r}), frame.Frame.decode
def act(self):
    if first.exists():
        return decode(self)
    {before}
    {act}
frame.Frame.decode = act
program.MAX_PROCESSOR_SECONDS = 0.2
program.main()
"""
"""A decoder process that does something else with a frame: always, or for the first time."""

ONE_SERIES = """
import os, sys
from pathlib import Path
from dicom_node.ct.read import read_series
read_series([Path(sys.argv[1])])
children = [int(one) for task in Path("/proc/self/task").iterdir()
            for one in (task / "children").read_text().split()]
print(*children, flush=True)
sys.stdin.read()
"""

Pool = Callable[..., DecoderPool]


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    """Pools of processes that do something else instead of decoding."""
    with ExitStack() as stack:

        def made(act: str, *, once: bool = False) -> DecoderPool:
            first = tmp_path / "first"
            before = "first.touch()" if once else "pass"
            program = PROGRAM.format(first=str(first), before=before, act=act)
            return stack.enter_context(closing(DecoderPool(1, (sys.executable, "-c", program))))

        yield made


def image(folder: Path, syntax: str = "jpeg-2000", **options: object) -> Dataset:
    (path,) = make_series(folder, slices=1, **options)  # type: ignore[arg-type]
    compress(path, syntax)
    return pydicom.dcmread(path)


@pytest.mark.parametrize("syntax", [*COMPRESSED, *RELABELLED])
@pytest.mark.parametrize(("bits", "signed"), [(12, False), (16, True)])
def test_words_are_those_of_decoding_here(
    tmp_path: Path, syntax: str, bits: int, signed: bool
) -> None:
    dataset = image(tmp_path, syntax, bits=bits, signed=signed, intercept=0 if signed else -1024)
    here = pixel_array(dataset, raw=True, correct_unused_bits=False)
    words = pixels.decode(dataset, "it")
    assert (words.dtype, words.flags.writeable) == (here.dtype, True)
    np.testing.assert_array_equal(words, here)


def test_every_compression_that_is_read_is_tried() -> None:
    assert len(COMPRESSED) + len(RELABELLED) == sum(one.is_encapsulated for one in READABLE)


def test_uncompressed_pixels_start_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = make_series(tmp_path, slices=1)
    monkeypatch.setattr(pixels, "DECODERS", DecoderPool(1, ("no such program",)))
    assert pixels.decode(pydicom.dcmread(path), "it").any()
    compress(path, "rle")
    with pytest.raises(StorageError, match="no decoder can be started"):
        pixels.decode(pydicom.dcmread(path), "it")


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "its decoder crashes"),
        ("os.abort()", "its decoder crashes"),
        ("while True: pass", "takes too much processor time"),
        ("return bytearray(1 << 33)", "takes more memory than an image of its size needs"),
        ("raise ValueError", "damaged or cut off"),
        ("return decode(self)[:-1]", "damaged or cut off"),
    ],
)
def test_a_frame_that_harms_its_decoder_is_one_unreadable_file(
    tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch, act: str, sentence: str
) -> None:
    monkeypatch.setattr(pixels, "DECODERS", pool(act, once=True))
    dataset = image(tmp_path)
    with pytest.raises(UnreadableFile, match=rf"image 1\b.* {sentence}.*: send it again\."):
        pixels.decode(dataset, "image 1")
    assert pixels.decode(dataset, "the next image").any()


def test_another_process_decodes_when_one_is_killed_from_outside(
    tmp_path: Path, pool: Pool
) -> None:
    frame = Frame.of(image(tmp_path))
    killed = pool("os.kill(os.getpid(), signal.SIGKILL)", once=True)
    np.testing.assert_array_equal(killed.decode(frame), frame.decode())


def test_processes_that_are_always_killed_are_no_fault_of_the_file(
    tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = pool("os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setattr(pixels, "DECODERS", killed)
    with pytest.raises(StorageError, match=r"ended 2 times with exit code -9: try again"):
        pixels.decode(image(tmp_path), "it")
    with pytest.raises(DecoderLost):
        killed.decode(Frame.of(image(tmp_path)))


def test_libraries_that_write_to_standard_output_disturb_no_answer(
    tmp_path: Path, pool: Pool
) -> None:
    frame = Frame.of(image(tmp_path))
    noisy = pool("os.write(1, bytes(100)); return decode(self)")
    np.testing.assert_array_equal(noisy.decode(frame), frame.decode())


def test_signals_to_all_processes_of_a_service_leave_decoders_to_their_parent(
    tmp_path: Path, pool: Pool
) -> None:
    frame = Frame.of(image(tmp_path))
    signalled = pool(
        "[os.kill(os.getpid(), one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]; "
        "return decode(self)"
    )
    np.testing.assert_array_equal(signalled.decode(frame), frame.decode())


def test_a_codestream_larger_than_its_header_takes_no_more_memory_than_the_header_allows(
    tmp_path: Path,
) -> None:
    (path,) = make_series(tmp_path / "large", slices=1, size=8)
    dataset = pydicom.dcmread(path)
    dataset.Rows = dataset.Columns = 4096
    dataset.PixelData = bytes(4096 * 4096 * 2)
    dataset.save_as(path)
    compress(path, "jpeg-2000")
    large = Frame.of(pydicom.dcmread(path))
    small = Frame(large.syntax, {**large.options, "rows": 8, "columns": 8}, large.pixel_data)
    with closing(DecoderPool(1)) as pool:
        others = children()
        pool.start()
        (decoder,) = children() - others
        pool.decode(Frame.of(image(tmp_path, size=64)))
        used = peak_bytes(decoder)
        with pytest.raises(UndecodableFrame):
            pool.decode(small)
        assert peak_bytes(decoder) < used + decoding_bytes(small)
        assert pool.decode(large).shape == (4096, 4096)


def test_several_threads_get_the_words_of_their_own_frames(tmp_path: Path) -> None:
    frames = [Frame.of(image(tmp_path / str(at), "rle", size=64 + at)) for at in range(8)]
    with closing(DecoderPool(2)) as pool, ThreadPoolExecutor(4) as threads:
        found = list(threads.map(pool.decode, frames * 3))
    for frame, words in zip(frames * 3, found, strict=True):
        np.testing.assert_array_equal(words, frame.decode())


@pytest.mark.parametrize("kill", [True, False])
def test_no_decoder_is_left_when_its_process_has_ended(tmp_path: Path, kill: bool) -> None:
    (path,) = make_series(tmp_path, slices=1)
    compress(path, "jpeg-2000")
    with subprocess.Popen(
        [sys.executable, "-c", ONE_SERIES, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        (decoder,) = map(int, process.stdout.readline().split())
        assert Path(f"/proc/{decoder}").exists()
        if kill:
            process.send_signal(signal.SIGKILL)
    wait_until("the decoder ends", lambda: not running(decoder))


@pytest.mark.parametrize("compressed", [True, False])
def test_a_folder_tells_by_its_first_image_whether_decoders_will_be_needed(
    tmp_path: Path, compressed: bool
) -> None:
    (path,) = make_series(tmp_path / "series", slices=1)
    (tmp_path / "notes.txt").write_text("no DICOM")
    if compressed:
        compress(path, "jpeg-ls")
    assert looks_compressed(tmp_path) is looks_compressed(path) is compressed


def children() -> set[int]:
    """Processes that this one has started."""
    lists = [(task / "children").read_text() for task in Path("/proc/self/task").iterdir()]
    return {int(pid) for one in lists for pid in one.split()}


def running(pid: int) -> bool:
    """Whether a process is there, and no zombie that nobody has waited for."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def peak_bytes(pid: int) -> int:
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) << 10 for row in rows if row.startswith("VmHWM:"))
