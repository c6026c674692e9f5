from __future__ import annotations

import torch

from training.objectives.lesions import CONTRAST_HU, Lesions, draw_lesions

SOFT_TISSUE_HU, LUNG_HU = 50.0, -800.0


def planted(hu: float, crops: int = 64, count: int = 2) -> Lesions:
    full = torch.full((crops, 1, 96, 96), hu)
    return draw_lesions(full, count, torch.Generator().manual_seed(0))


def test_lesions_have_the_contrast_that_is_stated() -> None:
    lesions = planted(SOFT_TISSUE_HU, count=1)
    size = lesions.contrast_hu.abs()
    assert (size >= CONTRAST_HU[0] - 1e-3).all()
    assert (size <= CONTRAST_HU[1] + 1e-3).all()
    share = lesions.contrast_in(lesions.hu) / lesions.contrast_hu
    assert float(share.min()) > 0.5  # the smallest with the softest edge
    assert 0.8 < float(share.mean()) <= 1.0
    middle = lesions.hu.flatten(1).gather(1, lesions.hu.abs().flatten(1).argmax(1, keepdim=True))
    assert torch.equal(middle.sign(), lesions.contrast_hu.sign())


def test_both_signs_and_all_sizes_are_drawn() -> None:
    contrast = planted(SOFT_TISSUE_HU, crops=512).contrast_hu
    assert 0.4 < float((contrast > 0).float().mean()) < 0.6
    assert float((contrast.abs() < 32.0).float().mean()) > 0.4  # even in the logarithm


def test_a_constant_has_no_contrast() -> None:
    lesions = planted(SOFT_TISSUE_HU)
    found = lesions.contrast_in(torch.full((64, 1, 96, 96), 70.0))
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-3, rtol=0.0)


def test_none_is_planted_outside_soft_tissue() -> None:
    lesions = planted(LUNG_HU)
    assert not lesions.contrast_hu.any()
    assert not lesions.hu.any()


def test_none_is_planted_where_a_crop_is_too_small() -> None:
    lesions = draw_lesions(
        torch.full((8, 1, 12, 12), SOFT_TISSUE_HU), 1, torch.Generator().manual_seed(0)
    )
    assert not lesions.hu.any()


def test_lesions_lie_inside_the_crop() -> None:
    lesions = planted(SOFT_TISSUE_HU, crops=256)
    border = torch.cat([lesions.hu[..., (0, -1), :].flatten(), lesions.hu[..., (0, -1)].flatten()])
    assert float(border.abs().max()) < 3.0
