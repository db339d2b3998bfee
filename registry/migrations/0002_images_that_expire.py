from django.db import migrations, models

from registry.database.operations import AddIndexOnline


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('registry', '0001_first_release'),
    ]

    operations = [
        AddIndexOnline(
            model_name='image',
            index=models.Index(condition=models.Q(('deletion', None), ('expires_at__isnull', False)), fields=['expires_at'], name='images_that_expire'),
        ),
    ]
