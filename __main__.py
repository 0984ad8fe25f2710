"""``python -m halfulp``."""

from .cli import main

main()
