"""`python -m ptyprep` is the command line."""
from ptyprep.cli.commands import main

if __name__ == "__main__":
    main()
