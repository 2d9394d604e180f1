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
    "search": "`cnd add PACKAGE` takes the newest version that fits, or says which there are.",
    "sync": "Run `cnd build`: it builds the image of the lock, unless a cache has it.",
    "update": "Run `cnd lock --update PACKAGE` or `cnd lock --upgrade`, then `cnd build`.",
    "upgrade": "Run `cnd lock --update PACKAGE` or `cnd lock --upgrade`, then `cnd build`.",
}
# The commands by headings of the help: the module of condainer.commands that defines each, and the
# first line of its help, so that a list of them imports none.
GROUPS = {
    "Environment": {
        "init": ("environment.init", "Begin a project: write its configuration."),
        "add": ("environment.edit", "Add packages to the environment, and build it."),
        "remove": ("environment.edit", "Remove packages from the environment, and build it."),
        "lock": ("environment.lock", "Update the lock, changing as little as possible."),
        "build": ("environment.build", "Make the image, if no cache and no registry has it yet."),
        "exec": ("environment.exec", "Run a command in the environment."),
        "shell": ("environment.exec", "Start a shell with the environment active."),
        "mount": ("environment.mount", "Mount the image, until `cnd umount`."),
        "umount": ("environment.mount", "Unmount the image."),
        "status": ("environment.status", "Show lock, address, image and mount point."),
    },
    "Images": {
        "list": ("images.list", "List the images of all caches."),
        "show": ("images.show", "Show what an image holds, and who made it."),
        "diff": ("images.show", "Show what changes from one environment to another."),
        "tree": ("images.tree", "Show what each package needs, or what PKG needs."),
        "why": ("images.tree", "Show what needs a package, and what that asks of it."),
        "licenses": ("images.sbom", "Show the license of each package of an image."),
        "sbom": ("images.sbom", "Print the bill of materials of an image."),
        "audit": ("images.sbom", "Look for known vulnerabilities in the packages of an image."),
        "tag": ("images.tag", "Give an image a name in the cache that all users can use."),
        "verify": ("images.verify", "Check that an image is what its lock says."),
        "sign": ("images.sign", "Vouch for images with an SSH key."),
        "rm": ("images.rm", "Remove images from the cache."),
        "gc": ("images.gc", "Collect images that nobody needs, the least recently used first."),
        "clean": (
            "images.clean",
            "Remove what builds leave behind, all of which can be made again.",
        ),
        "cache": ("images.cache", "Read the image into the page cache."),
    },
    "Elsewhere": {
        "wrap": ("integrations.wrap", "Write scripts into DIR/bin that run the image's programs."),
        "module": ("integrations.module", "Write a module file of an image."),
        "kernel": ("integrations.kernel", "Make Jupyter kernels of images, list and remove them."),
        "shell-hook": (
            "integrations.shell_hook",
            "Print what a shell evaluates to be in the image.",
        ),
    },
    "Sharing": {
        "share": ("sharing.share", "Make a directory the cache of a group."),
        "push": ("sharing.registry", "Send images to a registry, each under its address."),
        "pull": ("sharing.registry", "Take an image from a registry into the cache."),
        "export": ("sharing.exchange", "Write an image with its manifest and lock into one file."),
        "import": ("sharing.exchange", "Put an exported image into the cache."),
        "fetch": ("sharing.fetch", "Download everything that the lock needs."),
        "bundle": ("sharing.fetch", "Write the lock with all its packages into one file."),
    },
    "System": {
        "prereq": ("system.prereq", "Check the tools that are needed, and tell what they can do."),
        "completion": ("system.completion", "Print what lets a shell complete the words of cnd."),
        "version": ("system.version", "Print the version."),
    },
}
SUMMARIES = {
    name: summary for commands in GROUPS.values() for name, (_, summary) in commands.items()
}
