"""Run the benchmark of a whole series."""

from benchmarks.series.command import main

if __name__ == "__main__":
    main()
