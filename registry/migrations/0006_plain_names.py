"""Names of columns that say what they hold. Events about these columns get the same names in their details."""

from django.db import migrations, models

ROWS = 1_000  # events read and saved at a time
NAMES = {
    'repository.create': {'scan_on_push': 'auto_scan'},
    'repository.update': {
        'scan_on_push': 'auto_scan',
        'gate': 'block_severity',
        'gate_hours': 'unscanned_grace_hours',
    },
    'notice.change': {'least': 'min_severity', 'moment': 'frequency'},
    'cleanup.run': {'doomed': 'to_delete', 'left': 'skipped'},
}


def rename(apps, schema_editor):
    """Give the details of events the new names."""
    _rename(apps, schema_editor, NAMES)


def rename_back(apps, schema_editor):
    """Give the details of events the former names."""
    former = {action: {new: old for old, new in names.items()} for action, names in NAMES.items()}
    _rename(apps, schema_editor, former)


def _rename(apps, schema_editor, names):
    """Walk the events in the order of their ids, a few at a time: a row that is done is not read again."""
    every = apps.get_model('registry', 'Event').objects.using(schema_editor.connection.alias)
    found = every.filter(action__in=names).only('action', 'detail').order_by('pk')
    last = 0
    while events := list(found.filter(pk__gt=last)[:ROWS]):
        for each in events:
            each.detail = _renamed(each.detail, names[each.action])
        every.bulk_update(events, ['detail'])
        last = events[-1].pk


def _renamed(detail, names):
    """The detail with these names, in itself and in its ``before`` and ``after``."""
    if not isinstance(detail, dict):
        return detail
    renamed = {names.get(name, name): value for name, value in detail.items()}
    for part in ('before', 'after'):
        if isinstance(renamed.get(part), dict):
            renamed[part] = {names.get(name, name): value for name, value in renamed[part].items()}
    return renamed


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0005_reviews_of_projects'),
        ('scanning', '0003_judged_again'),  # it writes Manifest.risk
    ]

    operations = [
        # First: the renamed tables are locked from then on until the end of the migration.
        migrations.RunPython(rename, rename_back, elidable=True),
        migrations.RenameField('repository', 'scan_on_push', 'auto_scan'),
        migrations.RenameField('repository', 'gate', 'block_severity'),
        migrations.RenameField('repository', 'gate_hours', 'unscanned_grace_hours'),
        migrations.RenameField('manifest', 'risk', 'worst_severity'),
        migrations.RenameField('cleanuprun', 'doomed', 'to_delete'),
        migrations.RenameField('cleanuprun', 'left', 'skipped'),
        migrations.RenameField('cleanupline', 'meaning', 'tag_version'),
        migrations.AlterField(
            model_name='cleanuprun',
            name='state',
            field=models.CharField(choices=[('judging', 'Judging'), ('held', 'Awaiting Approval'), ('deleting', 'Deleting'), ('done', 'Done'), ('dismissed', 'Dismissed'), ('failed', 'Failed')], default='judging', max_length=10),
        ),
        migrations.AlterField(
            model_name='cleanupline',
            name='outcome',
            field=models.CharField(choices=[('kept', 'Kept'), ('doomed', 'To Delete'), ('deleted', 'Deleted'), ('left', 'Skipped')], max_length=7),
        ),
    ]
