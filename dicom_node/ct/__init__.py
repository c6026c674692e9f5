"""CT images in DICOM, read into HU and derived series written back; no network, no database.

`folder` finds the series in a folder, `scope` decides which can be processed, `headers` and
`pixels` read one image, with `decoding` where it is compressed, and `read` makes a `CtSeries` of
all, or a `CtStack`, whose slices `reader` reads ahead of their use. `slices` assesses the positions
of slices, `derived` makes the derived images.
"""

from __future__ import annotations

from dicom_node.ct.libraries import prepare_dicom_libraries

__all__ = ["prepare_dicom_libraries"]
