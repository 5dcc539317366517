import django.utils.timezone
from django.db import migrations, models
from django.db.models.functions import Coalesce


def take_turns(apps, schema_editor):
    jobs = apps.get_model("jobs", "Job").objects
    jobs.update(turn=Coalesce("queued_at", "created_at"))


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0002_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='job',
            name='turn',
            field=models.DateTimeField(default=django.utils.timezone.now),
        ),
        migrations.AddField(
            model_name='job',
            name='watched',
            field=models.JSONField(default=dict),
        ),
        migrations.RunPython(take_turns, migrations.RunPython.noop, elidable=True),
        migrations.RemoveIndex(
            model_name='job',
            name='jobs_job_state_26a6a4_idx',
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(fields=['state', 'queue', 'turn'], name='jobs_job_state_6e11b6_idx'),
        ),
    ]
