from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0021_quota_warnings"),
    ]

    operations = [
        migrations.AddField(
            model_name="quotawarning",
            name="told",
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
    ]
