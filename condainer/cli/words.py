"""The words that people type: the commands of `cnd`, and those of other tools."""

from __future__ import annotations

# What other tools call a command of ours.
ALIASES = {
    "info": "status",
    "install": "add",
    "ls": "list",
    "run": "exec",
    "uninstall": "remove",
}

_ENTER = "Run `source ./activate` in your shell, or start a new one with `cnd shell`."
# What to do in place of a command that we do not have.
INSTEAD = {
    "activate": _ENTER,
    "create": "Run `cnd init`, edit environment.yml, then run `cnd build`.",
    "deactivate": "Run `deactivate` in the activated shell; leave `cnd shell` with `exit`.",
    "env": "`cnd list` lists images, `cnd init` begins a project, `cnd build` builds its image.",
    "sync": "Run `cnd build`: it builds the image of the lock, unless a cache has it.",
    "update": "Run `cnd lock --update PACKAGE` or `cnd lock --upgrade`, then `cnd build`.",
    "upgrade": "Run `cnd lock --update PACKAGE` or `cnd lock --upgrade`, then `cnd build`.",
}
# The commands by headings of the help, each with the module of condainer.commands that defines it.
GROUPS = {
    "Environment": {
        "init": "environment.init",
        "add": "environment.edit",
        "remove": "environment.edit",
        "lock": "environment.lock",
        "build": "environment.build",
        "exec": "environment.exec",
        "shell": "environment.exec",
        "mount": "environment.mount",
        "umount": "environment.mount",
        "status": "environment.status",
    },
    "Images": {
        "list": "images.list",
        "show": "images.show",
        "diff": "images.show",
        "tree": "images.tree",
        "why": "images.tree",
        "licenses": "images.sbom",
        "sbom": "images.sbom",
        "audit": "images.sbom",
        "tag": "images.tag",
        "verify": "images.verify",
        "sign": "images.sign",
        "rm": "images.rm",
        "gc": "images.gc",
        "clean": "images.clean",
        "cache": "images.cache",
    },
    "Elsewhere": {
        "wrap": "integrations.wrap",
        "module": "integrations.module",
        "kernel": "integrations.kernel",
        "shell-hook": "integrations.shell_hook",
    },
    "Sharing": {
        "share": "sharing.share",
        "push": "sharing.registry",
        "pull": "sharing.registry",
        "export": "sharing.exchange",
        "import": "sharing.exchange",
        "fetch": "sharing.fetch",
        "bundle": "sharing.fetch",
    },
    "System": {
        "prereq": "system.prereq",
        "completion": "system.completion",
        "version": "system.version",
    },
}
