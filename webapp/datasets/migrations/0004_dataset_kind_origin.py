import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('datasets', '0003_browsing'),
    ]

    operations = [
        migrations.AddField(
            model_name='dataset',
            name='kind',
            field=models.CharField(choices=[('micrographs', 'micrographs'), ('photographs', 'colour photographs')], default='micrographs', max_length=20),
        ),
        migrations.AddField(
            model_name='dataset',
            name='origin',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='subsets', to='datasets.revision'),
        ),
    ]
