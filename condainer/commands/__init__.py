"""The commands, in a folder for each part of `cnd --help`."""
