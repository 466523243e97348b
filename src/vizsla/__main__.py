"""`python -m vizsla`, the same as `vizsla`."""

from vizsla.cli import main

if __name__ == "__main__":
    main()
