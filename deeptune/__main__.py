"""Run the command line: `python -m deeptune`."""

from deeptune.cli import main

if __name__ == "__main__":
    main()
