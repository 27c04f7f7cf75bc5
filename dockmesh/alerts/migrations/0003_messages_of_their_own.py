import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


def give_words(apps, schema_editor):
    """Messages that wait were written when they were sent; now they have their words."""
    Notification = apps.get_model("alerts", "Notification")
    for message in Notification.objects.filter(status="queued").select_related("alert__rule"):
        alert, word = message.alert, message.event.capitalize()
        message.subject_key = f"{alert.rule_id}:{alert.key}"
        message.title = f"[{alert.severity}] {word}: {alert.rule.name}"[:300]
        message.body = f"{alert.subject}\n{alert.cause}"
        message.type = "success" if message.event == "resolved" else "warning"
        message.save()


class Migration(migrations.Migration):

    dependencies = [
        ("alerts", "0002_names_of_a_kibibyte"),
    ]

    operations = [
        migrations.AddField("channel", "claimed_until", models.DateTimeField(editable=False, null=True)),
        migrations.AddField(
            "notification",
            "created_at",
            models.DateTimeField(auto_now_add=True, default=django.utils.timezone.now),
            preserve_default=False,
        ),
        migrations.AddField("notification", "subject_key", models.CharField(blank=True, max_length=300)),
        migrations.AddField(
            "notification", "title", models.CharField(default="", max_length=300), preserve_default=False
        ),
        migrations.AddField("notification", "body", models.TextField(default=""), preserve_default=False),
        migrations.AddField(
            "notification", "type", models.CharField(default="info", max_length=16), preserve_default=False
        ),
        migrations.AlterField(
            "notification",
            "alert",
            models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="notifications",
                to="alerts.alert",
            ),
        ),
        migrations.AlterField(
            "notification",
            "event",
            models.CharField(
                choices=[("firing", "Firing"), ("resolved", "Resolved"), ("test", "Test")], max_length=16
            ),
        ),
        migrations.AlterField(
            "notification",
            "status",
            models.CharField(
                choices=[("queued", "Queued"), ("sent", "Sent"), ("failed", "Failed"), ("dropped", "Dropped")],
                default="queued",
                max_length=16,
            ),
        ),
        migrations.RunPython(give_words, migrations.RunPython.noop, elidable=True),
    ]
