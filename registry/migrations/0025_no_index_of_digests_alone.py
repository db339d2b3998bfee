from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0024_live_tags_by_name_and_image'),
    ]

    operations = [
        migrations.RemoveIndex(model_name='manifest', name='manifests_by_digest'),
    ]
