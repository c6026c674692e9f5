"""CT images in DICOM, read into HU and derived series written back; no network, no database.

`folder` finds the series in a folder, `scope` decides which can be processed, `headers`, `pixels`
and `image_file` read one image, and `read` makes a `CtSeries` of all, or a `CtStack`, whose slices
`reader` reads ahead of their use. `slices` assesses the positions of slices, `derived` makes the
derived images. `conversion` is the processes in which images are read and derived.
"""

from __future__ import annotations

from dicom_node.ct.libraries import prepare_dicom_libraries

__all__ = ["prepare_dicom_libraries"]
