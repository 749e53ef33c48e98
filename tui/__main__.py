"""Run the terminal interface: `python -m tui`."""

from tui.main import main

if __name__ == "__main__":
    main()
