"""``python -m ddreplay``: the command line."""

from ddreplay.cli import main

if __name__ == "__main__":
    main()
