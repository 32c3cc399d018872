"""`python -m sertk`."""

from sertk.cli import main

main()
