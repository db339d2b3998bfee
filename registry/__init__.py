"""The registry and the Django project package.

Celery is loaded here, so that a web process queues its work with the broker of this installation.
"""

from .celery import app as celery_app

__all__ = ["celery_app"]
