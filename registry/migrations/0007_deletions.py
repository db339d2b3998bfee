"""A deletion has columns for what its events said, so that it does not need the audit log."""

import django.db.models.deletion
from django.db import migrations, models

NAME_LENGTH = 255  # of the column ``name``, which held the requested tags and digests, and was cut
TAG_NAMES = 12
ROWS = 500


def fill(apps, schema_editor):
    deletions = apps.get_model("registry", "Deletion").objects
    events = apps.get_model("registry", "Event").objects
    rows = deletions.select_related("event").order_by("pk")
    last = 0
    while some := list(rows.filter(pk__gt=last)[:ROWS]):
        for deletion in some:
            event = deletion.event
            deletion.repository_id = event.repository_id
            deletion.image_id = None if deletion.kind == "repository" else event.image_id
            deletion.actor = event.actor
            deletion.summary = summary(deletion.kind, event.detail)
            deletion.requested = requested(deletion, events)
        deletions.bulk_update(some, ["repository", "image", "actor", "summary", "requested"])
        last = some[-1].pk
    if schema_editor.connection.vendor == "postgresql":  # it alters no table while checks of foreign keys are pending
        schema_editor.connection.check_constraints()


def summary(kind, detail):
    if kind == "repository":
        return {"images": detail.get("images", 0), "tags": detail.get("tags", 0)}
    names = detail.get("tags", [])
    return {"tags": len(names), "tag_names": names[:TAG_NAMES]}


def requested(deletion, events):
    """The tags and digests of the column ``name``; if it was cut, the last one and the rest from the act's events.

    An act writes its events at once, under the lock of the image, and then its deletion.
    """
    if not deletion.name:
        return []
    names = deletion.name.split(", ")
    if len(deletion.name) < NAME_LENGTH:
        return names
    first = deletion.event
    written = events.filter(
        pk__gte=first.pk,
        image=first.image_id,
        user=first.user_id,
        key=first.key_id,
        actor=first.actor,
        at__gte=first.at,
        at__lte=deletion.at,
        action__in=("image.delete", "tag.delete"),
    )
    rows = written.order_by("pk").values_list("action", "digest", "tag")
    of_events = [digest if action == "image.delete" else tag for action, digest, tag in rows]
    return list(dict.fromkeys([*names[:-1], *filter(None, of_events)]))


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0006_plain_names'),
    ]

    operations = [
        migrations.AddField(
            model_name='deletion',
            name='repository',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='deletions', to='registry.repository'),
        ),
        migrations.AddField(
            model_name='deletion',
            name='image',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='deletions', to='registry.image'),
        ),
        migrations.AddField(
            model_name='deletion',
            name='requested',
            field=models.JSONField(default=list),
        ),
        migrations.AddField(
            model_name='deletion',
            name='summary',
            field=models.JSONField(default=dict),
        ),
        migrations.AddField(
            model_name='deletion',
            name='actor',
            field=models.CharField(default='', max_length=254),
            preserve_default=False,
        ),
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=False),
        migrations.RemoveField(
            model_name='deletion',
            name='name',
        ),
        migrations.AlterField(
            model_name='deletion',
            name='event',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='registry.event'),
        ),
        migrations.AddIndex(
            model_name='deletion',
            index=models.Index(fields=['repository', '-id'], name='deletions_of_repository'),
        ),
        migrations.AddIndex(
            model_name='deletion',
            index=models.Index(fields=['image', '-id'], name='deletions_of_image'),
        ),
    ]
