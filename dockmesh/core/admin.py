"""What the rooms' Django admin pages share."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


class OwnFiltersOnly(ModelAdmin):
    """Lists are narrowed by their own filters alone, so that nobody guesses a column that isn't shown bit by bit."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Django allows every lookup of the model's own columns, digests among them."""
        names = [each for each in self.list_filter if isinstance(each, str)]
        return lookup in {
            f"{name}{suffix}" for name in names for suffix in ("", "__exact", "__id__exact", "__isnull")
        }


class ReadOnlyAdmin(OwnFiltersOnly):
    """To look at: nothing is added, changed or deleted here, since that would pass the services by."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes."""
        return False
