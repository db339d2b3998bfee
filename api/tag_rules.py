"""The rules of tags of a project and of a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from accounts.models import Project
from registry import projects, repositories, tag_rules
from registry.access import Action

from .base import Answer, ApiView, etag_of, operation
from .fields import Switch, Text, Wanted

if TYPE_CHECKING:
    from registry.models import Repository

MODES = [str(mode) for mode in tag_rules.Mode]


class RepositoryTagRuleJson(serializers.Serializer[Any]):
    """A rule of a repository: which tags it is for, and what may become of them."""

    patterns = serializers.ListField(child=serializers.CharField(), help_text="globs over whole names of tags")
    mode = serializers.ChoiceField(
        choices=MODES,
        help_text="immutable: the tag names one digest while it exists; write-once: its name never names another one",
    )
    keep = serializers.BooleanField(help_text="true: its tags cannot be deleted")
    pushers = serializers.ListField(
        child=serializers.CharField(), help_text="who may push its tags: e-mail addresses, and admins; empty: all"
    )


class TagRuleJson(RepositoryTagRuleJson):
    """A rule of a project: which tags it is for, and what may become of them."""

    locked = serializers.BooleanField(help_text="true: no rule of a repository comes before it")


class TagRulesJson(serializers.Serializer[Any]):
    """The rules of a project in order. The first one with a pattern that matches applies."""

    rules = TagRuleJson(many=True)


class RepositoryTagRulesJson(serializers.Serializer[Any]):
    """The rules of a repository in order. The first one with a pattern that matches applies."""

    rules = RepositoryTagRuleJson(many=True)


class RepositoryTagRuleWanted(Wanted):
    """A rule of a repository."""

    patterns = serializers.ListField(
        child=Text(max_length=128), min_length=1, max_length=tag_rules.MAX_PATTERNS, help_text="such as v*"
    )
    mode = serializers.ChoiceField(choices=MODES, default=str(tag_rules.Mode.MOVABLE))
    keep = Switch(default=False)
    pushers = serializers.ListField(
        child=Text(max_length=254), default=list, max_length=tag_rules.MAX_PUSHERS, help_text="empty: all who may push"
    )


class TagRuleWanted(RepositoryTagRuleWanted):
    """A rule of a project."""

    locked = Switch(default=False, help_text="true: no rule of a repository comes before it")


class TagRulesWanted(Wanted):
    """All rules of a project, in order."""

    rules = serializers.ListField(child=TagRuleWanted(), max_length=tag_rules.MAX_RULES)


class RepositoryTagRulesWanted(Wanted):
    """All rules of a repository, in order."""

    rules = serializers.ListField(child=RepositoryTagRuleWanted(), max_length=tag_rules.MAX_RULES)


class RuleNumberJson(serializers.Serializer[Any]):
    """A rule, and how many of the live tags it is for."""

    of = serializers.CharField(help_text="the project, or project/repository, whose list has the rule")
    number = serializers.IntegerField(help_text="its place in that list, from 1; 0: tag_overwrite of the repository")
    patterns = serializers.ListField(child=serializers.CharField())
    tags = serializers.IntegerField()


class RefusedChangeJson(serializers.Serializer[Any]):
    """A change of a tag that a rule would have refused."""

    at = serializers.DateTimeField()
    path = serializers.CharField(help_text="the image")
    tag = serializers.CharField()
    change = serializers.ChoiceField(choices=[str(each) for each in tag_rules.What])
    actor = serializers.CharField()
    of = serializers.CharField(help_text="the project, or project/repository, whose list has the rule")
    number = serializers.IntegerField()


class TagRulesPreviewJson(serializers.Serializer[Any]):
    """What rules do: the tags of today, and the changes of the last days that they would have refused."""

    rules = RuleNumberJson(many=True, help_text="in the order in which they apply")
    days = serializers.IntegerField()
    total = serializers.IntegerField(help_text="changes that would have been refused in these days")
    refused = RefusedChangeJson(many=True, help_text="the newest 200 of them")


class TagRulesView(ApiView):
    """/api/v1/projects/{project}/tag-rules"""

    noun = "tag rules"

    @operation(Action.VIEW, TagRulesJson)
    def get(self) -> Answer:
        """Get the rules for the tags of all repositories of a project."""
        return _answer(self.project)

    @operation(Action.ADMINISTER, TagRulesJson, body=TagRulesWanted, is_conditional=True)
    def put(self) -> Answer:
        """Set the rules for the tags of all repositories of a project."""
        now = self.project.tag_rules
        self.check(etag_of(now))
        seen = {"tag_rules": now} if self.has_precondition else None
        projects.update(self.actor, self.project, seen=seen, tag_rules=self.body["rules"])
        return _answer(self.project)


class RepositoryTagRulesView(ApiView):
    """…/repositories/{repository}/tag-rules"""

    noun = "tag rules"

    @operation(Action.VIEW, RepositoryTagRulesJson)
    def get(self) -> Answer:
        """Get the rules for the tags of a repository. Those of its project apply, too."""
        return _answer(self.repository)

    @operation(Action.MANAGE, RepositoryTagRulesJson, body=RepositoryTagRulesWanted, is_conditional=True)
    def put(self) -> Answer:
        """Set the rules for the tags of a repository."""
        now = self.repository.tag_rules
        self.check(etag_of(now))
        seen = {"tag_rules": now} if self.has_precondition else None
        repositories.update(self.actor, self.repository, seen=seen, tag_rules=self.body["rules"])
        return _answer(self.repository)


class TagRulesPreviewView(ApiView):
    """/api/v1/projects/{project}/tag-rules/preview"""

    noun = "tag rules"

    @operation(Action.ADMINISTER, TagRulesPreviewJson, body=TagRulesWanted)
    def post(self) -> dict[str, Any]:
        """Tell what rules of a project would do. Nothing is saved."""
        self.project.tag_rules = tag_rules.checked(self.body["rules"], in_project=True)
        return _preview(self.project)


class RepositoryTagRulesPreviewView(ApiView):
    """…/repositories/{repository}/tag-rules/preview"""

    noun = "tag rules"

    @operation(Action.MANAGE, TagRulesPreviewJson, body=RepositoryTagRulesWanted)
    def post(self) -> dict[str, Any]:
        """Tell what rules of a repository would do, together with those of its project. Nothing is saved."""
        self.repository.tag_rules = tag_rules.checked(self.body["rules"], in_project=False)
        return _preview(self.repository)


def _answer(thing: Project | Repository) -> Answer:
    in_project = isinstance(thing, Project)
    rules = [tag_rules.stored(rule, in_project=in_project) for rule in tag_rules.rules_of(thing)]
    return Answer({"rules": rules}, etag=etag_of(thing.tag_rules))


def _preview(thing: Project | Repository) -> dict[str, Any]:
    found = tag_rules.preview(thing)
    return {
        "rules": [
            {"of": rule.of, "number": rule.number, "patterns": rule.patterns, "tags": tags}
            for rule, tags in found.numbers
        ],
        "days": found.days,
        "total": found.total,
        "refused": [
            {
                "at": each.at,
                "path": each.path,
                "tag": each.tag,
                "change": str(each.what),
                "actor": each.actor,
                "of": each.rule.of,
                "number": each.rule.number,
            }
            for each in found.shown
        ],
    }
