"""Soft-edged shapes and tissue textures, painted slice by slice."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

EDGE_PIXELS = 1.3
"""Width of an edge: partial volume of a pixel plus some blur of the scanner."""

_KNOT_MM = 6.0
_FIELDS_MM = {"fine": 1.1, "medium": 3.0, "coarse": 9.0}


@dataclass(frozen=True)
class Shape:
    """An ellipsoid with an uneven outline; lengths in mm, x to the patient's left, y to the back.

    Attributes:
        hu: Value inside.
        at: Centre (x, y, z).
        radii: Half axes (x, y, z); infinite in z for a shape that runs through the whole series.
        tissue: Texture, a key of ``Canvas.tissue``.
        angle: Rotation in degrees in the slice.
        shells: Inner layers as (depth under the surface in mm, HU, tissue).
        inside: Name of the shape that clips this one.
        name: Name by which other shapes refer to this one.
        uneven: Relative unevenness of the outline.
        drift: Shift of the centre (x, y) per mm of z.
    """

    hu: float
    at: tuple[float, float, float]
    radii: tuple[float, float, float]
    tissue: str = "organ"
    angle: float = 0.0
    shells: tuple[tuple[float, float, str], ...] = ()
    inside: str = ""
    name: str = ""
    uneven: float = 0.03
    drift: tuple[float, float] = (0.0, 0.0)


@dataclass
class Canvas:
    """One slice being painted.

    Attributes:
        hu: Image [row, column], HU.
        x: Position of each pixel [row, column], mm.
        y: Position of each pixel [row, column], mm.
        pixel_mm: Side of a pixel.
        tissue: Texture in HU [row, column] of each tissue.
        cover: Share of each pixel [row, column] that a named shape covers, 0 to 1.
    """

    hu: Image
    x: Image
    y: Image
    pixel_mm: float
    tissue: dict[str, Image]
    cover: dict[str, Image] = field(default_factory=dict)

    def paint(self, where: tuple[slice, slice], cover: Image, hu: float, tissue: str) -> None:
        """Blend a value with its texture into a part of the image."""
        value = hu + self.tissue[tissue][where] if tissue else hu
        self.hu[where] += cover * (value - self.hu[where])

    def around(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Return the part of the image within ``reach`` mm of a point, as (rows, columns)."""
        rows, columns = self.hu.shape
        row, column = y / self.pixel_mm + rows / 2, x / self.pixel_mm + columns / 2
        half = reach / self.pixel_mm + 2
        return (
            slice(max(0, int(row - half)), max(0, min(rows, int(row + half) + 1))),
            slice(max(0, int(column - half)), max(0, min(columns, int(column + half) + 1))),
        )


def paint_shape(canvas: Canvas, shape: Shape, z: float, wobble: NDArray[np.float64]) -> None:
    """Paint the cross-section of a shape at height z, if there is one.

    Args:
        canvas: Slice to paint on.
        shape: Shape to paint.
        z: Height of the slice in mm.
        wobble: Phases [4] of the unevenness of this shape.
    """
    height = 1.0 - ((z - shape.at[2]) / shape.radii[2]) ** 2
    if height <= 0.0:
        return
    a, b = (max(r * float(np.sqrt(height)), 0.3) for r in shape.radii[:2])
    x = shape.at[0] + shape.drift[0] * z
    y = shape.at[1] + shape.drift[1] * z
    where = canvas.around(x, y, 1.25 * max(a, b))
    depth = _depth(canvas.x[where] - x, canvas.y[where] - y, (a, b), shape, z, wobble)
    clip = canvas.cover[shape.inside][where] if shape.inside else np.float32(1.0)
    edge = EDGE_PIXELS * canvas.pixel_mm
    for under, hu, tissue in ((0.0, shape.hu, shape.tissue), *shape.shells):
        cover = np.clip(0.5 + (depth - under) / edge, 0.0, 1.0) * clip
        canvas.paint(where, cover.astype(np.float32), hu, tissue)
    if shape.name:
        whole = canvas.cover.setdefault(shape.name, np.zeros_like(canvas.hu))
        whole[where] = np.maximum(whole[where], np.clip(0.5 + depth / edge, 0.0, 1.0) * clip)


def _depth(
    x: Image,
    y: Image,
    half_axes: tuple[float, float],
    shape: Shape,
    z: float,
    wobble: NDArray[np.float64],
) -> Image:
    """Depth under the surface in mm, negative outside, to first order (Taubin's distance)."""
    turn = np.deg2rad(shape.angle)
    u = (x * np.cos(turn) + y * np.sin(turn)) / half_axes[0]
    v = (y * np.cos(turn) - x * np.sin(turn)) / half_axes[1]
    radius = np.maximum(np.sqrt(u**2 + v**2), 1e-3)
    theta = np.arctan2(v, u)
    outline = sum(np.cos(k * theta + wobble[k - 2] + 0.03 * z) / k for k in (2, 3, 4, 5))
    slope = np.sqrt((u / half_axes[0]) ** 2 + (v / half_axes[1]) ** 2) / radius
    depth: Image = (1.0 + shape.uneven * outline - radius) / np.maximum(slope, 1e-6)
    return depth


def paint_discs(canvas: Canvas, discs: NDArray[np.float64], hu: float, clip: str) -> None:
    """Paint round cross-sections [disc, (x, y, radius)] in mm, for example of vessels."""
    edge = EDGE_PIXELS * canvas.pixel_mm
    for x, y, radius in discs:
        where = canvas.around(x, y, radius)
        distance = np.hypot(canvas.x[where] - x, canvas.y[where] - y)
        cover = np.clip(0.5 + (radius - distance) / edge, 0.0, 1.0) * canvas.cover[clip][where]
        # The brighter of two wins, so that overlapping discs of one vessel do not add edges.
        canvas.hu[where] = np.maximum(canvas.hu[where], canvas.hu[where] * (1 - cover) + cover * hu)


class Textures:
    """Random fields of zero mean and unit variance that change smoothly from slice to slice."""

    def __init__(
        self, size: int, pixel_mm: float, heights: NDArray[np.float64], rng: np.random.Generator
    ) -> None:
        self._first = float(heights.min())
        knots = int((heights.max() - heights.min()) // _KNOT_MM) + 2
        self._knots = {
            name: [_smooth_field(size, mm / pixel_mm, rng) for _ in range(knots)]
            for name, mm in _FIELDS_MM.items()
        }

    def fields(self, z: float) -> dict[str, Image]:
        """Return each field [row, column] at a height in mm."""
        place = (z - self._first) / _KNOT_MM
        low = int(place)
        angle = 0.5 * np.pi * (place - low)
        near, far = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return {name: near * k[low] + far * k[low + 1] for name, k in self._knots.items()}

    def tissues(self, z: float, back: Image) -> dict[str, Image]:
        """Return the texture of each tissue [row, column] in HU.

        Args:
            z: Height in mm.
            back: Position [row, column] from 0 in front to 1 at the back, where lungs are denser.
        """
        f = self.fields(z)
        strands = np.exp(-((f["coarse"] / 0.10) ** 2)) * np.clip(f["medium"], 0.0, 1.5)
        fibres = np.exp(-((f["medium"] / 0.25) ** 2)) * np.clip(f["coarse"], 0.0, 1.5)
        lobules = 30.0 * f["medium"] + 22.0 * f["fine"] + 20.0 * f["coarse"]
        return {
            "organ": 2.5 * f["medium"] + 1.5 * f["coarse"],
            "blood": 1.0 * f["coarse"],
            "muscle": 3.0 * f["medium"] - 12.0 * fibres,
            "fat": 4.0 * f["medium"] + 2.0 * f["coarse"] + 45.0 * strands,
            "lung": lobules + 70.0 * (back - 0.5),
            "marrow": 45.0 * f["fine"] + 35.0 * f["medium"],
            "brain": 1.0 * f["medium"] + 1.0 * f["coarse"],
            "cortex": 1.5 * f["medium"] - 24.0 * np.exp(-((f["coarse"] / 0.09) ** 2)),
            "bowel": 10.0 * f["medium"] + 8.0 * f["coarse"],
        }


def _smooth_field(size: int, correlation: float, rng: np.random.Generator) -> Image:
    """Gaussian field [row, column] with a correlation length in pixels."""
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    smooth = np.fft.irfft2(spectrum * np.exp(-2.0 * (np.pi * f * correlation) ** 2), (size, size))
    scaled: Image = (smooth / smooth.std()).astype(np.float32)
    return scaled
