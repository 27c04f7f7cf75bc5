
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('backups', '0004_dump_claim'),
        ('fleet', '0010_wide_locks'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='backuprun',
            name='one_open_run_of_a_job',
        ),
        migrations.AddField(
            model_name='backupjob',
            name='after_command',
            field=models.CharField(blank=True, max_length=2000),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='before_command',
            field=models.CharField(blank=True, max_length=2000),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='excludes',
            field=models.JSONField(blank=True, default=list),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='failure_count',
            field=models.PositiveBigIntegerField(default=0, editable=False),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='hook_timeout_seconds',
            field=models.PositiveIntegerField(default=300),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='is_one_file_system',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='is_stack_stopped',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='jitter_seconds',
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='last_added_bytes',
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='last_attempt_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='last_bytes',
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='last_files',
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='last_unreadable',
            field=models.PositiveIntegerField(default=0, editable=False),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='last_verified_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='least_files_percent',
            field=models.PositiveIntegerField(default=50),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='partial_count',
            field=models.PositiveBigIntegerField(default=0, editable=False),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='paths',
            field=models.JSONField(blank=True, default=list),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='proven_repository',
            field=models.CharField(blank=True, editable=False, max_length=64),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='snapshots',
            field=models.JSONField(default=list, editable=False),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='snapshots_read_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='backupjob',
            name='success_count',
            field=models.PositiveBigIntegerField(default=0, editable=False),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='cancelled_by',
            field=models.CharField(blank=True, max_length=255),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='host',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='fleet.host'),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='is_remove_all',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='paths',
            field=models.JSONField(default=list),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='unreadable',
            field=models.JSONField(default=list),
        ),
        migrations.AddField(
            model_name='backuprun',
            name='unreadable_count',
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name='backuprun',
            name='kind',
            field=models.CharField(choices=[('backup', 'Backup'), ('restore', 'Restore'), ('verify', 'Verify'), ('retention', 'Retention'), ('prune', 'Prune'), ('init', 'Init'), ('snapshots', 'Snapshots'), ('unlock', 'Unlock')], default='backup', max_length=16),
        ),
        migrations.AlterField(
            model_name='backuprun',
            name='status',
            field=models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('success', 'Success'), ('partial', 'Partial'), ('failure', 'Failure'), ('cancelled', 'Cancelled')], default='queued', max_length=16),
        ),
        migrations.AddConstraint(
            model_name='backuprun',
            constraint=models.UniqueConstraint(condition=models.Q(('status__in', ['queued', 'running']), models.Q(('kind__in', ['snapshots', 'unlock']), _negated=True)), fields=('job',), name='one_open_run_of_a_job'),
        ),
    ]
