from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("scheduler", "0001_lease"),
    ]

    operations = [
        migrations.CreateModel(
            name="PeriodicTask",
            fields=[
                ("name", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("last_success_at", models.DateTimeField(null=True)),
                ("failures", models.BigIntegerField(default=0)),
            ],
        ),
    ]
