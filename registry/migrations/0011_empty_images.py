"""An image knows since when it has no digest. Those that have none now are empty from now on: they stay for a while."""

from django.db import migrations, models
from django.db.models import Exists, OuterRef
from django.utils import timezone


def fill(apps, schema_editor):
    alias = schema_editor.connection.alias
    images, manifests = (apps.get_model('registry', name).objects.using(alias) for name in ('Image', 'Manifest'))
    live = manifests.filter(image=OuterRef('pk'), deletion=None)
    images.filter(~Exists(live), deletion=None).update(emptied_at=timezone.now())


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0010_last_pushes'),
    ]

    operations = [
        migrations.AddField(
            model_name='image',
            name='emptied_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddIndex(
            model_name='image',
            index=models.Index(condition=models.Q(('emptied_at__isnull', False)), fields=['emptied_at'], name='empty_images'),
        ),
        # Last: PostgreSQL makes no index of a table that has pending triggers.
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=False),
    ]
