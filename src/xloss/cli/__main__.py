"""`python -m xloss.cli`."""

from . import main

main()
