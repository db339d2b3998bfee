"""Django's PostgreSQL backend, with requests that fail soon while the server does not answer. See base."""
