"""Fixtures of all tests; helpers are in ``support``: ``from support.peers import free_port``."""

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pynetdicom
import pytest
import structlog
import torch
from hypothesis import HealthCheck, settings
from support.postgres import PostgreSQL, postgresql

from dicom_node.ct import prepare_dicom_libraries

# As the entry points do; the pynetdicom peers of the tests need not format what they log.
prepare_dicom_libraries()
pynetdicom._config.LOG_HANDLER_LEVEL = "none"

# A loaded machine is slow, not wrong.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

# A shell without job control ignores SIGINT in what it starts in the background; the processes of
# the tests would inherit that, and tests that interrupt something would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """What a test sets up of logging ends with it; its stream would be closed in the next."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


DATA_VARIABLE = "MAN_TEST_DATA"
"""Environment variable that names the folder of development data, for the tests marked `data`."""

BFLOAT16_FEATURES = ("avx512_bf16", "amx_bf16")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bfloat16",
        choices=("on", "off"),
        help="Fit as on a processor that computes in bfloat16, or as on one that does not.",
    )


@pytest.fixture(scope="session")
def development_data() -> Path:
    """The folder of real CT and perceptual weights, which is not part of this repository."""
    named = os.environ.get(DATA_VARIABLE)
    if not named:
        pytest.skip(f"needs development data: {DATA_VARIABLE} names no folder")
    return Path(named)


@pytest.fixture(autouse=True)
def same_everywhere(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Hide what this machine happens to have: perceptual weights, arithmetic of its processor."""
    monkeypatch.delenv("MAN_LPIPS_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.getbasetemp() / "no-torch-home"))
    if wanted := request.config.getoption("--bfloat16"):
        features = torch.cpu.get_capabilities() | dict.fromkeys(BFLOAT16_FEATURES, wanted == "on")
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)


@pytest.fixture(autouse=True)
def umask_as_before() -> Iterator[None]:
    """Commands that are called within this process make its files private."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    """One server for all tests that ask for it; each takes a database of its own."""
    with postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """The ledger keeps its word on both engines: who asks for a database is run twice."""
    return str(request.param)


@pytest.fixture
def database(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """URL of an empty ledger."""
    if engine == "sqlite":
        return f"sqlite:///{tmp_path}/var/ledger.db"
    return str(request.getfixturevalue("postgresql_server").emptied_database())
