"""The addresses of the audit log's pages."""

from django.urls import path

from dockmesh.audit import views

app_name = "audit"

urlpatterns = [
    path("audit/", views.EntryList.as_view(), name="entries"),
    path("audit/<int:pk>/", views.EntryDetail.as_view(), name="entry"),
]
