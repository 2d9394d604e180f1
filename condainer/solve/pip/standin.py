"""Run in the place of an interpreter of another platform: answers uv's questions as that one would.

uv asks an interpreter by running a script of its own in it, which prints a JSON object. Here it
runs in this machine's Python, and what differs on the other platform is replaced. Started by path,
so it imports nothing of this package. Arguments: the file with what differs, and those of python.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys


def main() -> None:
    """Run the code that follows `-c`, and print its answer with the replacements."""
    with open(sys.argv[1], encoding="utf-8") as stream:
        replacements = json.load(stream)
    if "-c" not in sys.argv:
        sys.exit("an interpreter of another platform cannot run here")
    code = sys.argv[sys.argv.index("-c") + 1]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        exec(code, {"__name__": "__main__"})
    answer = json.loads(printed.getvalue())
    for key, value in replacements.items():
        # What is not replaced of these two stays as it is.
        answer[key] = {**answer.get(key, {}), **value} if key in ("markers", "scheme") else value
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
