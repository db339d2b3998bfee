from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0025_no_index_of_digests_alone'),
    ]

    operations = [
        migrations.RemoveIndex(model_name='tag', name='live_tags_by_name'),
    ]
