"""The web server: a gunicorn worker in which no client holds what others need (docs/design/server.md)."""
