from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("alerts", "0004_messages_of_an_older_replica"),
    ]

    operations = [
        migrations.AlterField(
            "alertrule",
            "kind",
            models.CharField(
                choices=[
                    ("host_offline", "Host offline"),
                    ("host_degraded", "Host degraded"),
                    ("stack_error", "Stack in error"),
                    ("container_state", "Container state or health"),
                    ("container_restarts", "Container restarts"),
                    ("deploy_failed", "Deploy failed"),
                    ("backup_overdue", "Backup overdue"),
                    ("backup_failed", "Backup failed"),
                    ("token_expiring", "API token about to expire"),
                    ("channel_failing", "Notification channel failing"),
                ],
                max_length=32,
            ),
        ),
    ]
