"""A folder denoised offline: rules read its headers, and leave them as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.ct_factory import make_series

from dicom_node.denoising.folder import Orders, denoise_folder
from dicom_node.denoising.models import load_model
from dicom_node.denoising.series import denoise_series
from dicom_node.errors import DeviceFault, StorageError
from dicom_node.rules import Rule
from dicom_node.settings import ModelSettings
from man_core import ModelCard, load_denoiser

NAMES = (b"M\xe4LLER^ANNA", b"M\xf6LLER^ANNA")
"""Two patients, both in bytes that are no text in the character set of the headers."""

BY_NAME = Rule.model_validate(
    {"name": "by name", "match": {"PatientName": {"matches": "^NOBODY"}}, "skip": "nobody"}
)


@pytest.mark.filterwarnings("ignore:Failed to decode")  # as the program does
@pytest.mark.parametrize("rules", [(), (BY_NAME,)], ids=["no rules", "a rule on the name"])
def test_patients_whose_names_cannot_be_decoded_are_told_apart(
    tmp_path: Path, rules: tuple[Rule, ...]
) -> None:
    files = make_series(tmp_path / "in", patient_name="MXLLER^ANNA", patient_id="")
    for path, name in zip(files, (*NAMES, *NAMES), strict=True):
        path.write_bytes(path.read_bytes().replace(b"MXLLER^ANNA", name))
    identity = load_denoiser("identity")
    (outcome,) = denoise_folder(
        tmp_path / "in", tmp_path / "out", identity, orders=Orders(rules=rules)
    )
    assert outcome.error is not None
    assert "several patients, as PatientName differs" in outcome.error
    assert not list(tmp_path.glob("out/*"))


def test_a_place_that_is_taken_leaves_no_part_of_a_series(tmp_path: Path) -> None:
    (tmp_path / "out" / "0003.dcm").mkdir(parents=True)
    files = make_series(tmp_path / "in", size=32)
    with pytest.raises(StorageError, match=r"0003\.dcm cannot be written"):
        denoise_series(files, tmp_path / "out", load_denoiser("identity"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["0003.dcm"]


class Fails:
    """A denoiser whose device fails at its first batch."""

    info, device, steps = ModelCard("fails", "1", "fails", "fails"), "cpu", 1

    def __init__(self, error: Exception) -> None:
        self.error = error

    def denoise(self, *given: object, **named: object) -> torch.Tensor:
        raise self.error

    def slices_at_once(self, rows: int, columns: int) -> int:
        return 1


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (torch.OutOfMemoryError("CUDA"), "The device cpu has not enough free memory"),
        (torch.AcceleratorError("CUDA"), "The device cpu failed"),
    ],
)
def test_a_fault_of_the_device_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    def fails(*given: object, **named: object) -> None:
        raise error

    make_series(tmp_path / "in", size=32)
    with pytest.raises(DeviceFault, match=sentence):
        denoise_folder(tmp_path / "in", tmp_path / "out", Fails(error))
    assert not list(tmp_path.glob("out/*"))
    monkeypatch.setattr("man_core.load_denoiser", fails)
    with pytest.raises(DeviceFault, match=sentence):
        load_model(ModelSettings(device="cpu"))
