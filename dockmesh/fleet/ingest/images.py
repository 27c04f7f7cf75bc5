"""What registries have of the images that a host uses, as its agent tells it."""

from collections.abc import Sequence

from dockmesh.fleet.ingest import documents
from dockmesh.fleet.models import ImageCheck


def write_images(host_id: int, told: Sequence[documents.ImageCheck]) -> bool:
    """Make the host's rows those that were told; whether anything has changed. The caller has locked the host."""
    stored = {each.image: each for each in ImageCheck.objects.filter(host_id=host_id)}
    new = [
        ImageCheck(
            host_id=host_id,
            image=each.image,
            is_update_available=each.is_update_available,
            checked_at=each.checked_at,
            error=each.error,
        )
        for each in told
        if (row := stored.get(each.image)) is None
        or (row.is_update_available, row.checked_at, row.error)
        != (each.is_update_available, each.checked_at, each.error)
    ]
    names = {each.image for each in told}
    gone = [row.pk for image, row in stored.items() if image not in names]
    if gone:
        ImageCheck.objects.filter(pk__in=gone).delete()
    ImageCheck.objects.bulk_create(
        new,
        update_conflicts=True,
        unique_fields=["host", "image"],
        update_fields=["is_update_available", "checked_at", "error"],
    )
    return bool(new or gone)
