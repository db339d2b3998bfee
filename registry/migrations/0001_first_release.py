"""All tables. A database from before the first release has them if the migrations of ``replaces`` are applied."""

import django.db.models.deletion
import django.db.models.functions.comparison
import django.utils.timezone
import registry.database.fields
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [
        ('registry', '0001_initial'),
        ('registry', '0002_use_and_history'),
        ('registry', '0003_scanning'),
        ('registry', '0004_project_events'),
        ('registry', '0005_reviews_of_projects'),
        ('registry', '0006_plain_names'),
        ('registry', '0007_deletions'),
        ('registry', '0008_risk_summary'),
        ('registry', '0009_tag_names'),
        ('registry', '0010_last_pushes'),
        ('registry', '0011_empty_images'),
        ('registry', '0012_platforms_of_indexes'),
        ('registry', '0013_cleanup_reasons'),
        ('registry', '0014_unlocked_storages'),
        ('registry', '0015_readmes'),
        ('registry', '0016_doctor_runs'),
        ('registry', '0017_keys_of_uploads'),
        ('registry', '0018_tag_rules'),
        ('registry', '0019_tag_rule_reason'),
        ('registry', '0020_deleted_images_by_path'),
        ('registry', '0021_quota_warnings'),
        ('registry', '0022_told_quotas'),
        ('registry', '0023_manifests_by_digest_and_image'),
        ('registry', '0024_live_tags_by_name_and_image'),
        ('registry', '0025_no_index_of_digests_alone'),
        ('registry', '0026_no_index_of_tag_names_alone'),
    ]

    initial = True

    dependencies = [
        ('accounts', '0001_first_release'),
        ('auth', '0012_alter_user_first_name_max_length'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Blob',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.CharField(max_length=135, unique=True)),
                ('size', models.BigIntegerField()),
                ('storage_key', models.CharField(max_length=100, unique=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
        ),
        migrations.CreateModel(
            name='DoctorRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('requested_by', models.CharField(max_length=254)),
                ('started_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('results', models.JSONField(default=list)),
                ('worker_at', models.DateTimeField(blank=True, null=True)),
                ('scanner_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='ObjectTrash',
            fields=[
                ('storage_key', models.CharField(max_length=100, primary_key=True, serialize=False)),
                ('delete_after', models.DateTimeField(db_index=True)),
                ('attempts', models.PositiveIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name='ProjectUsage',
            fields=[
                ('size', models.PositiveBigIntegerField(default=0)),
                ('event_id', models.BigIntegerField(default=0)),
                ('changed_at', models.DateTimeField(null=True)),
                ('measured_at', models.DateTimeField()),
                ('seconds', models.FloatField(default=0.0, help_text='how long measuring took')),
                ('project', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='usage', serialize=False, to='accounts.project')),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='Repository',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', registry.database.fields.NameField(max_length=64)),
                ('description', models.CharField(blank=True, max_length=100)),
                ('is_public', models.BooleanField(default=False)),
                ('tag_rules', models.JSONField(db_default=models.Value([], models.JSONField()), default=list)),
                ('tag_overwrite', models.BooleanField(default=True)),
                ('auto_scan', models.BooleanField(default=True)),
                ('block_severity', models.PositiveSmallIntegerField(choices=[(0, 'None'), (1, 'Unknown'), (2, 'Low'), (3, 'Medium'), (4, 'High'), (5, 'Critical')], default=0)),
                ('unscanned_grace_hours', models.PositiveSmallIntegerField(blank=True, null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name_plural': 'repositories',
                'permissions': [('pull_repository', 'Can pull from the repository'), ('push_repository', 'Can push to the repository')],
            },
        ),
        migrations.CreateModel(
            name='Event',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField(default=django.utils.timezone.now)),
                ('action', models.CharField(choices=[('repository.create', 'Repository Create'), ('repository.update', 'Repository Update'), ('repository.delete', 'Repository Delete'), ('repository.recover', 'Repository Recover'), ('repository.role', 'Role Change'), ('project.create', 'Project Create'), ('project.update', 'Project Update'), ('project.member', 'Member Change'), ('image.push', 'Image Push'), ('image.update', 'Image Update'), ('image.expiry', 'Expiry Change'), ('image.delete', 'Image Delete'), ('image.recover', 'Image Recover'), ('tag.add', 'Tag Add'), ('tag.move', 'Tag Move'), ('tag.push', 'Tag Push'), ('tag.delete', 'Tag Delete'), ('tag.recover', 'Tag Recover'), ('deletion.hold', 'Deletion Hold'), ('deletion.purge', 'Deletion Purge'), ('collection.run', 'Collection Run'), ('collection.done', 'Collection Done'), ('cleanup.policy', 'Cleanup Policy'), ('cleanup.run', 'Cleanup Run'), ('scan.done', 'Scan Done'), ('vulnerability.accept', 'Vulnerability Accept'), ('vulnerability.withdraw', 'Vulnerability Withdraw'), ('notice.change', 'Notice Change')], max_length=32)),
                ('path', registry.database.fields.NameField(max_length=200)),
                ('tag', registry.database.fields.NameField(blank=True, max_length=128)),
                ('digest', models.CharField(blank=True, max_length=255)),
                ('detail', models.JSONField(default=dict)),
                ('actor', models.CharField(max_length=254)),
                ('address', models.CharField(blank=True, max_length=45)),
                ('client', models.CharField(blank=True, max_length=200)),
                ('key', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='accounts.accesskey')),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='events', to='accounts.project')),
                ('user', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='Deletion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('tag', 'Tag'), ('manifest', 'Manifest'), ('image', 'Image'), ('repository', 'Repository')], max_length=10)),
                ('path', registry.database.fields.NameField(max_length=200)),
                ('requested', models.JSONField(default=list)),
                ('summary', models.JSONField(default=dict)),
                ('actor', models.CharField(max_length=254)),
                ('at', models.DateTimeField(default=django.utils.timezone.now)),
                ('purge_after', models.DateTimeField(db_index=True)),
                ('hold', models.BooleanField(default=False)),
                ('is_purging', models.BooleanField(default=False, help_text='its end has begun: it cannot be recovered any more')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='deletions', to='accounts.project')),
                ('event', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='registry.event')),
            ],
        ),
        migrations.CreateModel(
            name='Image',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', registry.database.fields.NameField(max_length=200)),
                ('path', registry.database.fields.NameField(max_length=200)),
                ('description', models.CharField(blank=True, max_length=100)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('pushed_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('pulled_at', models.DateTimeField(blank=True, null=True)),
                ('emptied_at', models.DateTimeField(blank=True, null=True)),
                ('deletion', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='images', to='registry.deletion')),
            ],
        ),
        migrations.AddField(
            model_name='event',
            name='image',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='events', to='registry.image'),
        ),
        migrations.AddField(
            model_name='deletion',
            name='image',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='deletions', to='registry.image'),
        ),
        migrations.CreateModel(
            name='Manifest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.CharField(max_length=135)),
                ('media_type', models.CharField(max_length=255)),
                ('artifact_type', models.CharField(blank=True, max_length=255)),
                ('subject', models.CharField(blank=True, max_length=255)),
                ('annotations', models.JSONField(default=dict)),
                ('content', models.BinaryField()),
                ('platforms', models.CharField(blank=True, max_length=500)),
                ('worst_severity', models.PositiveSmallIntegerField(choices=[(0, 'None'), (1, 'Unknown'), (2, 'Low'), (3, 'Medium'), (4, 'High'), (5, 'Critical')], null=True)),
                ('risk_summary', models.JSONField(default=dict)),
                ('size', models.PositiveIntegerField()),
                ('total_size', models.BigIntegerField()),
                ('pushed_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('last_pushed_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('deletion', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='manifests', to='registry.deletion')),
                ('image', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='manifests', to='registry.image')),
            ],
        ),
        migrations.CreateModel(
            name='ManifestChild',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('child', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='parent_references', to='registry.manifest')),
                ('parent', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='child_references', to='registry.manifest')),
            ],
        ),
        migrations.CreateModel(
            name='ProjectDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('pulls', models.PositiveIntegerField(default=0)),
                ('pushes', models.PositiveIntegerField(default=0)),
                ('size', models.PositiveBigIntegerField(default=0)),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='days', to='accounts.project')),
            ],
        ),
        migrations.CreateModel(
            name='PurgedTag',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('path', registry.database.fields.NameField(max_length=200)),
                ('name', registry.database.fields.NameField(max_length=128)),
                ('digest', models.CharField(max_length=135)),
                ('version', models.BigIntegerField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('path', 'name', 'version'), name='one_row_a_purged_version')],
            },
        ),
        migrations.CreateModel(
            name='QuotaWarning',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('quota', models.CharField(max_length=12)),
                ('level', models.PositiveSmallIntegerField()),
                ('told', models.PositiveSmallIntegerField(db_default=0, default=0)),
                ('organization', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.organization')),
                ('project', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.project')),
            ],
        ),
        migrations.CreateModel(
            name='Readme',
            fields=[
                ('repository', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='readme', serialize=False, to='registry.repository')),
                ('text', models.TextField()),
            ],
        ),
        migrations.CreateModel(
            name='RepositoryUsage',
            fields=[
                ('size', models.PositiveBigIntegerField(default=0)),
                ('event_id', models.BigIntegerField(default=0)),
                ('changed_at', models.DateTimeField(null=True)),
                ('measured_at', models.DateTimeField()),
                ('seconds', models.FloatField(default=0.0, help_text='how long measuring took')),
                ('repository', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='usage', serialize=False, to='registry.repository')),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.AddField(
            model_name='repository',
            name='deletion',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='repositories', to='registry.deletion'),
        ),
        migrations.AddField(
            model_name='repository',
            name='project',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='repositories', to='accounts.project'),
        ),
        migrations.CreateModel(
            name='ManifestBlob',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('blob', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='references', to='registry.blob')),
                ('manifest', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='blob_references', to='registry.manifest')),
                ('repository', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='registry.repository')),
            ],
        ),
        migrations.AddField(
            model_name='image',
            name='repository',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='images', to='registry.repository'),
        ),
        migrations.AddField(
            model_name='event',
            name='repository',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='events', to='registry.repository'),
        ),
        migrations.AddField(
            model_name='deletion',
            name='repository',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='deletions', to='registry.repository'),
        ),
        migrations.CreateModel(
            name='CleanupRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('state', models.CharField(choices=[('judging', 'Judging'), ('held', 'Awaiting Approval'), ('deleting', 'Deleting'), ('done', 'Done'), ('dismissed', 'Dismissed'), ('failed', 'Failed')], default='judging', max_length=10)),
                ('rules', models.JSONField(default=dict)),
                ('cursor', models.BigIntegerField(default=0)),
                ('considered', models.PositiveIntegerField(default=0)),
                ('to_delete', models.PositiveIntegerField(default=0)),
                ('deleted', models.PositiveIntegerField(default=0)),
                ('skipped', models.PositiveIntegerField(default=0)),
                ('started_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('heartbeat_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('approved_by', models.CharField(blank=True, max_length=254)),
                ('problem', models.CharField(blank=True, choices=[('policy-changed', 'Policy Changed'), ('other-approved', 'Other Approved'), ('not-approved', 'Not Approved'), ('dismissed', 'Dismissed'), ('error', 'Error')], max_length=20)),
                ('problem_detail', models.CharField(blank=True, max_length=500)),
                ('repository', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='cleanup_runs', to='registry.repository')),
            ],
        ),
        migrations.CreateModel(
            name='CleanupPolicy',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('is_active', models.BooleanField(default=True)),
                ('keep_last', models.PositiveIntegerField(blank=True, null=True)),
                ('keep_patterns', models.JSONField(blank=True, default=list)),
                ('tag_days', models.PositiveIntegerField(blank=True, null=True)),
                ('unpulled_days', models.PositiveIntegerField(blank=True, null=True)),
                ('untagged_days', models.PositiveIntegerField(blank=True, null=True)),
                ('most_percent', models.PositiveSmallIntegerField(default=50)),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('repository', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='cleanup_policy', to='registry.repository')),
            ],
            options={
                'verbose_name_plural': 'cleanup policies',
            },
        ),
        migrations.CreateModel(
            name='BlobLease',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('expires_at', models.DateTimeField()),
                ('blob', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='leases', to='registry.blob')),
                ('repository', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='leases', to='registry.repository')),
            ],
        ),
        migrations.CreateModel(
            name='RepositoryGroupPermission',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('content_object', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='group_permissions', to='registry.repository')),
                ('group', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='auth.group')),
                ('permission', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='auth.permission')),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='RepositoryUserPermission',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('content_object', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='user_permissions', to='registry.repository')),
                ('permission', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='auth.permission')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='Tag',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', registry.database.fields.NameField(max_length=128)),
                ('natural_name', registry.database.fields.NameField(editable=False, max_length=400)),
                ('subject', registry.database.fields.NameField(blank=True, editable=False, max_length=71)),
                ('started_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('pushed_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('closed_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='registry.event')),
                ('deletion', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='tags', to='registry.deletion')),
                ('image', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='tags', to='registry.image')),
                ('manifest', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='tags', to='registry.manifest')),
                ('opened_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='registry.event')),
            ],
        ),
        migrations.CreateModel(
            name='TagDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('tag', registry.database.fields.NameField(blank=True, max_length=128)),
                ('day', models.DateField()),
                ('pulls', models.PositiveIntegerField(default=0)),
                ('checks', models.PositiveIntegerField(default=0)),
                ('pushes', models.PositiveIntegerField(default=0)),
                ('pulled_at', models.DateTimeField(null=True)),
                ('checked_at', models.DateTimeField(null=True)),
                ('image', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='days', to='registry.image')),
            ],
        ),
        migrations.CreateModel(
            name='UploadSession',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('image_name', registry.database.fields.NameField(max_length=200)),
                ('algorithm', models.CharField(max_length=10)),
                ('offset', models.BigIntegerField(default=0)),
                ('prefix_digest', models.CharField(blank=True, max_length=135)),
                ('stored_as', models.CharField(blank=True, max_length=100)),
                ('writer', models.CharField(blank=True, max_length=32)),
                ('writer_until', models.DateTimeField(null=True)),
                ('state', models.CharField(choices=[('open', 'Open'), ('done', 'Done')], default='open', max_length=4)),
                ('digest', models.CharField(blank=True, max_length=135)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('expires_at', models.DateTimeField(db_index=True)),
                ('key', models.ForeignKey(db_index=False, help_text='that opened it', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='accounts.accesskey')),
                ('repository', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='uploads', to='registry.repository')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='BlobReview',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('review_after', models.DateTimeField(db_index=True)),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('blob', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='reviews', to='registry.blob')),
                ('project', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='accounts.project')),
            ],
            options={
                'indexes': [models.Index(fields=['project', 'review_after'], name='due_reviews_of_project')],
                'constraints': [models.UniqueConstraint(fields=('blob', 'project'), name='one_review_a_project')],
            },
        ),
        migrations.CreateModel(
            name='Collection',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('state', models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('done', 'Done'), ('stopped', 'Stopped'), ('failed', 'Failed')], default='queued', max_length=7)),
                ('requested_by', models.CharField(max_length=254)),
                ('requested_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('started_at', models.DateTimeField(null=True)),
                ('heartbeat_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('finished_at', models.DateTimeField(null=True)),
                ('is_stopping', models.BooleanField(default=False)),
                ('total', models.PositiveIntegerField(default=0)),
                ('reviewed', models.PositiveIntegerField(default=0)),
                ('collected', models.PositiveIntegerField(default=0)),
                ('size', models.PositiveBigIntegerField(default=0)),
                ('problem', models.CharField(blank=True, max_length=500)),
                ('project', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='collections', to='accounts.project')),
            ],
            options={
                'constraints': [models.UniqueConstraint(django.db.models.functions.comparison.Coalesce('project', 0), condition=models.Q(('state__in', ['queued', 'running'])), name='one_open_collection_a_project')],
            },
        ),
        migrations.CreateModel(
            name='CleanupLine',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('path', registry.database.fields.NameField(max_length=200)),
                ('tag', registry.database.fields.NameField(blank=True, max_length=128)),
                ('digest', models.CharField(max_length=135)),
                ('tag_version', models.BigIntegerField(help_text="id of the tag's row that was judged", null=True)),
                ('outcome', models.CharField(choices=[('kept', 'Kept'), ('doomed', 'To Delete'), ('deleted', 'Deleted'), ('left', 'Skipped')], max_length=7)),
                ('reason', models.CharField(blank=True, choices=[('attached', 'Attached'), ('pattern', 'Pattern'), ('tag-rule', 'Tag Rule'), ('newest', 'Newest'), ('not-newest', 'Not Newest'), ('no-rule', 'No Rule'), ('old', 'Old'), ('unpulled', 'Unpulled'), ('untagged', 'Untagged'), ('untagged-long', 'Untagged Long'), ('changed', 'Changed'), ('needed', 'Needed'), ('gone', 'Gone')], max_length=20)),
                ('facts', models.JSONField(default=dict)),
                ('run', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='lines', to='registry.cleanuprun')),
                ('image', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='registry.image')),
            ],
            options={
                'indexes': [models.Index(fields=['run', 'outcome', 'image', 'id'], name='cleanup_lines_by_outcome')],
            },
        ),
        migrations.AddIndex(
            model_name='manifest',
            index=models.Index(condition=models.Q(('deletion', None)), fields=['image', 'subject', 'id'], name='referrers'),
        ),
        migrations.AddIndex(
            model_name='manifest',
            index=models.Index(condition=models.Q(('deletion', None)), fields=['image', 'subject', 'artifact_type', 'id'], name='referrers_by_type'),
        ),
        migrations.AddIndex(
            model_name='manifest',
            index=models.Index(fields=['digest', 'image'], name='manifests_by_digest_and_image'),
        ),
        migrations.AddIndex(
            model_name='manifest',
            index=models.Index(condition=models.Q(('deletion__isnull', False)), fields=['deletion'], name='deleted_manifests'),
        ),
        migrations.AddConstraint(
            model_name='manifest',
            constraint=models.UniqueConstraint(fields=('image', 'digest'), name='one_manifest_a_digest'),
        ),
        migrations.AddConstraint(
            model_name='manifestchild',
            constraint=models.UniqueConstraint(fields=('parent', 'child'), name='one_reference_a_child'),
        ),
        migrations.AddConstraint(
            model_name='projectday',
            constraint=models.UniqueConstraint(fields=('project', 'day'), name='one_row_a_project_and_day'),
        ),
        migrations.AddConstraint(
            model_name='quotawarning',
            constraint=models.UniqueConstraint(fields=('project', 'quota'), name='one_warning_a_project_and_quota'),
        ),
        migrations.AddConstraint(
            model_name='quotawarning',
            constraint=models.UniqueConstraint(fields=('organization', 'quota'), name='one_warning_an_organization_and_quota'),
        ),
        migrations.AddConstraint(
            model_name='quotawarning',
            constraint=models.CheckConstraint(condition=models.Q(('project', None), ('organization', None), _connector='XOR'), name='a_warning_has_one_owner'),
        ),
        migrations.AddIndex(
            model_name='repository',
            index=models.Index(condition=models.Q(('deletion__isnull', False)), fields=['deletion'], name='deleted_repositories'),
        ),
        migrations.AddConstraint(
            model_name='repository',
            constraint=models.UniqueConstraint(condition=models.Q(('deletion', None)), fields=('project', 'name'), name='one_live_repository_a_name'),
        ),
        migrations.AddIndex(
            model_name='manifestblob',
            index=models.Index(fields=['repository', 'blob'], name='blobs_of_repository'),
        ),
        migrations.AddConstraint(
            model_name='manifestblob',
            constraint=models.UniqueConstraint(fields=('manifest', 'blob'), name='one_reference_a_blob'),
        ),
        migrations.AddIndex(
            model_name='image',
            index=models.Index(condition=models.Q(('deletion', None)), fields=['repository', 'path'], name='images_by_name'),
        ),
        migrations.AddIndex(
            model_name='image',
            index=models.Index(condition=models.Q(('deletion', None)), fields=['repository', '-pushed_at', '-id'], name='images_by_push'),
        ),
        migrations.AddIndex(
            model_name='image',
            index=models.Index(condition=models.Q(('deletion__isnull', False)), fields=['deletion'], name='deleted_images'),
        ),
        migrations.AddIndex(
            model_name='image',
            index=models.Index(condition=models.Q(('deletion__isnull', False)), fields=['path'], name='deleted_images_by_path'),
        ),
        migrations.AddIndex(
            model_name='image',
            index=models.Index(condition=models.Q(('emptied_at__isnull', False)), fields=['emptied_at'], name='empty_images'),
        ),
        migrations.AddConstraint(
            model_name='image',
            constraint=models.UniqueConstraint(condition=models.Q(('deletion', None)), fields=('path',), name='one_live_image_a_path'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['at', 'id'], name='events_by_time'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['project', '-id'], name='events_of_project'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['project', 'action', '-id'], name='project_events_by_action'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['project', 'actor', '-id'], name='project_events_by_actor'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['project', 'tag', '-id'], name='project_events_by_tag'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['repository', '-id'], name='events_of_repository'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['repository', 'action', '-id'], name='repository_events_by_action'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['image', '-id'], name='events_of_image'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['image', 'action', '-id'], name='image_events_by_action'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['image', 'tag', '-id'], name='image_events_by_tag'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['key', '-id'], name='events_of_key'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['user', '-id'], name='events_of_user'),
        ),
        migrations.AddIndex(
            model_name='deletion',
            index=models.Index(fields=['project', '-id'], name='deletions_of_project'),
        ),
        migrations.AddIndex(
            model_name='deletion',
            index=models.Index(fields=['repository', '-id'], name='deletions_of_repository'),
        ),
        migrations.AddIndex(
            model_name='deletion',
            index=models.Index(fields=['image', '-id'], name='deletions_of_image'),
        ),
        migrations.AddIndex(
            model_name='cleanuprun',
            index=models.Index(fields=['repository', '-id'], name='cleanups_of_repository'),
        ),
        migrations.AddConstraint(
            model_name='cleanuprun',
            constraint=models.UniqueConstraint(condition=models.Q(('state__in', ['judging', 'deleting'])), fields=('repository',), name='one_open_cleanup_a_repository'),
        ),
        migrations.AddConstraint(
            model_name='cleanuppolicy',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('keep_last', 0), _negated=True), models.Q(('tag_days', 0), _negated=True), models.Q(('unpulled_days', 0), _negated=True), models.Q(('untagged_days', 0), _negated=True)), name='cleanup_numbers_are_positive'),
        ),
        migrations.AddConstraint(
            model_name='cleanuppolicy',
            constraint=models.CheckConstraint(condition=models.Q(('most_percent__lte', 100)), name='cleanup_percent_is_one'),
        ),
        migrations.AddConstraint(
            model_name='bloblease',
            constraint=models.UniqueConstraint(fields=('repository', 'blob'), name='one_lease_a_blob'),
        ),
        migrations.AlterUniqueTogether(
            name='repositorygrouppermission',
            unique_together={('group', 'permission', 'content_object')},
        ),
        migrations.AlterUniqueTogether(
            name='repositoryuserpermission',
            unique_together={('user', 'permission', 'content_object')},
        ),
        migrations.AddIndex(
            model_name='tag',
            index=models.Index(fields=['image', 'name', 'started_at'], name='history_of_tag'),
        ),
        migrations.AddIndex(
            model_name='tag',
            index=models.Index(fields=['image', 'name', '-id'], name='meanings_of_tag'),
        ),
        migrations.AddIndex(
            model_name='tag',
            index=models.Index(fields=['image', '-id'], name='meanings_of_image'),
        ),
        migrations.AddIndex(
            model_name='tag',
            index=models.Index(condition=models.Q(('ended_at', None)), fields=['name', 'image'], name='live_tags_by_name_and_image'),
        ),
        migrations.AddIndex(
            model_name='tag',
            index=models.Index(condition=models.Q(('ended_at', None)), fields=['image', '-pushed_at', '-id'], name='live_tags_by_push'),
        ),
        migrations.AddIndex(
            model_name='tag',
            index=models.Index(condition=models.Q(('ended_at', None)), fields=['image', 'natural_name', 'id'], name='live_tags_in_natural_order'),
        ),
        migrations.AddIndex(
            model_name='tag',
            index=models.Index(condition=models.Q(('ended_at', None), ('subject__gt', '')), fields=['image', 'subject'], name='attached_tags'),
        ),
        migrations.AddIndex(
            model_name='tag',
            index=models.Index(condition=models.Q(('deletion__isnull', False)), fields=['deletion'], name='deleted_tags'),
        ),
        migrations.AddConstraint(
            model_name='tag',
            constraint=models.UniqueConstraint(condition=models.Q(('ended_at', None)), fields=('image', 'name'), name='one_live_meaning_a_tag'),
        ),
        migrations.AddIndex(
            model_name='tagday',
            index=models.Index(fields=['day'], name='tag_days_by_day'),
        ),
        migrations.AddConstraint(
            model_name='tagday',
            constraint=models.UniqueConstraint(fields=('image', 'tag', 'day'), name='one_row_a_tag_and_day'),
        ),
        migrations.AddIndex(
            model_name='uploadsession',
            index=models.Index(fields=['user', 'state', 'expires_at'], name='open_uploads_of_user'),
        ),
    ]
