import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """The model has the field's name; its table stays, since a replica of the version before writes it."""

    dependencies = [
        ("fleet", "0012_container_counts"),
    ]

    operations = [
        migrations.AlterModelTable("hostpulse", "fleet_hostpulse"),
        migrations.RenameModel("HostPulse", "HeartbeatState"),
        migrations.AlterField(
            "heartbeatstate",
            "host",
            models.OneToOneField(
                on_delete=django.db.models.deletion.CASCADE,
                primary_key=True,
                related_name="heartbeat_state",
                serialize=False,
                to="fleet.host",
            ),
        ),
    ]
