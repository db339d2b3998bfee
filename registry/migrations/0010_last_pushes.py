"""Tags and digests have the time of their last push. Until now it was known by tag and day, in the statistics."""

from datetime import UTC, datetime, time

import django.utils.timezone
from django.db import migrations, models
from django.db.models import F, Max, OuterRef, Subquery
from django.db.models.functions import Coalesce, Greatest


def fill(apps, schema_editor):
    """Take the times of the first pushes, and the days of later pushes that the statistics know."""
    alias = schema_editor.connection.alias
    tags, manifests, images, days = (
        apps.get_model('registry', name).objects.using(alias) for name in ('Tag', 'Manifest', 'Image', 'TagDay')
    )
    tags.update(pushed_at=F('started_at'))
    pushed = days.filter(pushes__gt=0).exclude(tag='').values_list('image', 'tag').order_by()
    for image, name, day in list(pushed.annotate(day=Max('day'))):
        at = datetime.combine(day, time(), tzinfo=UTC)
        tags.filter(image=image, name=name, ended_at=None, started_at__lt=at).update(pushed_at=at)
    live = tags.filter(manifest=OuterRef('pk'), ended_at=None).order_by('-pushed_at').values('pushed_at')[:1]
    manifests.update(last_pushed_at=Greatest('pushed_at', Coalesce(Subquery(live), 'pushed_at')))
    newest = manifests.filter(image=OuterRef('pk')).order_by('-last_pushed_at').values('last_pushed_at')[:1]
    images.update(pushed_at=Greatest('pushed_at', Coalesce(Subquery(newest), 'pushed_at')))


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0009_tag_names'),
    ]

    operations = [
        migrations.AddField(
            model_name='manifest',
            name='last_pushed_at',
            field=models.DateTimeField(default=django.utils.timezone.now),
        ),
        migrations.AddField(
            model_name='tag',
            name='pushed_at',
            field=models.DateTimeField(default=django.utils.timezone.now),
        ),
        migrations.AlterField(
            model_name='event',
            name='action',
            field=models.CharField(choices=[('repository.create', 'Repository Create'), ('repository.update', 'Repository Update'), ('repository.delete', 'Repository Delete'), ('repository.recover', 'Repository Recover'), ('repository.role', 'Role Change'), ('project.create', 'Project Create'), ('project.update', 'Project Update'), ('project.member', 'Member Change'), ('image.push', 'Image Push'), ('image.update', 'Image Update'), ('image.expiry', 'Expiry Change'), ('image.delete', 'Image Delete'), ('image.recover', 'Image Recover'), ('tag.add', 'Tag Add'), ('tag.move', 'Tag Move'), ('tag.push', 'Tag Push'), ('tag.delete', 'Tag Delete'), ('tag.recover', 'Tag Recover'), ('deletion.hold', 'Deletion Hold'), ('deletion.purge', 'Deletion Purge'), ('collection.run', 'Collection Run'), ('collection.done', 'Collection Done'), ('cleanup.policy', 'Cleanup Policy'), ('cleanup.run', 'Cleanup Run'), ('scan.done', 'Scan Done'), ('vulnerability.accept', 'Vulnerability Accept'), ('vulnerability.withdraw', 'Vulnerability Withdraw'), ('notice.change', 'Notice Change')], max_length=32),
        ),
        migrations.AddIndex(
            model_name='tag',
            index=models.Index(condition=models.Q(('ended_at', None)), fields=['image', '-pushed_at', '-id'], name='live_tags_by_push'),
        ),
        # Last: PostgreSQL makes no index of a table that has pending triggers.
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=False),
    ]
