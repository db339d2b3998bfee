"""``python -m tests.support.commands``: run commands of ``manage.py``, one after the other, in one process.

Reads a JSON list of command lines, such as [["createproject", "acme", "demo"]], from standard input, and prints a list
of what each printed as JSON, null for one that printed nothing. Starting a process for each takes most of their time.
"""

import json
import sys
from contextlib import redirect_stdout
from io import StringIO

from django.core.management import ManagementUtility

if __name__ == "__main__":
    answers = []
    for line in json.load(sys.stdin):
        with redirect_stdout(StringIO()) as printed:
            ManagementUtility(["manage.py", *line]).execute()
        answers.append(json.loads(printed.getvalue() or "null"))
    json.dump(answers, sys.stdout)
