"""Race of tests/scanning/test_many_workers.py."""

from accounts import organizations
from accounts.actors import SYSTEM
from registry import projects, repositories
from scanning.models import Delivery, Notification
from scanning.notifications import deliveries, messages, subscriptions
from tests.support.factories import high, make_manifest, scanned, subscribe
from tests.support.threads import at_once


def deliver_in_four_threads(url: str) -> dict[str, int]:
    """Scan twelve images, gather their notifications and deliver them to the URL, each step in four threads at once."""
    organization, _ = organizations.create_organization("acme")
    project, _ = projects.create(SYSTEM, organization, "demo")
    web, _ = repositories.create(SYSTEM, project, "web")
    subscribe(project)
    subscriptions.create(SYSTEM, project, None, "webhook", {"url": url}, min_severity=4, frequency="new", language="en")
    for number in range(12):
        scanned(make_manifest(web, f"app {number}", image=f"a{number}", tag="1"), high("CVE-1"))
    written = [pk for ids in at_once(*[messages.gather] * 4) for pk in ids] + messages.gather()
    images = {pk: Delivery.objects.get(pk=pk).content["totals"]["images"] for pk in written}
    hooks = list(Delivery.objects.filter(subscription__channel="webhook").values_list("pk", flat=True))
    states = at_once(*[lambda: [str(deliveries.deliver(pk)) for pk in hooks]] * 4)
    return {
        "images": sum(images.values()),
        "notifications": Notification.objects.count(),
        "pending": Notification.objects.filter(delivery=None).count(),
        "hooks": len(hooks),
        "sent": sum(each.count("sent") for each in states),
        "attempts": sum(Delivery.objects.filter(pk__in=hooks).values_list("attempts", flat=True)),
    }
