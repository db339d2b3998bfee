from django.db import migrations
from django.utils import timezone


def recount(apps, schema_editor):
    """Have the next sweep recount the reports of manifests with a risk: that writes Manifest.risk_summary."""
    Report = apps.get_model('scanning', 'Report')
    Report.objects.filter(manifest__worst_severity__gt=0, recount_at=None).update(recount_at=timezone.now())


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0008_risk_summary'),
        ('scanning', '0005_notifications'),
    ]

    operations = [migrations.RunPython(recount, migrations.RunPython.noop, elidable=True)]
