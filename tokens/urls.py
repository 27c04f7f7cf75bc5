"""The addresses of the Settings pages of tokens, roles and users."""

from django.urls import path

from tokens import user_views, views

app_name = "tokens"

urlpatterns = [
    path("settings/tokens/", views.TokenList.as_view(), name="tokens"),
    path("settings/tokens/new/", views.TokenAdd.as_view(), name="token-add"),
    path("settings/tokens/<int:pk>/", views.TokenDetail.as_view(), name="token"),
    path("settings/tokens/<int:pk>/edit/", views.TokenChange.as_view(), name="token-change"),
    path("settings/tokens/<int:pk>/rotate/", views.TokenRotate.as_view(), name="token-rotate"),
    path("settings/tokens/<int:pk>/revoke/", views.TokenRevoke.as_view(), name="token-revoke"),
    path("settings/tokens/<int:pk>/delete/", views.TokenRemove.as_view(), name="token-remove"),
    path("settings/roles/", views.RoleList.as_view(), name="roles"),
    path("settings/roles/new/", views.RoleAdd.as_view(), name="role-add"),
    path("settings/roles/<int:pk>/", views.RoleDetail.as_view(), name="role"),
    path("settings/roles/<int:pk>/edit/", views.RoleChange.as_view(), name="role-change"),
    path("settings/roles/<int:pk>/delete/", views.RoleRemove.as_view(), name="role-remove"),
    path("settings/users/", user_views.UserList.as_view(), name="users"),
    path("settings/users/new/", user_views.UserAdd.as_view(), name="user-add"),
    path("settings/users/<int:pk>/", user_views.UserDetail.as_view(), name="user"),
    path("settings/users/<int:pk>/switch/", user_views.UserSwitch.as_view(), name="user-switch"),
]
