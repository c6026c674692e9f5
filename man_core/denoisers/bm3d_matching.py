"""Block matching of BM3D: for each reference block the most similar blocks nearby.

Distances to all blocks at one displacement are sums over squares of one difference image, so that
no block is looked at by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from man_core.denoisers.bm3d_transforms import BLOCK_PIXELS

SEARCH_REACH_PIXELS = 19
"""Largest displacement along rows and columns: a window of 39 pixels (table I of the paper)."""

REFERENCE_STEP_PIXELS = 3
"""Distance of reference blocks."""

_REFERENCES_AT_ONCE = 8192
"""Distances of that many reference blocks are in memory at once: 50 MB."""


@dataclass(frozen=True)
class Groups:
    """Reference blocks with the blocks that match them.

    A block is named by its position: the number of its first pixel among those of all blocks.

    Attributes:
        blocks: Positions [reference, match], the nearest first.
        sizes: Number of matches [reference], a power of two; further ones are too different.
    """

    blocks: Tensor
    sizes: Tensor


def match_blocks(image: Tensor, matches: int, max_distance: float) -> Groups:
    """Find the matches of each reference block.

    Args:
        image: [row, column], of at least a block and of whole steps (``with_whole_steps``).
        matches: Maximum number of blocks in a group, a power of two; the reference is the first.
        max_distance: Mean squared difference up to which a block matches.
    """
    rows, columns = (
        torch.arange(0, length - BLOCK_PIXELS + 1, REFERENCE_STEP_PIXELS, device=image.device)
        for length in image.shape
    )
    stripe = max(1, _REFERENCES_AT_ONCE // len(columns))
    found = [_match_stripe(image, part, columns, matches) for part in torch.split(rows, stripe)]
    blocks = torch.cat([blocks for blocks, _ in found])
    near = torch.cat([distance <= max_distance for _, distance in found]).sum(dim=1)
    sizes = torch.ones_like(near)
    while int(sizes.max()) < matches and bool((2 * sizes <= near).any()):
        sizes = torch.where(2 * sizes <= near, 2 * sizes, sizes)
    return Groups(blocks, sizes)


def with_whole_steps(image: Tensor) -> Tensor:
    """Continue an image [row, column] so that its last block is a reference block too."""
    rows, columns = (-(length - BLOCK_PIXELS) % REFERENCE_STEP_PIXELS for length in image.shape)
    whole = functional.pad(image[None, None], (0, columns, 0, rows), mode="reflect")
    return whole[0, 0].contiguous()


def _match_stripe(
    image: Tensor, rows: Tensor, columns: Tensor, matches: int
) -> tuple[Tensor, Tensor]:
    """Return positions and distances [reference, match] for reference blocks of some rows."""
    distances = _distances(image, rows, columns)
    nearest, displacement = distances.topk(min(matches, distances.shape[1]), dim=1, largest=False)
    width, side = image.shape[1] - BLOCK_PIXELS + 1, 2 * SEARCH_REACH_PIXELS + 1
    reference = (rows[:, None] * width + columns).flatten()
    down = displacement // side - SEARCH_REACH_PIXELS
    right = displacement % side - SEARCH_REACH_PIXELS
    blocks = reference[:, None] + down * width + right
    return torch.where(nearest.isfinite(), blocks, reference[:, None]), nearest


def _distances(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the mean squared difference [reference, displacement]; infinite beyond the image."""
    reach, side = SEARCH_REACH_PIXELS, 2 * SEARCH_REACH_PIXELS + 1
    first, last = int(rows[0]), int(rows[-1]) + BLOCK_PIXELS
    own, height, width = image[first:last], last - first, image.shape[1]
    around = functional.pad(image, (reach,) * 4, value=float("inf"))[first : last + 2 * reach]
    found = image.new_empty(side * side, len(rows), len(columns))
    for number in range(side * side):
        down, right = divmod(number, side)
        other = around[down : down + height, right : right + width]
        squares = (other - own).square_()
        lines = _block_sums(squares)
        pairs = lines[:, :-1] + lines[:, 1:]
        fours = pairs[:, :-2] + pairs[:, 2:]
        step = slice(None, None, REFERENCE_STEP_PIXELS)
        torch.add(fours[:, :-4][:, step], fours[:, 4:][:, step], out=found[number])
    return found.flatten(1).T.contiguous().mul_(1.0 / BLOCK_PIXELS**2)


def _block_sums(squares: Tensor) -> Tensor:
    """Sum the rows of each reference block [row of references, column]."""
    pairs = squares[:-1] + squares[1:]
    first, *others = (
        pairs[start : len(pairs) - (BLOCK_PIXELS - 2 - start) : REFERENCE_STEP_PIXELS]
        for start in range(0, BLOCK_PIXELS, 2)
    )
    total = first + others[0]
    for other in others[1:]:
        total += other
    return total
