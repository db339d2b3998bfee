"""Statistics: pulls and pushes by day, and stored bytes."""
