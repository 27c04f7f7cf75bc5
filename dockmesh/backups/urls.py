"""The addresses of the backups' pages."""

from django.urls import path

from dockmesh.backups import views

app_name = "backups"

urlpatterns = [
    path("backups/", views.jobs, name="jobs"),
    path("backups/new/", views.new_job, name="job-add"),
    path("backups/<int:pk>/", views.job, name="job"),
    path("backups/<int:pk>/change/", views.change_job, name="job-change"),
    path("backups/<int:pk>/remove/", views.remove_job, name="job-remove"),
    path("backups/<int:pk>/run/", views.run_job, name="job-run"),
    path("backups/<int:pk>/unlock/", views.unlock, name="job-unlock"),
    path("backups/<int:pk>/operate/<str:kind>/", views.operate, name="job-operate"),
    path("backups/runs/<int:pk>/cancel/", views.cancel_run, name="run-cancel"),
    path("backups/<int:pk>/restore/", views.restore, name="job-restore"),
    path("backups/runs/", views.runs, name="runs"),
    path("backups/runs/<int:pk>/", views.run, name="run"),
]
