"""Slices converted between DICOM and HU in processes of their own.

pydicom and the decoders hold Python's lock, so that nothing else in a process goes on while one
works; and decoders are C code that foreign bytes can crash. `pool` starts and asks the processes,
each of which runs ``python -m dicom_node.ct.conversion``; `messages` is what the two say to each
other; `slices` does the work; `limits` bounds what an image may take.
"""
