"""`python -m newsie` is `newsie`."""

from newsie.cli import main

if __name__ == "__main__":
    main()
