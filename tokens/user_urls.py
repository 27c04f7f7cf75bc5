"""The addresses of Settings → Users."""

from django.urls import path

from tokens import user_pages

app_name = "users"

urlpatterns = [
    path("", user_pages.list_users, name="list"),
    path("new/", user_pages.add_user, name="new"),
    path("<int:user_id>/", user_pages.show_user, name="show"),
    path("<int:user_id>/switch/", user_pages.switch_user, name="switch"),
]
