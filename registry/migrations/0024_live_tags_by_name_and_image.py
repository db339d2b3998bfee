from django.db import migrations, models

from registry.database.operations import AddIndexOnline


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('registry', '0023_manifests_by_digest_and_image'),
    ]

    operations = [
        AddIndexOnline(
            model_name='tag',
            index=models.Index(condition=models.Q(('ended_at', None)), fields=['name', 'image'], name='live_tags_by_name_and_image'),
        ),
    ]
