"""The REST addresses of backups, below `/api/v1/`."""

from dockmesh.backups import api
from dockmesh.core.viewsets import Router

urlpatterns = Router({"backup-jobs": api.BackupJobViewSet, "backup-runs": api.BackupRunViewSet}).urls
