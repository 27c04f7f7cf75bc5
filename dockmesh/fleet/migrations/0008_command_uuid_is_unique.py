import uuid

from django.db import migrations, models


class Migration(migrations.Migration):
    """Of its own: PostgreSQL alters no table in the transaction that has just filled it."""

    dependencies = [
        ("fleet", "0007_command_uuid"),
    ]

    operations = [
        migrations.AlterField(
            "agentcommand", "uuid", models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
        ),
        migrations.AlterField("agentcommand", "number", models.BigIntegerField(unique=True, editable=False)),
    ]
