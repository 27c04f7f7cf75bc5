"""The addresses of the backups' pages."""

from django.urls import path

from dockmesh.backups import views

app_name = "backups"

urlpatterns = [
    path("backups/", views.JobList.as_view(), name="jobs"),
    path("backups/new/", views.JobAdd.as_view(), name="job-add"),
    path("backups/<int:pk>/", views.JobDetail.as_view(), name="job"),
    path("backups/<int:pk>/change/", views.JobChange.as_view(), name="job-change"),
    path("backups/<int:pk>/remove/", views.JobRemove.as_view(), name="job-remove"),
    path("backups/<int:pk>/run/", views.JobRun.as_view(), name="job-run"),
    path("backups/<int:pk>/unlock/", views.JobUnlock.as_view(), name="job-unlock"),
    path("backups/<int:pk>/operate/<str:kind>/", views.JobOperate.as_view(), name="job-operate"),
    path("backups/runs/<int:pk>/cancel/", views.RunCancel.as_view(), name="run-cancel"),
    path("backups/<int:pk>/restore/", views.JobRestore.as_view(), name="job-restore"),
    path("backups/runs/", views.RunList.as_view(), name="runs"),
    path("backups/runs/<int:pk>/", views.RunDetail.as_view(), name="run"),
]
