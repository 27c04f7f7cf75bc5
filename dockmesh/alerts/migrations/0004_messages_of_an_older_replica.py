import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("alerts", "0003_messages_of_their_own"),
    ]

    operations = [
        migrations.AlterField("notification", "body", models.TextField(db_default="")),
        migrations.AlterField(
            "notification",
            "created_at",
            models.DateTimeField(auto_now_add=True, db_default=django.db.models.functions.datetime.Now()),
        ),
        migrations.AlterField(
            "notification",
            "subject_key",
            models.CharField(blank=True, db_default="", default="", max_length=300),
        ),
        migrations.AlterField("notification", "title", models.CharField(db_default="", max_length=300)),
        migrations.AlterField("notification", "type", models.CharField(db_default="info", max_length=16)),
    ]
