"""Compressed pixels decoded in processes of their own.

The decoders of pydicom hold Python's lock, so that nothing else in a process goes on while one
works; and they are C code that foreign bytes can crash. `pool` starts and asks the processes, each
of which runs ``python -m dicom_node.ct.decoding``; `frame` is what the two say to each other.
"""
