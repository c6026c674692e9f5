"""Signals while a part starts: nothing is held yet, so the process ends at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ledger_factory import settings_in

from dicom_node.denoising import models, worker
from dicom_node.processes import parts
from dicom_node.processes.startup import STOP_SIGNALS, exit_when_stopped


class Flag:
    """A flag that SIGTERM and SIGINT set."""

    def __init__(self) -> None:
        self.stopped = False
        for number in STOP_SIGNALS:
            signal.signal(number, lambda _number, _frame: self.set())

    def __call__(self) -> bool:
        return self.stopped

    def set(self) -> None:
        self.stopped = True


@pytest.fixture
def flag() -> Iterator[Flag]:
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield Flag()
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_signal_inside_the_block_exits_with_code_0(flag: Flag, number: signal.Signals) -> None:
    with pytest.raises(SystemExit) as ended, exit_when_stopped(flag):
        signal.raise_signal(number)
    assert ended.value.code == 0
    assert flag.stopped


def test_signal_before_the_block_exits_too(flag: Flag) -> None:
    flag.set()
    with pytest.raises(SystemExit), exit_when_stopped(flag):
        pytest.fail("not reached")


def test_signal_after_the_block_only_sets_the_flag(flag: Flag) -> None:
    with exit_when_stopped(flag):
        assert not flag.stopped
    signal.raise_signal(signal.SIGTERM)
    assert flag.stopped


def test_worker_stopped_while_its_model_loads_claims_nothing(
    tmp_path: Path, flag: Flag, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path, audit={"file": tmp_path / "audit.log"})
    monkeypatch.setattr(parts, "_lower_priority", lambda: None)
    monkeypatch.setattr(
        models, "ModelDenoise", lambda _settings: signal.raise_signal(signal.SIGTERM)
    )
    monkeypatch.setattr(worker, "run_worker", lambda *_, **__: pytest.fail("not reached"))
    with pytest.raises(SystemExit):
        parts.run_part("work", settings, should_stop=flag)
    trail = (tmp_path / "audit.log").read_text(encoding="utf-8")
    assert [code in trail for code in ("110120", "110121")] == [True, True]
