from __future__ import annotations

import os

import pytest

from dicom_node.cli.entry import main


@pytest.mark.parametrize(("given", "kept"), [(None, "passive"), ("active", "active")])
def test_idle_threads_of_openmp_sleep_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: str | None, kept: str
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr("sys.argv", ["dicom-node", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert os.environ["OMP_WAIT_POLICY"] == kept
