"""Indexes of the next release."""

from tests import future

Migration = future.indexes("accounts")
