"""Names of platforms, as conda has them."""

from condainer.startup.find_project import this_platform as this_platform
