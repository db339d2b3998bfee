"""The bytes that the diagnostic address sends, and that the doctor expects."""

from __future__ import annotations

BLOB = bytes(range(256)) * 4096  # 1 MiB
MANIFEST = b'{"schemaVersion": 2, "annotations": {"doctor": "' + b"what a proxy may want to compress " * 200 + b'"}}'
ETAG = '"sha256:doctor"'
PIECE = b"." * 1024  # fewer bytes than a proxy buffers
PAUSE = 1.5  # seconds between the two pieces of a slow answer
