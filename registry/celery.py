"""Background tasks: Celery with Redis, or with files when all processes run on one machine.

The file broker (registry.broker) needs no server. A crashed worker loses its message, and workers poll once a second.
Neither does harm: a task may run twice, late or never, because periodic sweeps find work that is due.
"""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from typing import Any

from celery import Celery
from celery.beat import PersistentScheduler
from celery.schedules import crontab
from celery.signals import worker_init
from django.conf import settings
from django.db import OperationalError

from registry import broker, migrated, pools

logger = logging.getLogger(__name__)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "registry.settings")

BACK = timedelta(seconds=5)  # that the clock was set back at least


class Scheduler(PersistentScheduler):
    """Celery's. After the clock was set back that one runs nothing until the former time comes again."""

    def tick(self, *arguments: Any, **options: Any) -> float:
        """Run the next task that is due. Return the seconds until the next call."""
        now = self.app.now()
        if ahead := [each for each in self.schedule.values() if each.last_run_at and each.last_run_at > now + BACK]:
            for entry in ahead:
                entry.last_run_at = now
            self._heap = None  # its times are those of the former clock
        seconds: float = super().tick(*arguments, **options)
        return seconds


app = Celery("kcr")
app.conf.update(
    broker_url=broker.register(settings.REDIS_URL),
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_acks_late=True,
    task_time_limit=3600,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,  # a worker waits for its broker as long as it takes
    task_publish_retry=False,  # a request waits once for a broker that is away (accounts.redis)
    worker_hijack_root_logger=False,
    worker_enable_remote_control=False,
    beat_scheduler="registry.celery:Scheduler",
    beat_schedule_filename=str(settings.DATA_DIR / "beat-schedule"),
    timezone="UTC",
    # A scan may take minutes. A queue of its own keeps scans from delaying other tasks.
    task_routes={
        f"scanning.tasks.{name}": {"queue": "scans"}
        for name in ("scan", "refresh_database", "check_isolation", "answer_doctor")
    },
    beat_schedule={
        "sweep uploads": {"task": "registry.tasks.sweep_uploads", "schedule": 600.0},
        "discard abandoned uploads": {
            "task": "registry.tasks.discard_abandoned_uploads",
            "schedule": crontab(minute="50", hour="4"),
        },
        "measure usage": {"task": "registry.tasks.measure_usage", "schedule": 10.0},
        "forget what has expired": {"task": "accounts.tasks.forget_expired", "schedule": crontab(minute="17")},
        "forget old pull statistics": {"task": "registry.tasks.forget_pulls", "schedule": crontab(minute="19")},
        "warn of keys that end": {"task": "accounts.tasks.warn_of_expiry", "schedule": crontab(minute="41")},
        "warn of full quotas": {"task": "registry.tasks.warn_of_quotas", "schedule": crontab(minute="37")},
        "fetch keys of issuers": {"task": "accounts.tasks.refresh_issuers", "schedule": crontab(minute="33")},
        "run cleanup policies": {"task": "registry.tasks.clean_repositories", "schedule": 300.0},
        "prune the history": {"task": "registry.tasks.prune_history", "schedule": crontab(minute="40", hour="3")},
        "prune the audit log": {"task": "accounts.tasks.prune_audit_log", "schedule": crontab(minute="45", hour="3")},
        "purge expired deletions": {"task": "registry.tasks.purge_deletions", "schedule": 600.0},
        "collect garbage": {
            "task": "registry.tasks.collect_garbage",
            "schedule": crontab(minute="10", hour="4"),
        },
        "go on with collections": {"task": "registry.tasks.sweep_collections", "schedule": 60.0},
        "delete unnamed bytes": {"task": "registry.tasks.reap_objects", "schedule": 300.0},
        "look for forgotten blobs": {
            "task": "registry.tasks.reconcile_blobs",
            "schedule": crontab(minute="20", hour="5", day_of_week="0"),
        },
        "go on with scans": {"task": "scanning.tasks.sweep_scans", "schedule": 30.0},
        "scan what is tagged": {"task": "scanning.tasks.request_daily", "schedule": 60.0},
        "renew the vulnerability database": {"task": "scanning.tasks.refresh_database", "schedule": 600.0},
        "look at the isolation of scans": {"task": "scanning.tasks.check_isolation", "schedule": crontab(minute="29")},
        "record severities": {"task": "scanning.tasks.record_severities", "schedule": crontab(minute="52")},
        "rotate the signing key": {
            "task": "accounts.tasks.rotate_signing_key",
            "schedule": crontab(minute="5", hour="3"),
        },
        "count findings": {"task": "scanning.tasks.recount", "schedule": 5.0},
        "gather notices": {"task": "scanning.tasks.gather_notices", "schedule": 15.0},
        "spread events": {"task": "scanning.tasks.spread_events", "schedule": 5.0},
        "sweep deliveries": {"task": "scanning.tasks.sweep_deliveries", "schedule": 30.0},
        "forget old deliveries": {"task": "scanning.tasks.forget_deliveries", "schedule": crontab(minute="23")},
    },
)
if settings.REDIS_URL:
    # redis-py would wait for an answer without end. A worker asks for messages with a wait of one second.
    app.conf.broker_transport_options = {"socket_connect_timeout": 1, "socket_timeout": 2, "health_check_interval": 10}
else:
    queue = settings.DATA_DIR / "broker"
    for folder in ("messages", "processed", "control"):
        (queue / folder).mkdir(parents=True, exist_ok=True)
    app.conf.broker_transport_options = {
        "data_folder_in": str(queue / "messages"),
        "data_folder_out": str(queue / "messages"),
        "processed_folder": str(queue / "processed"),
        "control_folder": str(queue / "control"),
        "store_processed": False,
        "polling_interval": 1.0,
    }
app.autodiscover_tasks()


@worker_init.connect
def _prepare_worker(sender: Any, **kwargs: Any) -> None:
    """Size the pool, and end the worker if migrations are missing. While the database is away, nothing is known.

    Threads of a worker share a pool. Forked processes have one each, and use one connection of it.
    """
    pools.resize(sender.concurrency)
    try:
        migrated.require()
    except OperationalError:
        logger.warning("the database is away: whether it is migrated is not known")
    except migrated.NotMigrated as error:
        raise SystemExit(str(error)) from error
    finally:
        pools.close()
