"""Numbers for people: pulls and pushes by day, and stored bytes."""
