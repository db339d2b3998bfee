"""Named places where tests make a process die, fail or wait. They do nothing unless KCR_FAILPOINT is set.

``KCR_FAILPOINT=name:die`` ends the process there at once (no clean-up, as kill -9), ``name:fail`` raises OSError(EIO),
``name:full`` raises OSError(ENOSPC), ``name:wait`` sleeps for a second.
"""

from __future__ import annotations

import errno
import os
import time

_NAME, _, _ACTION = os.environ.get("KCR_FAILPOINT", "").partition(":")


def failpoint(name: str) -> None:
    """Run the action of ``KCR_FAILPOINT`` if it names this place."""
    if name == _NAME:
        _act()


def _act() -> None:
    if _ACTION == "die":
        os._exit(137)
    if _ACTION in {"fail", "full"}:
        code = errno.EIO if _ACTION == "fail" else errno.ENOSPC
        raise OSError(code, os.strerror(code))
    if _ACTION == "wait":
        time.sleep(1)
