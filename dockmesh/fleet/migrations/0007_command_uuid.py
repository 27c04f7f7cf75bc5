import uuid

from django.db import migrations, models
from django.db.models import F


def name_commands(apps, schema_editor):
    """Agents know the commands of before by their primary keys, and are to be understood when they report them."""
    commands = apps.get_model("fleet", "AgentCommand").objects.using(schema_editor.connection.alias)
    commands.update(number=F("id"))
    for pk in commands.values_list("pk", flat=True):
        commands.filter(pk=pk).update(uuid=uuid.uuid4())


class Migration(migrations.Migration):

    dependencies = [
        ("fleet", "0006_container_how_it_ended"),
    ]

    operations = [
        migrations.AddField("agentcommand", "uuid", models.UUIDField(null=True)),
        migrations.AddField("agentcommand", "number", models.BigIntegerField(null=True)),
        migrations.RunPython(name_commands, migrations.RunPython.noop, elidable=False),
    ]
