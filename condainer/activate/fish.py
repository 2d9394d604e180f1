"""The script `activate.fish` of a project, which also defines the function `deactivate`."""

from __future__ import annotations

from condainer.activate import default_variables
from condainer.activate.bash import MARKS, Activation
from condainer.activate.default_variables import Default
from condainer.activate.quick_script import Script, for_others
from condainer.activate.shell import FISH_PROMPT, fish_word

# In a function, because `return` from a sourced file is an error in older versions.
ACTIVATE = """\
# Made by `cnd build`: source it from fish.
# What another shell has exported is renewed, as in a batch job: its mount is not this shell's. The
# environment of `cnd shell` is this process's own, as long as it is mounted.
set -l active "$CONDAINER_ADDRESS"
if test -n "$active"; and not functions -q __condainer_undo
    set -q __CONDAINER_NAMES
    or not command grep -qsF -- "/condainer-$active " /proc/self/mountinfo
    and set active ''
end
if test -n "$active"
    set -q CONDA_DEFAULT_ENV; or set -l CONDA_DEFAULT_ENV 'an environment'
    printf '%s\\n' "cnd: $CONDA_DEFAULT_ENV is already active" >&2
    printf '%s\\n' 'Leave it with `deactivate`, a cnd shell with `exit`.' >&2
    false
else
    function __condainer_activate
        set -l claim (command /bin/sh -c @mount sh $fish_pid)
        or begin
            printf '%s\\n' 'cnd: not activated: the image could not be mounted' >&2
            return 1
        end
        # Only this says that the image is there: without it, python would be that of the system.
        set -l found (command cat @prefix/.condainer/address 2>/dev/null)
        if test "$found" != @address
            command rm -f -- "$claim"
            printf '%s\\n' 'cnd: not activated: the image is not at its place:' @prefix >&2
            return 1
        end
        set -l variables
        if test -d @prefix/etc/conda/env_vars.d
            set variables (command /bin/sh -c @packaged)
            or begin
                command rm -f -- "$claim"
                printf '%s\\n' "cnd: not activated: the packages' variables could not be read" >&2
                return 1
            end
        end
        if test -n "$CONDAINER_ADDRESS"; and test -n "$CONDAINER_PREFIX"
            set -q __CONDAINER_NAMES; or set -l __CONDAINER_NAMES @marks
            __condainer_undo "$CONDAINER_PREFIX" (string split : -- "$__CONDAINER_NAMES")
        end
        set -g __CONDAINER_CLAIM $claim
        set -l cache
        if string match -q -- '/*' "$XDG_CACHE_HOME"
            set cache "$XDG_CACHE_HOME"
        else if test -n "$HOME"
            set cache "$HOME/.cache"
        end
        set -l config
        if string match -q -- '/*' "$XDG_CONFIG_HOME"
            set config "$XDG_CONFIG_HOME"
        else if test -n "$HOME"
            set config "$HOME/.config"
        end
        for name in @names
            set -eg __CONDAINER_SAVED_$name
            set -q $name; and set -gx __CONDAINER_SAVED_$name $$name
        end
        set -gx __CONDAINER_NAMES (string join : -- @names):
@settings
        set -eg PYTHONHOME
        set -l behind
        test -n "$claim"; and set behind (string replace -r '[^/]*$' '' -- "$claim")@stand_ins
        set -gx PATH @prefix/bin $behind $PATH
        status is-interactive; and __condainer_prompt_on
        true
    end

@prompt_functions
    function __condainer_prompt_off
        functions -e fish_prompt
        functions -q __condainer_prompt; and functions -c __condainer_prompt fish_prompt
        functions -e __condainer_prompt
    end

    function __condainer_scripts
        command env LC_ALL=C ls $argv 2>/dev/null | string match -- '*.fish'
    end

    function __condainer_undo
        set -l path
        for directory in $PATH
            string match -q -- '*.stand-ins' "$directory"; and continue
            test "$directory" != "$argv[1]/bin"; and set path $path $directory
        end
        set -gx PATH $path
        for name in $argv[2..-1]
            set -l saved __CONDAINER_SAVED_$name
            if test -z "$name"
                continue
            else if set -q $saved
                set -gx $name $$saved
                set -eg $saved
            else
                set -eg $name
            end
        end
        set -eg __CONDAINER_NAMES
    end

    function __condainer_forget
        functions -e __condainer_activate __condainer_scripts __condainer_status deactivate
        functions -e __condainer_undo __condainer_prompt_on __condainer_prompt_off
        functions -e __condainer_forget
    end

    function deactivate --description 'Leave the environment of Condainer'
        for file in (__condainer_scripts -r @prefix/etc/conda/deactivate.d)
            source @prefix/etc/conda/deactivate.d/$file
        end
        __condainer_undo @prefix (string split : -- "$__CONDAINER_NAMES")
        status is-interactive; and __condainer_prompt_off
        command rm -f -- "$__CONDAINER_CLAIM"
        set -eg __CONDAINER_CLAIM
        __condainer_forget
        true
    end

    if __condainer_activate
        for __condainer_file in (__condainer_scripts @prefix/etc/conda/activate.d)
            source @prefix/etc/conda/activate.d/$__condainer_file
        end
        set -e __condainer_file
        functions -e __condainer_activate
        true
    else
        __condainer_forget
        false
    end
end
"""


def activation_script(of: Activation) -> str:
    """Return the text of a project's `activate.fish`."""
    lines = [_setting_default(default, of.address) for default in of.defaults]
    lines.append("printf '%s\\n' $variables | source")
    lines += [f"set -gx {name} {fish_word(value)}" for name, value in of.fixed.items()]
    return Script(ACTIVATE).substitute(
        mount=fish_word(for_others(of.quick, of.mount)),
        packaged=fish_word(of.packaged("fish")),
        prefix=fish_word(str(of.prefix)),
        address=of.address,
        names=" ".join(of.names),
        marks=MARKS,
        stand_ins=of.stand_ins,
        settings="\n".join(f"        {line}" for line in lines),
        prompt_functions=FISH_PROMPT.replace("@prompt", fish_word(of.prompt)),
    )


def _setting_default(default: Default, address: str) -> str:
    """Return the line that sets a variable if it is unset."""
    given = f"set -q {default.variable}"
    if default.value:
        return f"{given}; or set -gx {default.variable} {fish_word(default.value)}"
    theirs = [f'test -e "$config/{path}"' for path in default.unless]
    unless = "; or ".join([given, 'test -z "$cache"', *theirs])
    value = f'"$cache/{default_variables.DIRECTORY}/{address}/{default.below}"'
    return f"{unless}; or set -gx {default.variable} {value}"
