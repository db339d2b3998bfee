import hashlib

from django.db import migrations, models


def hash_keys(apps, schema_editor):
    """Replace each key by what accounts.sessions looks for: people stay signed in."""
    sessions = apps.get_model('accounts', 'ConsoleSession').objects
    for key in list(sessions.values_list('pk', flat=True)):
        if len(key) < 64:
            sessions.filter(pk=key).update(session_key=hashlib.sha256(key.encode()).hexdigest())


def end_sessions(apps, schema_editor):
    """No key can be had back from its hash."""
    apps.get_model('accounts', 'ConsoleSession').objects.all().delete()


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_console'),
    ]

    operations = [
        migrations.AddField(
            model_name='signinfailure',
            name='block',
            field=models.CharField(blank=True, max_length=45),
        ),
        migrations.AlterField(
            model_name='signinfailure',
            name='address',
            field=models.CharField(blank=True, max_length=45),
        ),
        migrations.AddIndex(
            model_name='signinfailure',
            index=models.Index(fields=['block', 'at'], name='failures_of_block'),
        ),
        migrations.AlterField(
            model_name='consolesession',
            name='session_key',
            field=models.CharField(max_length=64, primary_key=True, serialize=False, verbose_name='session key'),
        ),
        migrations.RunPython(hash_keys, end_sessions, elidable=True),
    ]
