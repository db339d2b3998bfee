"""The migrations of registry, and two more."""

from tests import future

__path__.append(future.folder("registry"))
