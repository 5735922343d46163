"""python experiments/collect.py FOLDER [OUT]: every run below FOLDER in one table: results.csv, table.md, pareto.png.

A sweep does this at its end by itself; this is for runs that other commands made, or several sweeps together.
"""

from __future__ import annotations

import sys

from thadistill.errors import UserError
from thadistill.sweeps import collect, markdown_table


def main() -> None:
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    try:
        print(markdown_table(collect(*sys.argv[1:])))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
