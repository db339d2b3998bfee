"""The processes of tests/registry/test_race.py: ``python -m tests.race.pusher`` and so on, each one worker.

They read their environment: RACE_SECONDS (how long), RACE_FOUND (a file that ends the race when it exists) and
RACE_CONTROL (the rule of ``tests.race.controls`` to break; empty for none).
"""

import django
from django.apps import apps

if not apps.ready:
    django.setup()
