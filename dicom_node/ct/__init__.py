"""CT images in DICOM, read into HU and derived series written back; no network, no database.

`folder` finds the series in a folder, `scope` decides which can be processed, `headers` and
`pixels` read one image, and `read` makes a `CtSeries` of all. `slices` assesses the positions of
its slices, `derived` makes the derived images.
"""

from pydicom import config

# A value that breaks its type's rules is kept as it came. pydicom would quote it in a warning, and
# what it quotes can be a patient's name.
config.settings.reading_validation_mode = config.IGNORE
