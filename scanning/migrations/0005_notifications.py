"""Rename Notice to Notification, and let a subscription name a channel that has no constant in the model."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('scanning', '0004_plain_names'),
    ]

    operations = [
        migrations.AlterField(
            model_name='subscription',
            name='channel',
            field=models.CharField(max_length=20),
        ),
        migrations.RemoveConstraint(model_name='notice', name='one_notice_a_scan'),
        migrations.RenameModel(old_name='Notice', new_name='Notification'),
        migrations.RenameIndex(
            model_name='notification', old_name='notices_to_gather', new_name='notifications_to_gather'
        ),
        migrations.AddConstraint(
            model_name='notification',
            constraint=models.UniqueConstraint(fields=('subscription', 'scan'), name='one_notification_a_scan'),
        ),
        migrations.AlterField(
            model_name='notification',
            name='delivery',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='notifications', to='scanning.delivery'),
        ),
        migrations.AlterField(
            model_name='notification',
            name='scan',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='notifications', to='scanning.scan'),
        ),
        migrations.AlterField(
            model_name='notification',
            name='subscription',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='notifications', to='scanning.subscription'),
        ),
    ]
