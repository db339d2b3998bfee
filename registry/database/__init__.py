"""Additions to Django's database layer: prepared queries, locks, fields, retries, a queue of SQLite writers."""
