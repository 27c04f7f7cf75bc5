"""In the place of certifi, whose certificates would have to be unpacked: this file trusts whom its host trusts."""

from __future__ import annotations

from pathlib import Path

from dockmesh.agent.trust import EXPECTED, system_bundle


def where() -> str:
    return system_bundle() or EXPECTED


def contents() -> str:
    return Path(where()).read_text(encoding="ascii")
