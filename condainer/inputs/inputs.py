"""What a project asks for, whichever files say it, as one frozen value."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from condainer.inputs.conda_specs import Spec
from condainer.inputs.pip_locks import PipLock
from condainer.inputs.requirements import Line
from condainer.lock.locks import Source
from condainer.system.urls import without_user


@dataclass(frozen=True)
class Inputs:
    """What the user asked for, on one platform; `notes` say what is not done as it is written.

    `pip_lock` holds pip packages that another tool has locked; `environment` is the one that was
    chosen of a workspace; `places` says where each channel is named.
    """

    name: str
    platform: str
    platforms: tuple[str, ...]
    channels: tuple[str, ...]
    specs: tuple[Spec, ...]
    requirements: tuple[Line, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    post_link_scripts: bool = False
    sources: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()
    virtual_packages: tuple[tuple[str, str], ...] = ()
    pip_lock: PipLock | None = None
    environment: str = ""
    places: tuple[tuple[str, str], ...] = ()

    def fingerprint(self) -> str:
        """Return the sha256 of what matters for the lock.

        Comments, ordering, spelling of blanks and the environment's name do not; the order of
        channels and of a requirement file's options does.
        """
        # A password that was changed gives the same packages, and its hash could be guessed from.
        options = [without_user(line.text) for line in self.requirements if line.is_option]
        wanted = [line for line in self.requirements if not line.is_option]
        meaning = {
            "channels": self.channels,
            "conda": sorted({_normalised(spec.text) for spec in self.specs}),
            "constraints": sorted({_normalised(line.text) for line in wanted if line.constraint}),
            "options": options,
            "pip": sorted({_normalised(line.text) for line in wanted if not line.constraint}),
            "platform": self.platform,
            "platforms": sorted(self.platforms),
            "post-link-scripts": self.post_link_scripts,
            "variables": sorted(self.variables),
        }
        if self.virtual_packages:
            # Only then, so that locks made before they could be chosen stay current.
            meaning["virtual-packages"] = self.virtual_packages
        if self.pip_lock is not None:
            meaning["pip-lock"] = self.pip_lock.fingerprint
        if self.environment:
            meaning["environment"] = self.environment
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()

    @property
    def extras(self) -> tuple[str, ...]:
        """The pip requirements that ask for extras, without versions, URLs and options."""
        wanted = [line.text for line in self.requirements if line.is_wanted]
        asked = {_with_extras(text) for text in wanted if "[" in text}
        return tuple(sorted(asked - {""}))


def _with_extras(text: str) -> str:
    """Return name, extras and marker of a requirement; nothing for one without extras."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        asked = Requirement(re.split(r"\s--?\w", text, maxsplit=1)[0])
    except InvalidRequirement:
        # As uv takes it, and knows better what it is.
        return ""
    marker = f"; {asked.marker}" if asked.marker else ""
    return f"{asked.name}[{','.join(sorted(asked.extras))}]{marker}" if asked.extras else ""


def _normalised(spec: str) -> str:
    """Return a spec without insignificant blanks: `python >= 3.10` is `python>=3.10`."""
    text = re.sub(r"\s+", " ", without_user(spec.strip()))
    return re.sub(r"\s*([<>=!~,|])\s*", r"\1", text)
