"""Slices are read and derived in processes of their own, which no file can harm for long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array
from support import bombs
from support.compression import COMPRESSED, RELABELLED, compress
from support.converters import WRITE, Pool, pool
from support.ct_factory import change_header, make_series
from support.peers import wait_until

from dicom_node.ct.conversion import limits
from dicom_node.ct.conversion.messages import SeriesLabels
from dicom_node.ct.conversion.pool import CONVERTERS, SLICES_PER_PROCESS, ConverterPool, ReadSlice
from dicom_node.ct.derived.provenance import DeriveOptions, Provenance
from dicom_node.ct.image_file import DIGEST_BYTES, ImageFile, memory_of, read_slice
from dicom_node.ct.read import open_series
from dicom_node.ct.transfer_syntaxes import READABLE
from dicom_node.errors import InputError, StorageError, UnreadableFile

__all__ = ["pool"]

MADE_BY = Provenance("man", "1.0", "ab" * 32, "cd" * 32, steps=20, strength=1.0, seed=7)
LABELS = SeriesLabels(MADE_BY, DeriveOptions(), "", 0o022)

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


ONE_PIPE = """
import os, sys, threading
from pathlib import Path
from dicom_node.ct.conversion.pool import CONVERTERS
from dicom_node.ct.read import open_series
path = Path(sys.argv[1])
file = open_series([path]).file(0)
path.unlink()
os.mkfifo(path)
CONVERTERS.start(1)
print(CONVERTERS._idle[0].pid, flush=True)
CONVERTERS.read(file)
"""


def image(folder: Path, syntax: str = "jpeg-2000", **options: object) -> ImageFile:
    (path,) = make_series(folder, slices=1, **options)  # type: ignore[arg-type]
    if syntax:
        compress(path, syntax)
    return open_series([path]).file(0)


def same(found: ReadSlice, file: ImageFile) -> bool:
    expected, hu = read_slice(file)
    return (
        np.array_equal(found.hu, hu)
        and np.array_equal(found.padding, expected.padding)
        and found.digest == expected.digest.hex()
    )


def derived(pool: ConverterPool, file: ImageFile, target: Path, source: ReadSlice) -> bytes:
    pool.derive(source, source.hu + np.float32(1), target, LABELS)
    return target.read_bytes()


def expected_bytes(file: ImageFile, target: Path) -> bytes:
    """What the product's own processes make of the same file."""
    return derived(CONVERTERS, file, target, CONVERTERS.read(file))


@pytest.mark.parametrize("syntax", [*COMPRESSED, *RELABELLED, ""])
@pytest.mark.parametrize(("bits", "signed"), [(12, False), (16, True)])
def test_what_is_read_is_what_is_read_here(
    tmp_path: Path, syntax: str, bits: int, signed: bool
) -> None:
    file = image(tmp_path, syntax, bits=bits, signed=signed, intercept=0 if signed else -1024)
    found = CONVERTERS.read(file)
    assert same(found, file)
    assert (found.hu.dtype, found.hu.flags.writeable) == (np.float32, True)
    here = pixel_array(pydicom.dcmread(file.path), raw=True, correct_unused_bits=False)
    np.testing.assert_array_equal(read_slice(file)[0].stored, here)


def test_every_compression_that_is_read_is_tried() -> None:
    assert len(COMPRESSED) + len(RELABELLED) == sum(one.is_encapsulated for one in READABLE)


def test_a_process_that_cannot_be_started_is_a_passing_fault(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"decoded now: no decoder can be started .*: try again"):
        ConverterPool(1, ("no such program",)).read(image(tmp_path))


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "its decoder crashes"),
        ("os.abort()", "its decoder crashes"),
        ("while True: pass", "takes too much processor time"),
        ("return bytearray(1 << 33)", "takes more memory than an image of its size needs"),
        ("raise ValueError", "damaged or cut off"),
        ("return original(*given, **named)[:-1]", "does not have the size in its header"),
    ],
)
def test_a_file_that_harms_its_process_is_one_unreadable_file(
    tmp_path: Path, pool: Pool, act: str, sentence: str
) -> None:
    found = pool(act, once=True)
    file = image(tmp_path)
    with pytest.raises(UnreadableFile, match=rf"Image 1\b.* {sentence}.*: send it again\."):
        found.read(file)
    assert same(found.read(file), file)


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        ("b''", StorageError, "ended 2 times with exit code 0: try again"),
        ("(nonce + done)[:-1]", StorageError, "ended 2 times with exit code 0: try again"),
        ("nonce + done + bytes(64)", StorageError, "ended 2 times with exit code 0: try again"),
        ("nonce + bytes(range(200, 255))", UnreadableFile, "its decoder crashes: send it again"),
        ("bytes(8) + done + bytes(1 << 17)", UnreadableFile, "its decoder crashes: send it again"),
        ("nonce + b'\\5' + b'\\xff' * 100", UnreadableFile, "its decoder crashes: send it again"),
    ],
    ids=["none", "header cut off", "image cut off", "garbage", "another's", "endless sentence"],
)
def test_an_answer_that_is_none_harms_nobody(
    tmp_path: Path, answer: bytes, error: type[Exception], sentence: str
) -> None:
    program = (
        f"import os; nonce, done = os.read(0, 1 << 20)[:8], bytes({5 + DIGEST_BYTES}); "
        f"os.write(1, {answer})"
    )
    with (
        closing(ConverterPool(1, (sys.executable, "-c", program))) as pool,
        pytest.raises(error, match=sentence),
    ):
        pool.read(image(tmp_path))


def test_more_than_was_asked_for_is_no_answer_to_the_next_request(
    tmp_path: Path, pool: Pool
) -> None:
    files = [image(tmp_path / str(at), "", size=32 + at) for at in range(3)]
    talkative = pool("original(*given); os.write(given[0].fileno(), bytes(5000))", SEND)
    for file in files:
        assert same(talkative.read(file), file)


SEND, LOAD = "program.send_done", "headers.load_image"


def test_another_process_reads_when_one_is_killed_from_outside(tmp_path: Path, pool: Pool) -> None:
    file = image(tmp_path)
    killed = pool("os.kill(os.getpid(), signal.SIGKILL)", once=True)
    assert same(killed.read(file), file)


def test_processes_that_are_always_killed_are_no_fault_of_the_file(
    tmp_path: Path, pool: Pool
) -> None:
    killed = pool("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(StorageError, match=r"ended 2 times with exit code -9: try again"):
        killed.read(image(tmp_path))


STOP = "os.kill(os.getpid(), signal.SIGSTOP)"


def test_another_process_reads_when_one_is_stopped(tmp_path: Path, pool: Pool) -> None:
    file = image(tmp_path)
    stopped = pool(STOP, once=True, stall_seconds=0.5)
    assert same(stopped.read(file), file)


def test_processes_that_are_always_stopped_hold_up_nothing(tmp_path: Path, pool: Pool) -> None:
    stopped = pool(STOP, stall_seconds=0.5)
    with pytest.raises(StorageError, match=r"its decoder stood still 2 times: try again"):
        stopped.read(image(tmp_path))


def test_a_named_pipe_in_place_of_an_image_holds_up_nothing(tmp_path: Path, pool: Pool) -> None:
    file = image(tmp_path)
    file.path.unlink()
    os.mkfifo(file.path)
    with pytest.raises(StorageError, match="stood still 2 times"):
        pool(stall_seconds=0.5).read(file)


def test_a_process_that_works_is_given_its_time(tmp_path: Path, pool: Pool) -> None:
    file = image(tmp_path)
    busy = pool(
        "signal.setitimer(signal.ITIMER_PROF, 0); end = time.process_time() + 2.5\n"
        "    while time.process_time() < end: pass\n"
        "    return original(*given, **named)",
        stall_seconds=1.0,
    )
    assert same(busy.read(file), file)


def test_modules_in_the_current_folder_do_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = image(tmp_path)
    for name in ("json", "pydicom", "dicom_node"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    with closing(ConverterPool(1)) as started:
        assert same(started.read(file), file)


def test_libraries_that_write_to_standard_output_disturb_no_answer(
    tmp_path: Path, pool: Pool
) -> None:
    file = image(tmp_path)
    noisy = pool("os.write(1, bytes(100)); return original(*given, **named)")
    assert same(noisy.read(file), file)


def test_signals_to_all_processes_of_a_service_leave_converters_to_their_parent(
    tmp_path: Path, pool: Pool
) -> None:
    file = image(tmp_path)
    signalled = pool(
        "[os.kill(os.getpid(), one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]; "
        "return original(*given, **named)"
    )
    assert same(signalled.read(file), file)


def test_an_unknown_fault_tells_its_place_and_quotes_nothing(tmp_path: Path, pool: Pool) -> None:
    faulty = pool("raise KeyError('CANARY^BIRD')", WRITE)
    file = image(tmp_path)
    source = faulty.read(file, keep=True)
    with pytest.raises(RuntimeError, match=r"^KeyError in <string>, line \d+$"):
        derived(faulty, file, tmp_path / "derived.dcm", source)


def test_a_codestream_larger_than_its_header_takes_no_more_memory_than_the_header_allows(
    tmp_path: Path,
) -> None:
    (path,) = make_series(tmp_path / "large", slices=1, size=8)
    dataset = pydicom.dcmread(path)
    dataset.Rows = dataset.Columns = 4096
    dataset.PixelData = bytes(4096 * 4096 * 2)
    dataset.save_as(path)
    compress(path, "jpeg-2000")
    large = open_series([path]).file(0)
    small = replace(large, rows=8, columns=8)
    with closing(ConverterPool(1)) as pool:
        keeper = pool.read(image(tmp_path, size=64)).keeper
        used = peak_bytes(keeper.pid)
        with pytest.raises(UnreadableFile, match=r"damaged or cut off|more memory than"):
            pool.read(small)
        allowed = limits.decoding_bytes(8, 8, path.stat().st_size)
        assert peak_bytes(keeper.pid) < used + max(allowed, limits.parsing_bytes(8, 8))
        assert pool.read(large).hu.shape == (4096, 4096)


def test_a_hostile_header_takes_no_more_memory_than_any_header_may(tmp_path: Path) -> None:
    (path,) = make_series(tmp_path, slices=1, size=8)
    file, data = open_series([path]).file(0), path.read_bytes()
    with closing(ConverterPool(1)) as pool:
        keeper = pool.read(file).keeper
        used = peak_bytes(keeper.pid)
        path.write_bytes(bombs.inserted(data, bombs.items(1_000_000)))
        with pytest.raises(UnreadableFile, match=r"^0001\.dcm is refused"):
            pool.read(file)
        path.write_bytes(bombs.inserted(data, bombs.items(19_000)))
        assert pool.read(file).keeper is keeper
        assert peak_bytes(keeper.pid) < used + limits.parsing_bytes(8, 8)


def test_parsing_that_takes_too_much_memory_is_one_unreadable_file(
    tmp_path: Path, pool: Pool
) -> None:
    file = image(tmp_path, "")
    greedy = pool("bytearray(1 << 30); return original(*given, **named)", LOAD, once=True)
    with pytest.raises(UnreadableFile, match=r"0001\.dcm is refused: .* more memory than an image"):
        greedy.read(file)
    assert same(greedy.read(file), file)


def test_several_threads_get_the_slices_that_they_asked_for(tmp_path: Path) -> None:
    files = [image(tmp_path / str(at), "rle", size=64 + at) for at in range(8)]
    with closing(ConverterPool(2)) as pool, ThreadPoolExecutor(4) as threads:
        found = list(threads.map(pool.read, files * 3))
    assert all(same(one, file) for one, file in zip(found, files * 3, strict=True))


def test_a_process_is_started_for_what_it_is_worth() -> None:
    slices = (1, SLICES_PER_PROCESS, SLICES_PER_PROCESS + 1, 1000)
    with closing(ConverterPool(4)) as pool:
        assert [pool.size_for(one) for one in slices] == [1, 1, 2, 4]
        pool.start(SLICES_PER_PROCESS + 1)
        assert [pool.size_for(one) for one in slices] == [2, 2, 2, 4]


def killed(pool: ConverterPool, file: ImageFile, source: ReadSlice) -> None:
    os.kill(source.keeper.pid, signal.SIGKILL)


def released(pool: ConverterPool, file: ImageFile, source: ReadSlice) -> None:
    pool.release([source])


def nothing(pool: ConverterPool, file: ImageFile, source: ReadSlice) -> None:
    pass


@pytest.mark.parametrize("between", [killed, released, nothing])
@pytest.mark.parametrize("syntax", ["jpeg-2000", ""])
def test_a_slice_is_derived_from_its_file_where_no_process_keeps_it(
    tmp_path: Path,
    between: Callable[[ConverterPool, ImageFile, ReadSlice], None],
    syntax: str,
) -> None:
    file, target = image(tmp_path, syntax, padding=0), tmp_path / "derived.dcm"
    expected = expected_bytes(file, tmp_path / "expected.dcm")
    with closing(ConverterPool(1)) as pool:
        source = pool.read(file, keep=True)
        between(pool, file, source)
        assert derived(pool, file, target, source) == expected


def test_a_slice_that_is_kept_is_not_read_again(tmp_path: Path) -> None:
    file, target = image(tmp_path, ""), tmp_path / "derived.dcm"
    expected = expected_bytes(file, tmp_path / "expected.dcm")
    with closing(ConverterPool(1)) as pool:
        source = pool.read(file, keep=True)
        file.path.unlink()
        assert derived(pool, file, target, source) == expected
        with pytest.raises(InputError, match="cannot be opened: No such file"):
            derived(pool, file, target, source)


@pytest.mark.parametrize("what", ["header", "pixels"])
def test_a_file_that_is_replaced_before_it_is_read_again_is_refused(
    tmp_path: Path, what: str
) -> None:
    file = image(tmp_path, "")
    with closing(ConverterPool(1)) as pool:
        source = pool.read(file, keep=True)
        pool.release([source])
        if what == "header":
            change_header(file.path, PatientID="ANOTHER")
        else:
            dataset = pydicom.dcmread(file.path)
            dataset.PixelData = bytes(len(dataset.PixelData))
            dataset.save_as(file.path)
        with pytest.raises(UnreadableFile, match="has changed while its series was read"):
            derived(pool, file, tmp_path / "derived.dcm", source)
    assert not (tmp_path / "derived.dcm").exists()


def test_a_crash_while_a_slice_is_derived_is_one_unreadable_file(
    tmp_path: Path, pool: Pool
) -> None:
    crashing = pool("os.abort()", WRITE, once=True)
    file, target = image(tmp_path, ""), tmp_path / "derived.dcm"
    source = crashing.read(file, keep=True)
    with pytest.raises(UnreadableFile, match=r"Image 1 .* cannot be derived: .*crashes: send it"):
        derived(crashing, file, target, source)
    expected = expected_bytes(file, tmp_path / "expected.dcm")
    assert derived(crashing, file, target, source) == expected


def test_a_process_killed_while_a_slice_is_derived_is_replaced(tmp_path: Path, pool: Pool) -> None:
    dying = pool("os.kill(os.getpid(), signal.SIGKILL)", WRITE, once=True)
    file = image(tmp_path, "")
    expected = expected_bytes(file, tmp_path / "expected.dcm")
    source = dying.read(file, keep=True)
    assert derived(dying, file, tmp_path / "derived.dcm", source) == expected


def test_slices_beyond_the_bound_are_not_kept(tmp_path: Path, pool: Pool) -> None:
    paths = make_series(tmp_path / "in", slices=5, size=64)
    files = [open_series(paths).file(index) for index in range(5)]
    kept_bytes = max(read_slice(file)[0].kept_bytes for file in files)
    small = pool(f"return original({2 * kept_bytes})", "program.Slices")
    sources = [small.read(file, keep=True) for file in files]
    for path in paths:
        path.unlink()
    targets = [tmp_path / path.name for path in paths]
    for source, target in zip(sources[:2], targets[:2], strict=True):
        derived(small, source.file, target, source)
    for source, target in zip(sources[2:], targets[2:], strict=True):
        with pytest.raises(InputError, match="cannot be opened"):
            derived(small, source.file, target, source)


def test_the_memory_of_a_header_counts_its_items(tmp_path: Path) -> None:
    file = image(tmp_path, "")
    plain = memory_of(read_slice(file)[0].header)
    dataset = pydicom.dcmread(file.path)
    item = pydicom.Dataset()
    item.CodeValue = "1"
    dataset.DerivationCodeSequence = [item] * 2000
    dataset["DerivationCodeSequence"].is_undefined_length = True  # parsed when it is read
    dataset.ICCProfile = bytes(3 << 20)
    dataset.save_as(file.path)
    assert memory_of(read_slice(file)[0].header) > plain + (3 << 20) + 2000 * 1000


def test_files_get_the_permissions_of_the_asking_process(tmp_path: Path) -> None:
    file = image(tmp_path, "")
    with closing(ConverterPool(1)) as pool:
        for umask in (0o077, 0o002):
            target = tmp_path / f"{umask}.dcm"
            labels = replace(LABELS, umask=umask)
            pool.derive(pool.read(file, keep=True), read_slice(file)[1], target, labels)
            assert target.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_result_of_another_shape_is_refused(tmp_path: Path) -> None:
    file = image(tmp_path, "")
    wrong: NDArray[np.float32] = np.zeros((3, 3), np.float32)
    with pytest.raises(ValueError, match="not the source's"):
        CONVERTERS.derive(CONVERTERS.read(file), wrong, tmp_path / "derived.dcm", LABELS)


def read_in_child(file: ImageFile) -> bool:
    return same(CONVERTERS.read(file), file)


def test_a_forked_process_starts_converters_of_its_own(tmp_path: Path) -> None:
    file = image(tmp_path)
    before = CONVERTERS.read(file).keeper
    with get_context("fork").Pool(1) as forked:
        assert forked.apply(read_in_child, (file,))
    assert before.is_running
    assert same(CONVERTERS.read(file), file)


@pytest.mark.parametrize("kill", [True, False])
def test_no_converter_is_left_when_its_process_has_ended(tmp_path: Path, kill: bool) -> None:
    (path,) = make_series(tmp_path, slices=1)
    with subprocess.Popen(
        [sys.executable, "-c", ONE_SERIES, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        (converter,) = map(int, process.stdout.readline().split())
        assert Path(f"/proc/{converter}").exists()
        if kill:
            process.send_signal(signal.SIGKILL)
    wait_until("the converter ends", lambda: not running(converter))


def test_a_converter_that_waits_for_a_file_ends_after_its_process(tmp_path: Path) -> None:
    (path,) = make_series(tmp_path, slices=1)
    with subprocess.Popen(
        [sys.executable, "-c", ONE_PIPE, str(path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        (converter,) = map(int, process.stdout.readline().split())
        writer = os.open(path, os.O_WRONLY)  # returns once the converter reads
        process.send_signal(signal.SIGKILL)
    wait_until("the converter ends", lambda: not running(converter))
    os.close(writer)


def running(pid: int) -> bool:
    """Whether a process is there, and no zombie that nobody has waited for."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def peak_bytes(pid: int) -> int:
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) << 10 for row in rows if row.startswith("VmHWM:"))
