"""`python -m fraud_gateway SETTINGS.yaml FOLDER`: writes a gateway's files. Exit code 2: wrong settings."""

from __future__ import annotations

import sys
from pathlib import Path

from fraud_gateway.render import render
from fraud_gateway.settings import Gateway, InvalidGateway


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m fraud_gateway SETTINGS.yaml FOLDER\n")
        return 2
    settings, folder = map(Path, arguments)
    try:
        files = render(Gateway.read(settings))
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except InvalidGateway as error:
        sys.stderr.write(f"gateway: {settings.name}: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"gateway: {Path(str(error.filename)).name}: {error.strerror}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
