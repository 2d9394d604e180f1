"""The entry point: runs the command line, and turns every ending into an exit status."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `cnd` and return its exit status; README.md lists them."""
    import click

    from condainer.cli import cli
    from condainer.console import show_error
    from condainer.errors import CondainerError, StorageError

    if arguments is None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _terminated)
    try:
        cli.main(args=arguments, prog_name="cnd", standalone_mode=False)
        sys.stdout.flush()
    except CondainerError as error:
        show_error(error)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print("cnd: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output has seen enough; nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        # Mostly a full disk behind stdout; what a user can act on elsewhere has its own class.
        print(f"cnd: {error}", file=sys.stderr)
        return StorageError.exit_code
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 1
    except Exception:
        return _unexpected()
    return 0


def _terminated(number: int, frame: FrameType | None) -> None:
    # An exception, so that the private pieces of a build are removed on the way out.
    raise SystemExit(128 + number)


def _unexpected() -> int:
    """Keep the traceback of a bug in a file, where it does not frighten but can be sent."""
    import tempfile
    import traceback

    from condainer import __version__

    with tempfile.NamedTemporaryFile(
        "w", prefix="condainer-error-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        log.write(f"condainer {__version__}, Python {sys.version}\n")
        traceback.print_exc(file=log)
    problem = traceback.format_exc(limit=0).strip().splitlines()[-1]
    print(
        f"cnd: unexpected error: {problem}\n"
        f"     This is a bug in Condainer. Please report it with the file {log.name}",
        file=sys.stderr,
    )
    return 70


def entry() -> None:
    """Run `cnd` and end the process without tearing the interpreter down.

    rattler's threads outlive its calls, and one that wakes while Python is being finalised ends
    the process with SIGSEGV: seen in 2 of 25 runs that ended right after an installation.
    """
    _complete_streams()
    # What asyncio says of its pieces when an interruption takes it apart helps nobody.
    sys.unraisablehook = lambda unraisable: None
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    status = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _complete_streams() -> None:
    """Open /dev/null in place of standard streams that the caller closed, as daemons do.

    Otherwise the next file that is opened would become our stdout.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # File names need not be valid text.
            stream.reconfigure(errors="surrogateescape")


if __name__ == "__main__":
    entry()
