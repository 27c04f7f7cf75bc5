"""The REST addresses of backups, below `/api/v1/`."""

from django.urls import path

from dockmesh.backups import api

urlpatterns = [
    path("backup-jobs", api.JobsView.as_view()),
    path("backup-jobs/<int:pk>", api.JobView.as_view()),
    path("backup-jobs/<int:pk>/run", api.JobRunView.as_view()),
    path("backup-jobs/<int:pk>/restore", api.JobRestoreView.as_view()),
    path("backup-jobs/<int:pk>/verify", api.JobVerifyView.as_view()),
    path("backup-jobs/<int:pk>/retention", api.JobRetentionView.as_view()),
    path("backup-jobs/<int:pk>/prune", api.JobPruneView.as_view()),
    path("backup-jobs/<int:pk>/init", api.JobInitView.as_view()),
    path("backup-jobs/<int:pk>/unlock", api.JobUnlockView.as_view()),
    path("backup-jobs/<int:pk>/snapshots", api.JobSnapshotsView.as_view()),
    path("backup-runs", api.RunsView.as_view()),
    path("backup-runs/<int:pk>", api.RunView.as_view()),
    path("backup-runs/<int:pk>/cancel", api.RunCancelView.as_view()),
]
