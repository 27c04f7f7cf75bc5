import django.db.models.deletion
from django.db import migrations, models


def leave_as_they_are(apps, schema_editor):
    """The containers' lines are compressed already; and half of each page stays free, so that a row is written in place (HOT)."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE fleet_hostusage ALTER COLUMN containers SET STORAGE EXTERNAL")
        schema_editor.execute("ALTER TABLE fleet_hostusage SET (fillfactor = 50)")


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0018_image_checks'),
    ]

    operations = [
        migrations.CreateModel(
            name='HostUsage',
            fields=[
                ('host', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='usage', serialize=False, to='fleet.host')),
                ('measured_at', models.DateTimeField()),
                ('version', models.BigIntegerField()),
                ('machine', models.TextField()),
                ('containers', models.BinaryField()),
                ('disk', models.TextField(db_default='', default='')),
                ('disk_at', models.DateTimeField(null=True)),
            ],
        ),
        migrations.RunPython(leave_as_they_are, migrations.RunPython.noop),
    ]
