from django.db import migrations


def forget(apps, schema_editor):
    """Rows counted findings of digests until now. They cannot be compared with numbers of tags."""
    apps.get_model("scanning", "SeverityDay").objects.all().delete()


class Migration(migrations.Migration):
    dependencies = [
        ("scanning", "0007_uncovered_systems"),
    ]

    operations = [
        migrations.RunPython(forget, migrations.RunPython.noop, elidable=True),
        migrations.RenameField("severityday", "digests", "tags"),
        migrations.RemoveField("severityday", "fixable"),
    ]
