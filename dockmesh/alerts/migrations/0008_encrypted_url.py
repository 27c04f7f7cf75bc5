from django.db import migrations, models


class Migration(migrations.Migration):
    """Encrypted texts are called so; their columns stay, since a replica of the version before writes them."""

    dependencies = [
        ("alerts", "0007_the_audit_log_as_a_subject"),
    ]

    operations = [
        migrations.AlterField("channel", "sealed_url", models.TextField(editable=False, db_column="sealed_url")),
        migrations.RenameField("channel", "sealed_url", "encrypted_url"),
    ]
