"""The words that people type at `cnd`, in its place or in that of other tools' commands."""

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
# What stands in the place of a command that we do not have.
INSTEAD = {
    "activate": _ENTER,
    "create": "Run `cnd init`, edit environment.yml, then run `cnd build`.",
    "deactivate": "Run `deactivate` in the activated shell; leave `cnd shell` with `exit`.",
    "env": "`cnd list` lists images, `cnd init` begins a project, `cnd build` builds its image.",
    "sync": "Run `cnd build`: it builds the image of the lock, unless a cache has it.",
    "update": "Run `cnd lock --update PACKAGE` or `cnd lock --upgrade`, then `cnd build`.",
    "upgrade": "Run `cnd lock --update PACKAGE` or `cnd lock --upgrade`, then `cnd build`.",
}
# Commands by what people want.
GROUPS = {
    "Environment": [
        "init",
        "add",
        "remove",
        "lock",
        "build",
        "exec",
        "shell",
        "mount",
        "umount",
        "status",
    ],
    "Images": [
        "list",
        "show",
        "diff",
        "tree",
        "why",
        "licenses",
        "sbom",
        "audit",
        "tag",
        "verify",
        "sign",
        "rm",
        "gc",
        "clean",
        "cache",
    ],
    "Elsewhere": ["wrap", "module", "kernel", "shell-hook"],
    "Sharing": ["share", "push", "pull", "export", "import", "fetch", "bundle"],
    "System": ["prereq", "completion", "version"],
}
