"""`python -m hsa.cli` is `hsa`: a console script names its interpreter in a first line that not every path survives."""

from hsa.cli import main

main()
