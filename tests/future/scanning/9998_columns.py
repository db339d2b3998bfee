"""Tables and columns of the next release."""

from tests import future

Migration = future.columns("scanning")
