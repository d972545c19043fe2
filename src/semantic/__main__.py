"""`python -m semantic` is the command `semantic`."""

from semantic.entrypoints.cli import main

if __name__ == "__main__":
    main()
