"""The migrations of accounts, and two more."""

from tests import future

__path__.append(future.folder("accounts"))
