"""Lines of the access log have no token, wherever it was put."""

import pytest

from dockmesh.server import accesslog
from tokens import secret


@pytest.mark.parametrize("kind", list(secret.Kind))
def test_a_token_in_a_path_is_masked(kind: secret.Kind) -> None:
    text = str(secret.generate(kind))
    long = "x" * 280
    for path in (f"/api/v1/{text}", f"/{text}/more", f"/{long}/{text}", f"/{text[:-20]}", f"/a{text}b"):
        lines = (
            accesslog.line(address="-", method="GET", path=path, status=404, size=1, seconds=0.1),
            accesslog.refusal_line(address="-", method="GET", path=path, status=400, reason="x"),
        )
        for line in lines:
            assert text.split("_")[2][:20] not in line
    assert "/api/v1/hosts" in accesslog.line(
        address="-", method="GET", path="/api/v1/hosts", status=200, size=1, seconds=0.1
    )
