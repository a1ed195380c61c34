"""`python -m commonroot`."""

from commonroot.cli import main

if __name__ == "__main__":
    main()
