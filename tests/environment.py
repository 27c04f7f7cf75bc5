"""A data folder of the tests' own. A plugin (`-p tests.environment`), since pytest-django reads the settings early."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from tests.integration.versions import use_compose

_data_dir = tempfile.mkdtemp(prefix="dockmesh-tests-")
atexit.register(shutil.rmtree, _data_dir, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith("DOCKMESH_") and "_TEST_" not in name]:
    del os.environ[_name]
os.environ["DOCKMESH_DATA_DIR"] = _data_dir
if "DOCKMESH_TEST_DATABASE_URL" in os.environ:
    os.environ["DOCKMESH_DATABASE_URL"] = os.environ["DOCKMESH_TEST_DATABASE_URL"]
# `docker compose` is version 2 in all tests; of Debian 12 there is only version 1, which agents refuse.
if use_compose("sid", Path(_data_dir) / "docker"):
    os.environ["DOCKER_CONFIG"] = str(Path(_data_dir) / "docker")
