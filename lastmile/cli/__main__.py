"""`python -m lastmile.cli`, where the console script is not on the path."""

from lastmile.cli import main

main()
