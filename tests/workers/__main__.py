"""``python -m tests.workers MODULE FUNCTION ARGUMENT…``: call a function of tests/workers/MODULE.py with texts.

Prints the result as JSON, and nothing for None. The environment has the settings of the server.
"""

import json
import sys
from importlib import import_module

import django

from registry import pools

THREADS = 16  # at most so many of a function ask the database at once


def main(module: str, function: str, *arguments: str) -> None:
    """Call the function and print its result."""
    django.setup()
    pools.resize(THREADS)
    result = getattr(import_module(f"tests.workers.{module}"), function)(*arguments)
    if result is not None:
        print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
