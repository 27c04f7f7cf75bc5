"""Which repository holds a job's snapshots, and how its backups ended so far, from what is known already."""

from django.db import migrations
from django.db.models import Count


def fill(apps, schema_editor):
    jobs = apps.get_model("backups", "BackupJob").objects
    runs = apps.get_model("backups", "BackupRun").objects
    for job in jobs.all():
        ended = runs.filter(job=job, kind="backup").order_by().values_list("status").annotate(Count("pk"))
        counts = dict(ended)
        values = {"success_count": counts.get("success", 0), "failure_count": counts.get("failure", 0)}
        last = runs.filter(job=job, kind="backup", status="success").order_by("-pk").first()
        if last is not None:
            values |= {
                "proven_repository": last.repository,
                "last_files": last.files,
                "last_bytes": last.bytes_processed,
                "last_added_bytes": last.bytes_added,
            }
        elif job.last_success_at is not None:
            values["proven_repository"] = job.repository
        jobs.filter(pk=job.pk).update(**values)


class Migration(migrations.Migration):

    dependencies = [("backups", "0005_what_backups_promise")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
