"""The addresses of Settings → Users."""

from django.urls import path

from tokens import user_views

app_name = "users"

urlpatterns = [
    path("", user_views.UserList.as_view(), name="users"),
    path("new/", user_views.UserAdd.as_view(), name="user-add"),
    path("<int:pk>/", user_views.UserDetail.as_view(), name="user"),
    path("<int:pk>/switch/", user_views.UserSwitch.as_view(), name="user-switch"),
]
