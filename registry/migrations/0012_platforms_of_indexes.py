"""The platforms of an index are those that its entries say, not those of the configurations of its children."""

import json

from django.db import migrations

from registry.oci import configs, media_types

ROWS = 20  # indexes read at a time: each may have 4 MiB
REFERENCE_TYPE = 'vnd.docker.reference.type'
LENGTH = 500  # of the column


def fill(apps, schema_editor):
    """Children come before their indexes, so an index in an index has its platforms when its parent is read."""
    alias = schema_editor.connection.alias
    manifests, references = (apps.get_model('registry', name).objects.using(alias) for name in ('Manifest', 'ManifestChild'))
    indexes = manifests.filter(media_type__in=media_types.INDEXES).only('content', 'platforms').order_by('pk')
    last = 0
    while some := list(indexes.filter(pk__gt=last)[:ROWS]):
        for index in some:
            children = references.filter(parent=index.pk).values_list('child__digest', 'child__platforms')
            found = platforms(json.loads(bytes(index.content)), dict(children))
            if found != index.platforms:
                manifests.filter(pk=index.pk).update(platforms=found)
        last = some[-1].pk


def platforms(document, of_children):
    found = set()
    for entry in document.get('manifests') or ():
        platform = entry.get('platform') or {}
        unknown = 'unknown' in (platform.get('os'), platform.get('architecture'))
        if not unknown and REFERENCE_TYPE not in (entry.get('annotations') or {}):
            found.update((configs.platform(platform) or of_children.get(entry['digest'], '')).split())
    kept = ' '.join(sorted(found))
    return kept if len(kept) <= LENGTH else kept[: LENGTH + 1].rpartition(' ')[0]


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0011_empty_images'),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=False),
    ]
