"""Run the command line with `python -m difftori_pl`."""

from difftori_pl.cli import main

if __name__ == "__main__":
    main()
