from django.db import migrations, models
from django.db.models import Max, Min


def begin_record(apps, schema_editor):
    """Somebody listened up to the last heartbeat: what lies between it and the first note is the server's absence."""
    HostPulse = apps.get_model("fleet", "HostPulse")
    heard = HostPulse.objects.aggregate(first=Min("host__enrolled_at"), last=Max("last_seen_at"))
    if heard["first"] is not None and heard["first"] <= heard["last"]:
        apps.get_model("fleet", "ListeningSpan").objects.create(since=heard["first"], until=heard["last"])


class Migration(migrations.Migration):

    dependencies = [
        ("fleet", "0008_command_uuid_is_unique"),
    ]

    operations = [
        migrations.CreateModel(
            name="ListeningSpan",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("since", models.DateTimeField()),
                ("until", models.DateTimeField()),
            ],
        ),
        migrations.RunPython(begin_record, migrations.RunPython.noop, elidable=True),
    ]
