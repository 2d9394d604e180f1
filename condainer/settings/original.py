"""The condainer.yml of the original Condainer: what becomes of each of its keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from condainer.system.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from condainer.system.yaml_file import Document

# What its configuration had, and what takes its place.
REPLACED = {
    "uuid": "the content address takes its place; `address:` selects another image",
    "installer_url": "the embedded engine needs no installer; the path of one that you have "
    "downloaded goes into `installer:` or CONDAINER_INSTALLER",
    "user_env_name": "`name:` of environment.yml is shown in the prompt",
    "non_conda_application": "only Conda environments have a content address",
    "multiuser_mountpoint": "several users can use one image without it",
}
# It generated `mamba`, that of its own installation, which takes no part in ours.
CONDA_EXE = "the embedded engine solves; ours names one to be used in its place"


def is_original(document: Document) -> bool:
    """Tell whether a file has keys that only the original's has."""
    return isinstance(document.value, dict) and any(key in REPLACED for key in document.value)


def kept(document: Document, known: Collection[str]) -> dict[str, object]:
    """Return the keys that mean here what they meant there, with their values."""
    gone = {*REPLACED, "conda_exe"}
    return {k: v for k, v in document.value.items() if k in known and k not in gone}


def fates(document: Document, known: Collection[str]) -> Iterator[str]:
    """Yield what becomes of each key of the original's file."""
    stays = kept(document, known)
    for key in document.value:
        if key in stays:
            yield f"`{key}` stays"
        elif key == "conda_exe":
            yield f"`{key}` goes: {CONDA_EXE}"
        else:
            yield f"`{key}` goes: {REPLACED.get(key, 'it has no meaning here')}"


def refusal(document: Document, known: Collection[str]) -> ConfigError:
    """Return the error that tells of all keys at once, and of the conversion."""
    first = next(key for key in document.value if key in REPLACED)
    lines = "".join(f"\n     {line}" for line in fates(document, known))
    return ConfigError(
        f"{document.where(first)}: `{first}` is a key of the original Condainer, whose "
        f"configuration is not ours:{lines}",
        "`cnd init --convert` does that in a project, and keeps a copy.",
    )
