"""The migrations of scanning, and two more."""

from tests import future

__path__.append(future.folder("scanning"))
