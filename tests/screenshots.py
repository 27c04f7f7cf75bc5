"""Makes the pictures of the pages anew: `python -m tests.screenshots [folder]`, by default docs/images.

A server of its own with a fleet made up from a seed, photographed by Debian's Chromium.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PICTURES = (
    # file, path, width, theme
    ("overview-light.png", "/", 1440, "light"),
    ("overview-dark-phone.png", "/", 390, "dark"),
    ("overview-dark.png", "/", 1440, "dark"),
    ("overview-light-phone.png", "/", 390, "light"),
    ("hosts-light.png", "/hosts/", 1440, "light"),
    ("host-dark.png", "/hosts/1/", 1440, "dark"),
    ("stack-light.png", "/stacks/2/", 1440, "light"),
    ("metrics-light.png", "/settings/metrics/", 1440, "light"),
)


def main(folder: Path, pictures: Sequence[tuple[str, str, int, str]] = PICTURES) -> None:
    """Writes the pictures into the folder: (file, path, width, theme) each."""
    with tempfile.TemporaryDirectory(prefix="dockmesh-screenshots-") as data_dir:
        os.environ["DOCKMESH_DATA_DIR"] = data_dir
        os.environ["DJANGO_SETTINGS_MODULE"] = "dockmesh.settings"
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
        import django

        django.setup()
        from django.core.management import call_command
        from playwright.sync_api import sync_playwright

        from tests.fleetdata import make_everything
        from tests.integration.browser import ARGUMENTS, HEIGHTS, Site, session_cookie
        from tokens.models import Role, User

        call_command("migrate", verbosity=0)
        ada = User.objects.create(username="ada", is_superuser=True, role=Role.objects.get(name="admin"))
        make_everything()
        site = Site()
        folder.mkdir(parents=True, exist_ok=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
            for file_name, path, width, theme in pictures:
                context = browser.new_context(
                    viewport={"width": width, "height": HEIGHTS[width]},
                    color_scheme="dark" if theme == "dark" else "light",
                    reduced_motion="reduce",
                )
                context.add_cookies([{"name": "sessionid", "value": session_cookie(ada), "url": site.url}])
                page = context.new_page()
                page.goto(site.url + path)
                page.wait_for_load_state("networkidle")
                page.screenshot(path=folder / file_name, full_page=width < 800)
                print(folder / file_name)
                context.close()
            browser.close()
        site.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/images"))
