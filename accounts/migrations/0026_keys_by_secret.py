from django.db import migrations, models


class Migration(migrations.Migration):
    """The management API finds a key by its secret alone."""

    dependencies = [
        ("accounts", "0025_keyless"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="accesskey",
            index=models.Index(fields=["secret_hash"], name="keys_by_secret"),
        ),
    ]
