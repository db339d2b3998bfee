"""A tag has two columns that are computed from its name: its place in the natural order, and its subject."""

import registry.database.fields
from django.db import migrations, models

from registry.natural import natural_key
from registry.oci.names import tag_subject

ROWS = 1_000  # read and saved at a time


def fill(apps, schema_editor):
    # The functions of now: what is stored has to be what they compute, and a later change of them fills again.
    tags = apps.get_model('registry', 'Tag').objects.using(schema_editor.connection.alias)
    rows = tags.only('name').order_by('pk')
    last = 0
    while some := list(rows.filter(pk__gt=last)[:ROWS]):
        for tag in some:
            tag.natural_name, tag.subject = natural_key(tag.name), tag_subject(tag.name)
        tags.bulk_update(some, ['natural_name', 'subject'])
        last = some[-1].pk


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0008_risk_summary'),
    ]

    operations = [
        migrations.AddField(
            model_name='tag',
            name='natural_name',
            field=registry.database.fields.NameField(default='', editable=False, max_length=400),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='tag',
            name='subject',
            field=registry.database.fields.NameField(blank=True, default='', editable=False, max_length=71),
            preserve_default=False,
        ),
        migrations.AddIndex(
            model_name='tag',
            index=models.Index(condition=models.Q(('ended_at', None)), fields=['image', 'natural_name', 'id'], name='live_tags_in_natural_order'),
        ),
        migrations.AddIndex(
            model_name='tag',
            index=models.Index(condition=models.Q(('ended_at', None), ('subject__gt', '')), fields=['image', 'subject'], name='attached_tags'),
        ),
        # Last: PostgreSQL makes no index of a table that has pending triggers.
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=False),
    ]
