"""The agent as one file: `python3 dockmesh-agent.pyz run …`. Readable by Pythons that are too old to run it."""

import sys

if sys.version_info < (3, 9):
    sys.exit(
        "dockmesh-agent: needs Python 3.9 or newer; %s is Python %d.%d"
        % ((sys.executable,) + sys.version_info[:2])
    )

if sys.version_info < (3, 10):
    import python39

    python39.allow_in("requests", "urllib3")

from dockmesh.agent.__main__ import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
