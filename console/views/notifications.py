"""Notifications about scans, of a project and of a repository; and the pages to confirm and unsubscribe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import Http404
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt

from console.forms.notifications import NotificationForm
from console.queries import notifications as queries
from console.views.shared.decorators import of_project, public
from console.views.shared.kept_forms import typed
from console.views.shared.pages import render_standalone
from registry.access import Action
from scanning import tasks
from scanning.notifications import channels, deliveries, messages, recipients, subscriptions
from scanning.undo import is_undoable

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from console.views.shared.place import Place
    from scanning.models import Subscription


@of_project(Action.VIEW)
def index(place: Place) -> HttpResponse:
    """The notifications of this place."""
    return _page(place, "index", rows=queries.subscriptions(place.project, place.maybe_repository))


def _create(place: Place) -> HttpResponse:
    """A form for the channel that was chosen; what was made, with its secret, after it."""
    kind = place.request.GET.get("channel", "")
    offered = {
        name: each for name, each in channels.CHANNELS.items() if not (each.is_about_events and place.maybe_repository)
    }
    channel = offered.get(kind) or next(iter(offered.values()))
    form = NotificationForm(typed(place.request), channel=channel)
    if place.request.method == "POST" and form.is_valid():
        made = form.attempt(
            subscriptions.create,
            place.actor,
            place.project,
            place.maybe_repository,
            channel.kind,
            form.target(),
            **form.options(),
        )
        tasks.start_asking()
        if made and made.secret:
            return _page(place, "secret", subscription=made.subscription, secret=made.secret)
        if made:
            place.flash(_("The notification has been created. Send a test to see that it arrives."))
            return place.redirect_to(place.named("notification"), subscription=made.subscription.pk)
    return _page(place, "create", form=form, channel=channel, channels=offered.values())


def _show(place: Place, subscription: int) -> HttpResponse:
    """One notification with its log. POST sends a test, pauses, resumes, makes a new secret, or deletes it."""
    found = _found(place, subscription)
    if place.request.method != "POST":
        log = queries.log(found, place.request.GET)
        known = recipients.known(place.project, found.recipients)
        return _page(place, "show", subscription=found, listing=log, recipients=known)
    act = place.request.POST.get("act", "")
    if act == "secret":
        secret = subscriptions.renew_secret(place.actor, found)
        return _page(place, "secret", subscription=found, secret=secret)
    if act == "delete":
        event = subscriptions.delete(place.actor, found)
        place.flash(_("The notification has been deleted."), undoable=event)
        return place.redirect_to(place.named("notifications"))
    if act == "test":
        content = messages.test_content(found, timezone.now())
        tasks.start_delivery(deliveries.queue(found, content, is_test=True).pk)
        place.flash(_("A test is on its way. The log below says how it went."))
    elif act == "ask":
        recipients.ask_again(place.project, place.request.POST.get("address", ""))
        tasks.start_asking()
        place.flash(_("A mail asking for consent is on its way."))
    elif act in {"pause", "resume"}:
        event = subscriptions.set_active(place.actor, found, is_active=act == "resume")
        words = _("The notification sends again.") if act == "resume" else _("The notification is paused.")
        place.flash(words, undoable=event)
    else:
        raise Http404
    return place.redirect_to(place.named("notification"), subscription=found.pk)


def _edit(place: Place, subscription: int) -> HttpResponse:
    """Change target, severity and frequency."""
    found = _found(place, subscription)
    form = NotificationForm(typed(place.request), channel=channels.of(found), current=found)
    if place.request.method == "POST" and form.is_valid():
        event = form.attempt(subscriptions.update, place.actor, found, form.target(), **form.options())
        if form.is_valid():
            tasks.start_asking()
            undoable = event if event and is_undoable(event) else None
            place.flash(_("The notification has been changed."), undoable=undoable)
            return place.redirect_to(place.named("notification"), subscription=found.pk)
    return _page(place, "edit", form=form, subscription=found)


def _secret(place: Place, subscription: int) -> HttpResponse:
    """Ask before the secret is replaced; the form goes to ``show``."""
    found = _found(place, subscription)
    here = place.url(place.named("notification"), subscription=subscription)
    if not channels.of(found).has_secret:
        return redirect(here)
    context: dict[str, Any] = {
        "question": _("Make a new secret for %(target)s?") % {"target": channels.of(found).target(found)},
        "back": here,
        "action": here,
        "keeps_former_secret": channels.of(found).keeps_former_secret,
    }
    return _page(place, "new_secret", **context)


def _delivery(place: Place, subscription: int, delivery: int) -> HttpResponse:
    """A delivery: request and response. POST sends it again."""
    found = _found(place, subscription)
    sent = queries.delivery(found, delivery)
    if sent is None:
        raise Http404
    if place.request.method == "POST":
        tasks.start_delivery(deliveries.again(sent).pk)
        place.flash(_("It is being sent again."))
        return place.redirect_to(place.named("notification"), subscription=found.pk)
    return _page(place, "delivery", subscription=found, delivery=sent)


# Admins change the notifications of a project. Users who may manage a repository change those of the repository.
create = of_project(Action.ADMINISTER)(_create)
repository_create = of_project(Action.MANAGE)(_create)
show = of_project(Action.VIEW, post=Action.ADMINISTER)(_show)
repository_show = of_project(Action.VIEW, post=Action.MANAGE)(_show)
edit = of_project(Action.ADMINISTER)(_edit)
repository_edit = of_project(Action.MANAGE)(_edit)
secret = of_project(Action.ADMINISTER)(_secret)
repository_secret = of_project(Action.MANAGE)(_secret)
delivery = of_project(Action.ADMINISTER)(_delivery)
repository_delivery = of_project(Action.MANAGE)(_delivery)


@csrf_exempt  # a mail program sends this, without a cookie (RFC 8058): the link itself is the proof
@public
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """GET asks, POST takes the address off."""
    leaving = subscriptions.read_unsubscribe_link(token)
    if leaving is None:
        return render_standalone(request, "console/notifications/unsubscribe.html", status=404)
    about = leaving.subscription and (leaving.subscription.repository or leaving.subscription.project)
    if request.method == "POST":
        client = request.headers.get("User-Agent", "")
        subscriptions.unsubscribe(leaving, remote_address=request.META.get("REMOTE_ADDR", ""), client=client)
    context: dict[str, Any] = {"leaving": leaving, "about": about, "is_done": request.method == "POST" or about is None}
    return render_standalone(request, "console/notifications/unsubscribe.html", **context)


@public
def confirm(request: HttpRequest, token: str) -> HttpResponse:
    """A person outside the organization agrees to mails or declines: GET asks, POST answers."""
    asked = recipients.read(token)
    said = request.POST.get("answer", "") if request.method == "POST" else ""
    if asked and said in {"yes", "no"}:
        recipients.answer(asked, agrees=said == "yes")
    return render_standalone(
        request, "console/notifications/confirm.html", status=200 if asked else 404, asked=asked, said=said
    )


def _found(place: Place, pk: int) -> Subscription:
    found = queries.subscription(place.project, place.maybe_repository, pk)
    if found is None:
        raise Http404
    return found


def _page(place: Place, template: str, **context: Any) -> HttpResponse:
    shared: dict[str, Any] = {
        "side": "repositories" if place.maybe_repository else "notifications",
        "tab": "repository_notifications",
        "may_change": place.may_manage if place.maybe_repository else place.may_administer,
        "list_url": place.url(place.named("notifications")),
        "delivery_view": place.named("delivery"),
        "new_url": place.url(place.named("notification_new")),
    }
    subscription = context.get("subscription")
    if subscription is not None:
        shared["here"] = place.url(place.named("notification"), subscription=subscription.pk)
        shared["secret_url"] = place.url(place.named("notification_secret"), subscription=subscription.pk)
        shared["edit_url"] = place.url(place.named("notification_edit"), subscription=subscription.pk)
    return place.render(f"console/notifications/{template}.html", **shared, **context)
