"""Which images are newer in their registries than what runs."""

from collections.abc import Collection

from django.db.models import Exists, OuterRef, QuerySet

from dockmesh.fleet.models import Container, ImageCheck


def is_newer_image_known() -> Exists:
    """Of a container: whether its registry has another image under the name of its own."""
    return Exists(
        ImageCheck.objects.filter(host=OuterRef("host"), image=OuterRef("image"), is_update_available=True)
    )


def check_of(container: Container) -> ImageCheck | None:
    """What is known of the container's image; None where its registry has not been asked."""
    return ImageCheck.objects.filter(host=container.host_id, image=container.image).first()


def newer_images(stack_id: int) -> QuerySet[ImageCheck]:
    """Those of a stack's containers, by name."""
    return ImageCheck.objects.filter(
        Exists(Container.objects.filter(stack=stack_id, host=OuterRef("host"), image=OuterRef("image"))),
        is_update_available=True,
    ).order_by("image")


def with_newer_images(stack_ids: Collection[int]) -> set[int]:
    """Those of these stacks of whose images any is newer in its registry."""
    found = Container.objects.filter(is_newer_image_known(), stack__in=stack_ids)
    return {pk for pk in found.values_list("stack", flat=True).distinct() if pk is not None}
