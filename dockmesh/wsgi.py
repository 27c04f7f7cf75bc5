"""The WSGI application for any other WSGI server than `manage.py serve`."""

import atexit
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dockmesh.settings")
application = get_wsgi_application()

from dockmesh.core import lifecycle  # noqa: E402  (the rooms have registered once the application is there)
from dockmesh.core.postgresql.base import REQUEST_SECONDS, limit_waits  # noqa: E402

limit_waits(REQUEST_SECONDS)
lifecycle.start()
atexit.register(lifecycle.stop)
