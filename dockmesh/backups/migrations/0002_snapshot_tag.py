"""Each job marks its snapshots with a tag of its own."""

import dockmesh.backups.models
from django.db import migrations, models


def fill(apps, schema_editor):
    jobs = apps.get_model("backups", "BackupJob")
    for job in jobs.objects.filter(snapshot_tag=""):
        job.snapshot_tag = dockmesh.backups.models.new_snapshot_tag()
        job.save(update_fields=["snapshot_tag"])


class Migration(migrations.Migration):

    dependencies = [("backups", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="backupjob",
            name="snapshot_tag",
            field=models.CharField(default="", editable=False, max_length=100),
            preserve_default=False,
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="backupjob",
            name="snapshot_tag",
            field=models.CharField(
                default=dockmesh.backups.models.new_snapshot_tag, editable=False, max_length=100, unique=True
            ),
        ),
    ]
