"""What Django's database layer lacks: prepared queries, locks, field types, retries, a queue of SQLite writers."""
