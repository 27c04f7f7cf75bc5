from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0020_hours_of_a_host'),
    ]

    operations = [
        migrations.AddField(
            model_name='hostusage',
            name='sent_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='hostusage',
            name='cpu',
            field=models.FloatField(null=True),
        ),
        migrations.AddField(
            model_name='hostusage',
            name='figures',
            field=models.TextField(db_default='[]', default='[]'),
        ),
    ]
