"""python -m thadistill.cli: the command where no script of it is installed, and how its processes start each other."""

from thadistill.cli.app import main

if __name__ == "__main__":
    main()
