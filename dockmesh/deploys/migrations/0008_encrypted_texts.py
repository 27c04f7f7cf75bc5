from django.db import migrations, models


class Migration(migrations.Migration):
    """Encrypted texts are called so; their columns stay, since a replica of the version before writes them."""

    dependencies = [
        ("deploys", "0007_what_only_looks_blocks_nothing"),
    ]

    operations = [
        migrations.AlterField("stackfiles", "env_file_sealed", models.TextField(blank=True, editable=False, db_column="env_file_sealed")),
        migrations.RenameField("stackfiles", "env_file_sealed", "encrypted_env_file"),
        migrations.AlterField("deploy", "env_file_sealed", models.TextField(blank=True, editable=False, db_column="env_file_sealed")),
        migrations.RenameField("deploy", "env_file_sealed", "encrypted_env_file"),
        migrations.AlterField("survey", "found_sealed", models.TextField(blank=True, editable=False, db_column="found_sealed")),
        migrations.RenameField("survey", "found_sealed", "encrypted_answer"),
    ]
