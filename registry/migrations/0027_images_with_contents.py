from django.db import migrations, models

from registry.database.operations import AddIndexOnline


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('registry', '0026_no_index_of_tag_names_alone'),
    ]

    operations = [
        AddIndexOnline(
            model_name='image',
            index=models.Index(condition=models.Q(('deletion', None), ('emptied_at', None)), fields=['repository'], name='images_with_contents'),
        ),
    ]
