"""``python -m dicom_node.cli``, which is how the node starts its own parts."""

from dicom_node.cli.entry import main

if __name__ == "__main__":
    main()
