"""`python -m ptyprep` is the command line."""
from ptyprep.cli import main

if __name__ == "__main__":
    main()
