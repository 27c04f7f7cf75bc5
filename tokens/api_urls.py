"""The addresses of the REST API of tokens and roles."""

from django.urls import path

from tokens import api

urlpatterns = [
    path("tokens", api.TokenCollection.as_view()),
    path("tokens/<int:id>", api.TokenDetail.as_view()),
    path("tokens/<int:id>/rotate", api.TokenRotation.as_view()),
    path("tokens/<int:id>/revoke", api.TokenRevocation.as_view()),
    path("roles", api.RoleCollection.as_view()),
    path("roles/<int:id>", api.RoleDetail.as_view()),
]
