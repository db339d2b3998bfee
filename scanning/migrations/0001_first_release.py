"""All tables. A database from before the first release has them if the migrations of ``replaces`` are applied."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [
        ('scanning', '0001_scanning'),
        ('scanning', '0002_indexes_of_findings'),
        ('scanning', '0003_judged_again'),
        ('scanning', '0004_plain_names'),
        ('scanning', '0005_notifications'),
        ('scanning', '0006_risk_summaries'),
        ('scanning', '0007_uncovered_systems'),
        ('scanning', '0008_tags_by_severity'),
        ('scanning', '0009_deleted_notifications'),
        ('scanning', '0010_event_subscriptions'),
    ]

    initial = True

    dependencies = [
        ('accounts', '0001_first_release'),
        ('registry', '0001_first_release'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='DatabaseRefresh',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField(default=django.utils.timezone.now)),
                ('source', models.CharField(max_length=300)),
                ('updated_at', models.DateTimeField(null=True)),
                ('problem', models.CharField(blank=True, max_length=500)),
            ],
        ),
        migrations.CreateModel(
            name='Delivery',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('sent', 'Sent'), ('failed', 'Failed')], default='waiting', max_length=7)),
                ('is_test', models.BooleanField(default=False)),
                ('content', models.JSONField(default=dict)),
                ('recipients', models.JSONField(default=list)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('next_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('lease_until', models.DateTimeField(null=True)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('sent_at', models.DateTimeField(null=True)),
                ('request', models.TextField(blank=True)),
                ('status', models.PositiveSmallIntegerField(null=True)),
                ('response', models.TextField(blank=True)),
                ('problem', models.CharField(blank=True, max_length=500)),
            ],
            options={
                'verbose_name_plural': 'deliveries',
            },
        ),
        migrations.CreateModel(
            name='Sbom',
            fields=[
                ('manifest', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='sbom', serialize=False, to='registry.manifest')),
                ('content', models.BinaryField()),
                ('tool_version', models.CharField(max_length=50)),
                ('made_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
        migrations.CreateModel(
            name='ScannerHost',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=253, unique=True)),
                ('isolation', models.CharField(max_length=10)),
                ('why', models.CharField(blank=True, max_length=300)),
                ('seen_at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='ScanTurn',
            fields=[
                ('project', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='scan_turn', serialize=False, to='accounts.project')),
                ('taken_at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='Vulnerability',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True)),
                ('title', models.CharField(blank=True, max_length=300)),
                ('url', models.URLField(blank=True, max_length=500)),
                ('score', models.FloatField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='Package',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(max_length=50)),
                ('name', models.CharField(max_length=300)),
                ('version', models.CharField(max_length=200)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('name', 'version', 'kind'), name='one_package_a_version')],
            },
        ),
        migrations.CreateModel(
            name='Report',
            fields=[
                ('manifest', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='report', serialize=False, to='registry.manifest')),
                ('state', models.CharField(choices=[('scanned', 'Scanned'), ('uncovered', 'Uncovered'), ('unrecognised', 'Unrecognised'), ('unsupported', 'Unsupported'), ('failed', 'Failed')], max_length=12)),
                ('problem', models.CharField(blank=True, choices=[('database-missing', 'Database Missing'), ('database-broken', 'Database Broken'), ('scanner-missing', 'Scanner Missing'), ('timeout', 'Timeout'), ('memory', 'Memory'), ('disk', 'Disk'), ('killed', 'Killed'), ('damaged', 'Damaged'), ('bytes-missing', 'Bytes Missing'), ('elsewhere', 'Elsewhere'), ('worker-lost', 'Worker Lost'), ('gone', 'Gone'), ('other', 'Other')], max_length=20)),
                ('detail', models.CharField(blank=True, max_length=500)),
                ('critical', models.PositiveIntegerField(default=0)),
                ('high', models.PositiveIntegerField(default=0)),
                ('medium', models.PositiveIntegerField(default=0)),
                ('low', models.PositiveIntegerField(default=0)),
                ('unknown', models.PositiveIntegerField(default=0)),
                ('fixable', models.PositiveIntegerField(default=0)),
                ('accepted', models.PositiveIntegerField(default=0)),
                ('packages', models.PositiveIntegerField(default=0)),
                ('system', models.CharField(blank=True, help_text='operating system, such as debian 12.5', max_length=100)),
                ('is_end_of_life', models.BooleanField(default=False)),
                ('unknown_parts', models.PositiveSmallIntegerField(default=0)),
                ('tool_version', models.CharField(blank=True, max_length=50)),
                ('database_at', models.DateTimeField(null=True)),
                ('scanned_at', models.DateTimeField(null=True)),
                ('fingerprint', models.CharField(blank=True, max_length=64)),
                ('recount_at', models.DateTimeField(null=True)),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('recount_at__isnull', False)), fields=['recount_at'], name='reports_to_recount'), models.Index(condition=models.Q(('problem', ''), _negated=True), fields=['problem'], name='reports_with_problem')],
            },
        ),
        migrations.CreateModel(
            name='Scan',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('running', 'Running'), ('done', 'Done'), ('failed', 'Failed')], default='waiting', max_length=7)),
                ('trigger', models.PositiveSmallIntegerField(choices=[(0, 'Manual'), (1, 'Push'), (2, 'Daily')])),
                ('requested_by', models.CharField(max_length=254)),
                ('requested_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('due_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('started_at', models.DateTimeField(null=True)),
                ('lease_until', models.DateTimeField(null=True)),
                ('finished_at', models.DateTimeField(null=True)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('problem', models.CharField(blank=True, choices=[('database-missing', 'Database Missing'), ('database-broken', 'Database Broken'), ('scanner-missing', 'Scanner Missing'), ('timeout', 'Timeout'), ('memory', 'Memory'), ('disk', 'Disk'), ('killed', 'Killed'), ('damaged', 'Damaged'), ('bytes-missing', 'Bytes Missing'), ('elsewhere', 'Elsewhere'), ('worker-lost', 'Worker Lost'), ('gone', 'Gone'), ('other', 'Other')], max_length=20)),
                ('detail', models.CharField(blank=True, max_length=500)),
                ('database_at', models.DateTimeField(null=True)),
                ('new', models.PositiveIntegerField(default=0)),
                ('fixed', models.PositiveIntegerField(default=0)),
                ('is_noted', models.BooleanField(default=False)),
                ('manifest', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='scans', to='registry.manifest')),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.project')),
            ],
        ),
        migrations.CreateModel(
            name='ScanRound',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('cursor', models.BigIntegerField(default=0)),
                ('requested', models.PositiveIntegerField(default=0)),
                ('finished_at', models.DateTimeField(null=True)),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.project')),
            ],
        ),
        migrations.CreateModel(
            name='SeverityDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('critical', models.PositiveIntegerField(default=0)),
                ('high', models.PositiveIntegerField(default=0)),
                ('medium', models.PositiveIntegerField(default=0)),
                ('low', models.PositiveIntegerField(default=0)),
                ('unknown', models.PositiveIntegerField(default=0)),
                ('tags', models.PositiveIntegerField(default=0)),
                ('scanned', models.PositiveIntegerField(default=0)),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='severity_days', to='accounts.project')),
            ],
        ),
        migrations.CreateModel(
            name='Subscription',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('channel', models.CharField(max_length=20)),
                ('recipients', models.JSONField(default=list)),
                ('url', models.CharField(blank=True, max_length=500)),
                ('secret', models.CharField(blank=True, max_length=300)),
                ('former_secret', models.CharField(blank=True, db_default='', default='', max_length=300)),
                ('former_until', models.DateTimeField(null=True)),
                ('types', models.JSONField(db_default=models.Value([], models.JSONField()), default=list)),
                ('repositories', models.TextField(blank=True, db_default='', default='')),
                ('position', models.BigIntegerField(db_default=0, default=0)),
                ('min_severity', models.PositiveSmallIntegerField(choices=[(0, 'None'), (1, 'Unknown'), (2, 'Low'), (3, 'Medium'), (4, 'High'), (5, 'Critical')], default=4)),
                ('frequency', models.CharField(choices=[('each', 'Each'), ('new', 'New'), ('daily', 'Daily')], default='new', max_length=5)),
                ('language', models.CharField(default='en', max_length=10)),
                ('is_active', models.BooleanField(default=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('deleted_at', models.DateTimeField(null=True)),
                ('created_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='subscriptions', to='accounts.project')),
                ('repository', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='subscriptions', to='registry.repository')),
            ],
        ),
        migrations.CreateModel(
            name='Notification',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('new', models.JSONField(default=list)),
                ('fixed', models.PositiveIntegerField(default=0)),
                ('noted_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('delivery', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='notifications', to='scanning.delivery')),
                ('scan', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='notifications', to='scanning.scan')),
                ('subscription', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='notifications', to='scanning.subscription')),
            ],
        ),
        migrations.AddField(
            model_name='delivery',
            name='subscription',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='scanning.subscription'),
        ),
        migrations.CreateModel(
            name='Finding',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('path', models.CharField(blank=True, max_length=500)),
                ('layer', models.CharField(blank=True, max_length=135)),
                ('severity', models.PositiveSmallIntegerField(choices=[(0, 'None'), (1, 'Unknown'), (2, 'Low'), (3, 'Medium'), (4, 'High'), (5, 'Critical')])),
                ('status', models.CharField(choices=[('unknown', 'Unknown'), ('not_affected', 'Not Affected'), ('affected', 'Affected'), ('fixed', 'Fixed'), ('under_investigation', 'Under Investigation'), ('will_not_fix', 'Will Not Fix'), ('fix_deferred', 'Fix Deferred'), ('end_of_life', 'End Of Life')], max_length=20)),
                ('fixed_version', models.CharField(blank=True, max_length=200)),
                ('manifest', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='findings', to='registry.manifest')),
                ('package', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='findings', to='scanning.package')),
                ('since', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='found', to='scanning.scan')),
                ('until', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='lost', to='scanning.scan')),
                ('vulnerability', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='findings', to='scanning.vulnerability')),
            ],
        ),
        migrations.CreateModel(
            name='Acceptance',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('vulnerability', models.CharField(max_length=100)),
                ('package', models.CharField(blank=True, max_length=300)),
                ('justification', models.CharField(blank=True, choices=[('component_not_present', 'Component'), ('vulnerable_code_not_present', 'Code'), ('vulnerable_code_not_in_execute_path', 'Path'), ('vulnerable_code_cannot_be_controlled_by_adversary', 'Controlled'), ('inline_mitigations_already_exist', 'Mitigated')], max_length=60)),
                ('reason', models.CharField(max_length=500)),
                ('covers_fixed', models.BooleanField(default=False)),
                ('accepted_by', models.CharField(max_length=254)),
                ('accepted_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('expires_at', models.DateTimeField(null=True)),
                ('withdrawn_at', models.DateTimeField(null=True)),
                ('withdrawn_by', models.CharField(blank=True, max_length=254)),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='acceptances', to='accounts.project')),
                ('repository', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='acceptances', to='registry.repository')),
                ('user', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'indexes': [models.Index(fields=['project', 'vulnerability'], name='acceptances_of_project'), models.Index(condition=models.Q(('withdrawn_at', None)), fields=['expires_at'], name='acceptances_by_end')],
            },
        ),
        migrations.CreateModel(
            name='MailHour',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('hour', models.DateTimeField()),
                ('mails', models.PositiveIntegerField(default=0)),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.project')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('project', 'hour'), name='one_count_an_hour')],
            },
        ),
        migrations.CreateModel(
            name='Component',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('manifest', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='components', to='registry.manifest')),
                ('package', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='components', to='scanning.package')),
            ],
            options={
                'indexes': [models.Index(fields=['package', 'manifest'], name='manifests_with_package')],
                'constraints': [models.UniqueConstraint(fields=('manifest', 'package'), name='one_component_a_package')],
            },
        ),
        migrations.CreateModel(
            name='Recipient',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('address', models.CharField(max_length=254)),
                ('language', models.CharField(default='en', max_length=10)),
                ('due_at', models.DateTimeField(null=True)),
                ('asked_at', models.DateTimeField(null=True)),
                ('mails', models.PositiveSmallIntegerField(default=0)),
                ('confirmed_at', models.DateTimeField(null=True)),
                ('declined_at', models.DateTimeField(null=True)),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='recipients', to='accounts.project')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('due_at__isnull', False)), fields=['due_at'], name='recipients_to_ask'), models.Index(fields=['address'], name='recipients_by_address')],
                'constraints': [models.UniqueConstraint(fields=('project', 'address'), name='one_recipient_an_address')],
            },
        ),
        migrations.AddIndex(
            model_name='scan',
            index=models.Index(fields=['manifest', '-id'], name='scans_of_manifest'),
        ),
        migrations.AddIndex(
            model_name='scan',
            index=models.Index(fields=['project', '-id'], name='scans_of_project'),
        ),
        migrations.AddIndex(
            model_name='scan',
            index=models.Index(condition=models.Q(('state__in', ['waiting', 'running'])), fields=['trigger', 'due_at'], name='open_scans'),
        ),
        migrations.AddIndex(
            model_name='scan',
            index=models.Index(condition=models.Q(('state__in', ['waiting', 'running'])), fields=['project', 'trigger'], name='open_scans_of_project'),
        ),
        migrations.AddIndex(
            model_name='scan',
            index=models.Index(condition=models.Q(('is_noted', False), ('state', 'done')), fields=['id'], name='scans_to_note'),
        ),
        migrations.AddIndex(
            model_name='scan',
            index=models.Index(fields=['finished_at'], name='scans_by_end'),
        ),
        migrations.AddConstraint(
            model_name='scan',
            constraint=models.UniqueConstraint(condition=models.Q(('state__in', ['waiting', 'running'])), fields=('manifest',), name='one_open_scan_a_manifest'),
        ),
        migrations.AddConstraint(
            model_name='scanround',
            constraint=models.UniqueConstraint(fields=('project', 'day'), name='one_round_a_project_and_day'),
        ),
        migrations.AddConstraint(
            model_name='severityday',
            constraint=models.UniqueConstraint(fields=('project', 'day'), name='one_severity_row_a_project_and_day'),
        ),
        migrations.AddIndex(
            model_name='notification',
            index=models.Index(condition=models.Q(('delivery', None)), fields=['subscription', 'noted_at'], name='notifications_to_gather'),
        ),
        migrations.AddConstraint(
            model_name='notification',
            constraint=models.UniqueConstraint(fields=('subscription', 'scan'), name='one_notification_a_scan'),
        ),
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(fields=['subscription', '-id'], name='deliveries_of_subscription'),
        ),
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(condition=models.Q(('state', 'waiting')), fields=['next_at'], name='deliveries_to_send'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(fields=['manifest', '-severity'], name='findings_of_manifest'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('until', None)), fields=['vulnerability', 'manifest', 'package', 'fixed_version'], name='manifests_with_vulnerability'),
        ),
        migrations.AddIndex(
            model_name='finding',
            index=models.Index(condition=models.Q(('until__isnull', False)), fields=['until'], name='findings_that_ended'),
        ),
        migrations.AddConstraint(
            model_name='finding',
            constraint=models.UniqueConstraint(condition=models.Q(('until', None)), fields=('manifest', 'vulnerability', 'package', 'path'), name='one_finding_a_package'),
        ),
    ]
