"""``python -m training.cli``, which is how ``torchrun`` and tests start it."""

from training.cli.entry import main

if __name__ == "__main__":
    main()
