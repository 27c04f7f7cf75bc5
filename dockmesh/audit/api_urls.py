"""The addresses of the audit log's REST API."""

from django.urls import path

from dockmesh.audit import api

urlpatterns = [
    path("audit", api.EntryCollection.as_view()),
    path("audit/export", api.EntryExport.as_view(), name="audit-export"),
    path("audit/<int:id>", api.EntryDetail.as_view()),
]
