"""`python -m ragops` is the same program as `ragops`."""

from ragops.cli.main import main

if __name__ == "__main__":
    main()
