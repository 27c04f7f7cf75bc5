from django.db import migrations
from django.db.models import OuterRef, Subquery


def fill(apps, schema_editor):
    """What /metrics shows of a stack's last deploy, out of the history."""
    Deploy, Stack = apps.get_model("deploys", "Deploy"), apps.get_model("fleet", "Stack")
    ended = Deploy.objects.filter(stack=OuterRef("pk"), operation="up", status__in=["success", "failure"])
    last = ended.exclude(finished_at=None).order_by("-pk")
    found = Stack.objects.annotate(at=Subquery(last.values("finished_at")[:1]))
    found = found.exclude(at=None).annotate(result=Subquery(last.values("status")[:1]))
    for pk, at, result in list(found.values_list("pk", "at", "result")):
        Stack.objects.filter(pk=pk).update(last_deploy_at=at, last_deploy_result=result)


class Migration(migrations.Migration):

    dependencies = [
        ("deploys", "0005_outcome_of_a_deploy"),
        ("fleet", "0011_last_deploy_and_exemplars"),
    ]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
