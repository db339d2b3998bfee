"""The web server: a gunicorn worker that limits what one client can occupy (docs/design/server.md)."""
