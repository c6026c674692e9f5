"""Entry point of ``python -m training.cli``, used by ``torchrun`` and tests."""

from training.cli.entry import main

if __name__ == "__main__":
    main()
