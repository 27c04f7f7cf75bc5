
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0017_container_details'),
    ]

    operations = [
        migrations.CreateModel(
            name='ImageCheck',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('image', models.CharField(max_length=1024)),
                ('is_update_available', models.BooleanField(null=True)),
                ('checked_at', models.DateTimeField()),
                ('error', models.CharField(blank=True, max_length=1024)),
                ('host', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='image_checks', to='fleet.host')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('host', 'image'), name='image_is_checked_once_a_host')],
            },
        ),
    ]
