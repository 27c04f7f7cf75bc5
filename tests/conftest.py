"""What all tests share: a data folder of their own, made before Django reads its settings."""

import atexit
import os
import shutil
import tempfile

_data_dir = tempfile.mkdtemp(prefix="dockmesh-tests-")
atexit.register(shutil.rmtree, _data_dir, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith("DOCKMESH_") and "_TEST_" not in name]:
    del os.environ[_name]
os.environ["DOCKMESH_DATA_DIR"] = _data_dir
if "DOCKMESH_TEST_DATABASE_URL" in os.environ:
    os.environ["DOCKMESH_DATABASE_URL"] = os.environ["DOCKMESH_TEST_DATABASE_URL"]

from hypothesis import settings  # noqa: E402

from tests.integration.browser import chromium, site, visit  # noqa: E402, F401
from tests.integration.docker_plugin import (  # noqa: E402
    docker_engine,  # noqa: F401  (a real Docker Engine for every room)
    docker_engine_process,  # noqa: F401
)
from tests.integration.postgres import postgres_server  # noqa: E402, F401  (a fixture for every room)

# No test is about seconds: a busy machine must not fail one.
settings.register_profile("dockmesh", deadline=None)
settings.load_profile("dockmesh")
