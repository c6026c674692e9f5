"""CT images in DICOM, read into HU and derived series written back; no network, no database."""

from pydicom import config

# A value that breaks its type's rules is kept as it came. pydicom would quote it in a warning, and
# what it quotes can be a patient's name.
config.settings.reading_validation_mode = config.IGNORE
