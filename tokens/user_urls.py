"""The addresses of Settings → Users."""

from django.urls import path

from tokens import user_pages

app_name = "users"

urlpatterns = [
    path("", user_pages.list_users, name="users"),
    path("new/", user_pages.add_user, name="user-add"),
    path("<int:user_id>/", user_pages.show_user, name="user"),
    path("<int:user_id>/switch/", user_pages.switch_user, name="user-switch"),
]
