from django.db import migrations, models

from registry.database.operations import AddIndexOnline


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('registry', '0022_told_quotas'),
    ]

    operations = [
        AddIndexOnline(
            model_name='manifest',
            index=models.Index(fields=['digest', 'image'], name='manifests_by_digest_and_image'),
        ),
        AddIndexOnline(
            model_name='tag',
            index=models.Index(condition=models.Q(('ended_at', None)), fields=['name', 'image'], name='live_tags_by_name_and_image'),
        ),
        migrations.RemoveIndex(model_name='manifest', name='manifests_by_digest'),
        migrations.RemoveIndex(model_name='tag', name='live_tags_by_name'),
    ]
