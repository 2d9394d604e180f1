"""The command line: `python -m tests.channel build | serve | env`."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from tests.channel.build import NAME, ensure_channel, left_out
from tests.channel.server import serve

DEFAULT_ROOT = Path(__file__).resolve().parents[2] / ".channel"
DEFAULT_PORT = 8765


def main() -> int:
    """Run one of the commands and return its exit status."""
    arguments = _parser().parse_args()
    root: Path = arguments.root.resolve()
    if not (root / NAME).is_dir():
        print(f"building the channel in {root}", file=sys.stderr)
    channel = ensure_channel(root)
    for reason in left_out(channel):
        print(f"left out: {reason}", file=sys.stderr)
    if arguments.command == "serve":
        return _serve(root, channel, arguments.port)
    print(_setting(channel.as_uri()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.channel", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {
        "build": "build the channel if it is missing or stale",
        "serve": "build if needed, then serve on 127.0.0.1 until interrupted",
        "env": "print the setting that uses the channel without a server",
    }
    for name, text in helps.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--root", type=Path, default=DEFAULT_ROOT, metavar="DIR")
        if name == "serve":
            command.add_argument("--port", type=int, default=DEFAULT_PORT, metavar="N")
    return parser


def _setting(url: str) -> str:
    return f'export CONDAINER_MIRRORS="{NAME}={url}"'


def _serve(root: Path, channel: Path, port: int) -> int:
    try:
        with serve(root, port) as server:
            print(_setting(f"{server.url}/{NAME}"))
            print("# or, without a server:")
            print(_setting(channel.as_uri()), flush=True)
            try:
                signal.pause()
            except KeyboardInterrupt:
                return 0
    except OSError as error:
        print(f"cannot listen on port {port}: {error.strerror}; try --port N", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
