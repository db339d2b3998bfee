"""The rules of the tags of a repository, and of all repositories of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import Http404
from django.utils.translation import gettext as _

from console.forms.shared.seen import seen
from console.forms.tag_rules import ChangeRules, EditRule, sign
from console.queries import tag_rules as queries
from console.views.shared.decorators import of_project
from console.views.shared.kept_forms import typed
from registry import projects, repositories, tag_rules
from registry.access import Action
from registry.errors import RequestInvalid

if TYPE_CHECKING:
    from django.http import HttpResponse

    from accounts.models import Project
    from console.views.shared.place import Place
    from registry.models import Event, Repository


@of_project(Action.VIEW, post=Action.ADMINISTER)
def show(place: Place) -> HttpResponse:
    """The rules of a project. POST moves or removes one."""
    return _show(place)


@of_project(Action.VIEW, post=Action.MANAGE)
def repository_show(place: Place) -> HttpResponse:
    """The rules of a repository. POST moves or removes one, or changes the last one."""
    return _show(place)


@of_project(Action.ADMINISTER)
def edit(place: Place, number: int) -> HttpResponse:
    """A rule of a project; a new one if ``number`` is 0. POST previews or saves it."""
    return _edit(place, number)


@of_project(Action.MANAGE)
def repository_edit(place: Place, number: int) -> HttpResponse:
    """A rule of a repository; a new one if ``number`` is 0. POST previews or saves it."""
    return _edit(place, number)


def _show(place: Place) -> HttpResponse:
    thing = place.maybe_repository or place.project
    if place.request.method == "POST":
        form = ChangeRules(place.request.POST)
        shown = seen(form) if form.is_valid() else None
        if shown is None:
            raise Http404
        words, wanted = _changed(shown, form.cleaned_data["act"], form.cleaned_data["number"])
        event = _update(place, wanted, shown)
        if event:
            place.flash(words, undoable=event)
        return place.redirect_to(place.named("tag_rules"))
    tag = place.request.GET.get("tag", "").strip()[:128]
    lines = queries.lines(thing)
    context: dict[str, Any] = {
        "lines": lines,
        "own": len(thing.tag_rules),
        "seen": sign(thing),
        "tag": tag,
        "found": next((line.rule for line in lines if tag and line.rule.matches(tag)), None),
        "preview": tag_rules.preview(thing) if "preview" in place.request.GET else None,
    }
    return _render(place, "console/tag_rules/show.html", **context)


def _changed(shown: dict[str, Any], act: str, number: int | None) -> tuple[str, dict[str, Any]]:
    """The words and the settings of a change to the list that the person saw."""
    if act in {"movable", "immutable"}:
        return _("The rule for all other tags has been changed."), {"tag_overwrite": act == "movable"}
    rules = list(shown["tag_rules"])
    place = (number or 0) - 1
    if not 0 <= place < len(rules):
        raise Http404
    rule = rules.pop(place)
    if act == "remove":
        return _("Rule %(number)s has been removed.") % {"number": number}, {"tag_rules": rules}
    rules.insert(max(0, place + (-1 if act == "up" else 1)), rule)
    return _("The order of the rules has been changed."), {"tag_rules": rules}


def _edit(place: Place, number: int) -> HttpResponse:
    thing: Repository | Project = place.maybe_repository or place.project
    if number > len(thing.tag_rules):
        raise Http404
    of_project = place.maybe_repository is None
    given = typed(place.request)
    form = EditRule(given, of_project=of_project) if given else EditRule.of(thing, number, of_project=of_project)
    context: dict[str, Any] = {"form": form, "number": number, "preview": None}
    if place.request.method == "POST" and form.is_valid():
        shown = seen(form) or {"tag_rules": thing.tag_rules}
        rules = list(shown["tag_rules"])
        rules[number - 1 if number else len(rules) : number or len(rules)] = [form.rule()]
        if place.request.POST.get("act") == "save":
            event = form.attempt(_update, place, {"tag_rules": rules}, shown)
            if form.is_valid():
                words = _("The rule has been saved.") if number else _("The rule has been added.")
                place.flash(words, undoable=event)
                return place.redirect_to(place.named("tag_rules"))
        else:
            context["preview"] = _preview(form, thing, rules)
    return _render(place, "console/tag_rules/edit.html", **context)


def _preview(form: EditRule, thing: Repository | Project, rules: list[dict[str, Any]]) -> tag_rules.Preview | None:
    """What the rules would do; None if one of them is wrong, which the form says."""
    try:
        thing.tag_rules = tag_rules.checked(rules, in_project="locked" in form.fields)
    except RequestInvalid as error:
        form.add_error("patterns", error.sentence)
        return None
    return tag_rules.preview(thing)


def _update(place: Place, wanted: dict[str, Any], shown: dict[str, Any]) -> Event | None:
    if place.maybe_repository:
        return repositories.update(place.actor, place.maybe_repository, seen=shown, **wanted)
    return projects.update(place.actor, place.project, seen=shown, **wanted)


def _render(place: Place, template: str, **context: Any) -> HttpResponse:
    of_project = place.maybe_repository is None
    shared: dict[str, Any] = {
        "thing": place.maybe_repository or place.project,
        "may_change": place.may_administer if of_project else place.may_manage,
        "list_url": place.url(place.named("tag_rules")),
        "new_url": place.url(place.named("tag_rule_new")),
        "edit_view": place.named("tag_rule"),
        "tab": place.named("tag_rules"),
        "side": "project_settings" if of_project else "repositories",
    }
    return place.render(template, **shared, **context)
