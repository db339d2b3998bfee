"""``python -m tests.workers.turns FILE ORDER HOW``: the other process of tests/registry/test_sqlite.py.

Take a turn of the queue FILE, write "other " to ORDER, and give the turn back, or end without that ("dies").
"""

import os
import sys
from pathlib import Path

from registry.database.sqlite.turns import Turns

turn = Turns(Path(sys.argv[1])).take(60)
with Path(sys.argv[2]).open("a") as order:
    order.write("other ")
if sys.argv[3] == "dies":
    os._exit(0)
turn.give()
