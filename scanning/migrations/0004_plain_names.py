"""Names of columns that say what they hold. registry.0006_plain_names renames them in the details of events."""

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0006_plain_names'),
        ('scanning', '0003_judged_again'),
    ]

    operations = [
        migrations.RenameField('subscription', 'least', 'min_severity'),
        migrations.RenameField('subscription', 'moment', 'frequency'),
    ]
