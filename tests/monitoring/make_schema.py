"""Makes tests/monitoring/schema/*.json: JSON Schemas of Grafana's published dashboard types.

Grafana publishes what a dashboard may hold as TypeScript in the npm package @grafana/schema, generated from
its own CUE definitions. This turns those types into JSON Schemas, so that the tests need neither npm nor a
network. Needs node; run it again for a newer Grafana:

    python -m tests.monitoring.make_schema
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

SCHEMA_VERSION = "13.2.3"
GENERATOR_VERSION = "2.9.0"
FOLDER = Path(__file__).parent / "schema"
TYPES = "node_modules/@grafana/schema/dist/types/raw"
PANELS = {
    "timeseries": "timeseries",
    "stat": "stat",
    "table": "table",
    "bargauge": "bargauge",
    "heatmap": "heatmap",
    "state-timeline": "statetimeline",
    "logs": "logs",
}
WITH_FIELD_CONFIG = {"timeseries", "table", "heatmap", "state-timeline"}


def _generate(folder: Path, path: str, name: str) -> dict[str, Any]:
    command = ["npx", "ts-json-schema-generator", "--path", path, "--type", name, "--no-type-check"]
    done = subprocess.run(
        [*command, "--jsDoc", "none"], cwd=folder, capture_output=True, text=True, check=True
    )
    schema: dict[str, Any] = json.loads(done.stdout)
    return schema


def main() -> None:
    """Writes all schemas."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packages = [f"@grafana/schema@{SCHEMA_VERSION}", f"ts-json-schema-generator@{GENERATOR_VERSION}"]
        subprocess.run(
            ["npm", "install", "--ignore-scripts", "--no-audit", *packages], cwd=folder, check=True
        )
        wanted = [
            ("dashboard", f"{TYPES}/dashboard/x/types.gen.d.ts", "Dashboard"),
            ("annotation", f"{TYPES}/dashboard/x/types.gen.d.ts", "AnnotationQuery"),
        ]
        for panel, directory in PANELS.items():
            path = f"{TYPES}/composable/{directory}/panelcfg/x/types.gen.d.ts"
            wanted.append((f"{panel}.options", path, "Options"))
            if panel in WITH_FIELD_CONFIG:
                wanted.append((f"{panel}.fieldconfig", path, "FieldConfig"))
        for file, path, type_name in wanted:
            schema = {"$comment": f"From @grafana/schema {SCHEMA_VERSION} (Apache-2.0), {type_name}."}
            schema |= _generate(folder, path, type_name)
            (FOLDER / f"{file}.json").write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
