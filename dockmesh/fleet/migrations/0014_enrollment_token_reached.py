from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fleet", "0013_heartbeat_state")]

    operations = [
        migrations.AddField("enrollmenttoken", "reached_at", models.DateTimeField(null=True)),
    ]
