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
    ]
