"""The script `activate.fish` of a project, which also defines the function `deactivate`."""

from __future__ import annotations

from condainer.activate import default_variables
from condainer.activate.bash import MARKS, Activation
from condainer.activate.default_variables import Default
from condainer.activate.quick_script import NONE, Script, for_others
from condainer.activate.shell import FISH_PROMPT, fish_word

# In a function, because `return` from a sourced file is an error in older versions.
ACTIVATE = """\
# Made by `cnd build`: source it from fish.
# What another shell has exported is renewed, as in a batch job: its mount is not this shell's. The
# environment of `cnd shell` is this process's own, as long as it is mounted.
set -l mounted
set -l active
if test -n "$CONDAINER_ADDRESS"
    command grep -qsF -- "/condainer-$CONDAINER_ADDRESS " /proc/self/mountinfo; and set mounted yes
    if functions -q __condainer_leave
        set active $CONDAINER_ADDRESS
    else if not set -q __CONDAINER_NAMES; and test -n "$mounted"
        set active $CONDAINER_ADDRESS
    end
end
if test -n "$mounted"; and test "$active" = @address
    set -q CONDA_DEFAULT_ENV; or set -l CONDA_DEFAULT_ENV 'the environment'
    printf '%s\\n' "cnd: $CONDA_DEFAULT_ENV is already active" >&2
    command /bin/sh -c @warn
    # A virtual environment that was left takes the function with it.
    if functions -q __condainer_leave; and not functions -q deactivate
@deactivate
    end
    true
else
    function __condainer_activate
        set -l told (command /bin/sh -c @mount sh $fish_pid)
        set -q told[1]; or return 1
        set -l claim
        test "$told[1]" = @none; or set claim $told[1]
        if test -n "$CONDAINER_ADDRESS"; and test -n "$CONDAINER_PREFIX"
            if test -n "$argv[1]"; and test "$argv[1]" != @address
                printf 'cnd: switched from %s (%.8s) to %s (%.8s)\\n' \\
                    "$CONDA_DEFAULT_ENV" "$CONDAINER_ADDRESS" @name @address >&2
            end
            if set -q __CONDAINER_CLAIM
                # The claim on the same image is in the same file.
                test "$__CONDAINER_CLAIM" = "$claim"; and set -g __CONDAINER_CLAIM
                __condainer_leave
            else
                set -q __CONDAINER_NAMES; or set -l __CONDAINER_NAMES @marks
                __condainer_undo "$CONDAINER_PREFIX" (string split : -- "$__CONDAINER_NAMES")
            end
        end
        set -g __CONDAINER_CLAIM $claim
        set -l cache $told[2]
        set -l config $told[3]
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
        functions -e __condainer_activate __condainer_scripts __condainer_undo __condainer_leave
        functions -e __condainer_prompt_on __condainer_prompt_off __condainer_forget deactivate
        # What another tool had under this name, as a virtual environment does.
        functions -q __condainer_theirs; and functions -c __condainer_theirs deactivate
        functions -e __condainer_theirs
    end

    function __condainer_leave
        set -l prefix $CONDAINER_PREFIX
        for file in (__condainer_scripts -r $prefix/etc/conda/deactivate.d)
            source $prefix/etc/conda/deactivate.d/$file
        end
        __condainer_undo $prefix (string split : -- "$__CONDAINER_NAMES")
        status is-interactive; and __condainer_prompt_off
        command rm -f -- "$__CONDAINER_CLAIM"
        set -eg __CONDAINER_CLAIM
    end

    if functions -q deactivate; and not functions deactivate | string match -q '*__condainer_leave*'
        functions -e __condainer_theirs
        functions -c deactivate __condainer_theirs
        functions -e deactivate
    end
@deactivate

    if __condainer_activate "$active"
        for __condainer_file in (__condainer_scripts @prefix/etc/conda/activate.d)
            source @prefix/etc/conda/activate.d/$__condainer_file
        end
        set -e __condainer_file
        functions -e __condainer_activate
        true
    else
        # What is active still has to be left.
        set -q __CONDAINER_CLAIM; or __condainer_forget
        false
    end
end
"""

DEACTIVATE = """\
    function deactivate --description 'Leave the environment of Condainer'
        __condainer_leave
        __condainer_forget
        true
    end"""


def activation_script(of: Activation) -> str:
    """Return the text of a project's `activate.fish`."""
    lines = [_setting_default(default, of.address) for default in of.defaults]
    lines.append("printf '%s\\n' $told[4..-1] | source")
    lines += [f"set -gx {name} {fish_word(value)}" for name, value in of.fixed.items()]
    return Script(ACTIVATE).substitute(
        mount=fish_word(for_others(of.claim("fish"))),
        none=NONE,
        warn=fish_word(of.warn),
        prefix=fish_word(str(of.prefix)),
        address=of.address,
        name=fish_word(of.name),
        names=" ".join(of.names),
        marks=MARKS,
        deactivate=DEACTIVATE,
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
    unless = "; or ".join([given, f'test "$cache" = {NONE}', *theirs])
    value = f'"$cache/{default_variables.DIRECTORY}/{address}/{default.below}"'
    return f"{unless}; or set -gx {default.variable} {value}"
