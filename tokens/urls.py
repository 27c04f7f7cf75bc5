"""The addresses of the Settings pages of tokens and roles."""

from django.urls import path

from tokens import views

app_name = "tokens"

urlpatterns = [
    path("settings/tokens/", views.token_list, name="tokens"),
    path("settings/tokens/new/", views.token_new, name="token-add"),
    path("settings/tokens/<int:id>/", views.token_detail, name="token"),
    path("settings/tokens/<int:id>/edit/", views.token_edit, name="token-change"),
    path("settings/tokens/<int:id>/rotate/", views.token_rotate, name="token-rotate"),
    path("settings/tokens/<int:id>/revoke/", views.token_revoke, name="token-revoke"),
    path("settings/tokens/<int:id>/delete/", views.token_delete, name="token-remove"),
    path("settings/roles/", views.role_list, name="roles"),
    path("settings/roles/new/", views.role_new, name="role-add"),
    path("settings/roles/<int:id>/", views.role_detail, name="role"),
    path("settings/roles/<int:id>/edit/", views.role_edit, name="role-change"),
    path("settings/roles/<int:id>/delete/", views.role_delete, name="role-remove"),
]
