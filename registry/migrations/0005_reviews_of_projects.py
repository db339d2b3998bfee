"""One review for each project that has used a blob; before, one for each blob."""

import django.db.models.deletion
from django.db import migrations, models
from django.utils import timezone


def copy(apps, schema_editor):
    """The review of the last project stays; the other projects that lease the blob get one for the end of the lease."""
    old = apps.get_model("registry", "BlobReview").objects.order_by("pk")
    leases = apps.get_model("registry", "BlobLease").objects.filter(expires_at__gt=timezone.now()).order_by()
    review = apps.get_model("registry", "ProjectReview")
    rows = (
        review(blob_id=blob, project_id=project, review_after=after, attempts=attempts)
        for blob, project, after, attempts in old.values_list("blob", "project", "review_after", "attempts").iterator()
    )
    review.objects.bulk_create(rows, batch_size=500)
    ends = leases.values_list("blob", "repository__project").annotate(end=models.Max("expires_at"))
    rows = (review(blob_id=blob, project_id=project, review_after=end) for blob, project, end in ends.iterator())
    review.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_console'),
        ('registry', '0004_project_events'),
    ]

    operations = [
        migrations.CreateModel(
            name='ProjectReview',
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
        migrations.RunPython(copy, elidable=False),
        migrations.DeleteModel('BlobReview'),
        migrations.RenameModel('ProjectReview', 'BlobReview'),
    ]
