"""A real conda channel, built from what is at hand and served on loopback.

It stands in for conda-forge in the tests and on machines that reach no conda channel: the packages
are in conda's own formats, so that the real solver and the real installer work on them.
"""

from tests.channel.build import ensure_channel, left_out
from tests.channel.server import ChannelServer, serve

__all__ = ["ChannelServer", "ensure_channel", "left_out", "serve"]
