"""Several workers as threads of one process: ``python -m tests.scanning.workers URL`` prints JSON.

They gather the notifications of twelve images at once, and then send the same deliveries to the URL at once.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import django

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS = 4


def at_once(work: Callable[[], Any]) -> list[Any]:
    """What the work gave in each of the workers, which begin together."""
    from django.db import connection

    start, found = threading.Barrier(WORKERS), []

    def run() -> None:
        try:
            start.wait()
            found.append(work())
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def main(url: str) -> None:
    """Create the images, gather their notifications and deliver them, each step in all workers at once."""
    django.setup()
    from accounts import organizations
    from accounts.actors import SYSTEM
    from registry import projects, repositories
    from scanning.models import Delivery, Notification
    from scanning.notifications import deliveries, messages, subscriptions
    from tests.support.factories import high, make_manifest, scanned, subscribe

    organization, _ = organizations.create_organization("acme")
    project, _ = projects.create(SYSTEM, organization, "demo")
    web, _ = repositories.create(SYSTEM, project, "web")
    subscribe(project)
    subscriptions.create(SYSTEM, project, None, "webhook", {"url": url}, min_severity=4, frequency="new", language="en")
    for number in range(12):
        scanned(make_manifest(web, f"app {number}", image=f"a{number}", tag="1"), high("CVE-1"))
    written = [pk for ids in at_once(messages.gather) for pk in ids] + messages.gather()
    images = {pk: Delivery.objects.get(pk=pk).content["totals"]["images"] for pk in written}
    hooks = list(Delivery.objects.filter(subscription__channel="webhook").values_list("pk", flat=True))
    states = at_once(lambda: [str(deliveries.deliver(pk)) for pk in hooks])
    print(
        json.dumps(
            {
                "written": len(written),
                "images": sum(images.values()),
                "notifications": Notification.objects.count(),
                "pending": Notification.objects.filter(delivery=None).count(),
                "hooks": len(hooks),
                "sent": sum(each.count("sent") for each in states),
                "attempts": sum(Delivery.objects.filter(pk__in=hooks).values_list("attempts", flat=True)),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
