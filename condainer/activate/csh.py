"""The scripts `activate.csh` and `deactivate.csh` of a project, for csh and tcsh."""

from __future__ import annotations

from condainer.activate import default_variables
from condainer.activate.bash import MARKS, OTHER_PATH, Activation
from condainer.activate.default_variables import Default
from condainer.activate.quick_script import NONE, Script, for_others

# csh has no `return`, loses a status at `endif`, cannot redirect stderr alone, and takes command
# substitutions apart in its own way: hence the nested if-else, the last line, and small programs
# for sh, handed over in a variable. In an if-block that is skipped, a value's second line would be
# looked through for `else` and `endif`: hence the variable for line breaks.
ACTIVATE = """\
# Made by `cnd build`: source it from csh or tcsh.
set __condainer_status = 1
set __condainer_newline = '\\
'
set __condainer_active = ''
set __condainer_mounted = 0
# What another shell has exported is renewed, as in a batch job: its mount is not this shell's. The
# environment of `cnd shell` is this process's own, as long as it is mounted.
if ( $?CONDAINER_ADDRESS ) then
    if ( { grep -qsF -- "/condainer-$CONDAINER_ADDRESS " /proc/self/mountinfo } ) then
        set __condainer_mounted = 1
    endif
    if ( $?__condainer_claim || ( ! $?__CONDAINER_NAMES && $__condainer_mounted ) ) then
        set __condainer_active = "$CONDAINER_ADDRESS"
    endif
endif
if ( $__condainer_mounted && "$__condainer_active" == '@address' ) then
    /bin/sh -c @say sh @already
    /bin/sh -c @warn
    unset __condainer_newline __condainer_active __condainer_mounted
    set __condainer_status = 0
else
    setenv __CONDAINER_CALL @mount
    set __condainer_lines = ( "`printenv __CONDAINER_CALL | /bin/sh -s $$`" '' )
    unsetenv __CONDAINER_CALL
    if ( "$__condainer_lines[1]" == '' ) then
        unset __condainer_newline __condainer_active __condainer_mounted __condainer_lines
    else
        if ( "$__condainer_active" != '' && "$__condainer_active" != '@address' ) then
            /bin/sh -c @switched sh "$__condainer_active" @name
        endif
        if ( $?__condainer_claim ) then
            # The claim on the same image is in the same file.
            if ( "$__condainer_claim" == "$__condainer_lines[1]" ) set __condainer_claim = ''
@leave_old
        else if ( $?CONDAINER_PREFIX ) then
            if ( ! $?__CONDAINER_NAMES ) then
                setenv __CONDAINER_NAMES '@marks'
            endif
@undo
            unset __condainer_name __condainer_saved
        endif
        set __condainer_claim = $__condainer_lines[1]:q
        set __condainer_cache = $__condainer_lines[2]:q
        set __condainer_config = $__condainer_lines[3]:q
        set __condainer_behind = ":$__condainer_claim:h"/@stand_ins
        if ( "$__condainer_claim" == '@none' ) then
            set __condainer_claim = ''
            set __condainer_behind = ''
        endif
        setenv __CONDAINER_NAMES '@names'
@settings
        unsetenv PYTHONHOME
        if ( $?PATH ) then
            setenv PATH @prefix/bin"$__condainer_behind":"$PATH"
        else
            setenv PATH @prefix/bin"$__condainer_behind"
        endif
        unset __condainer_behind
        if ( $?prompt ) then
            set __condainer_prompt = "$prompt:q"
            set prompt = @prompt"$prompt:q"
        endif
        set __condainer_deactivate = @deactivate
        alias deactivate 'source $__condainer_deactivate:q'
        rehash
        setenv __CONDAINER_CALL @scripts
        foreach __condainer_file ( "`printenv __CONDAINER_CALL | /bin/sh`" )
            if ( "$__condainer_file" != '' ) source "$__condainer_file"
        end
        unsetenv __CONDAINER_CALL
        unset __condainer_newline __condainer_active __condainer_mounted
        unset __condainer_cache __condainer_config
        unset __condainer_file __condainer_lines __condainer_line
        set __condainer_status = 0
    endif
endif
eval "unset __condainer_status; /bin/sh -c 'exit $__condainer_status'"
"""

# Undoes an activation by any shell.
UNDO = """\
    setenv __CONDAINER_CALL @path
    setenv PATH "`printenv __CONDAINER_CALL | /bin/sh`"
    unsetenv __CONDAINER_CALL
    foreach __condainer_name ( `echo $__CONDAINER_NAMES | tr : ' '` )
        eval set __condainer_saved = '$?__CONDAINER_SAVED_'$__condainer_name
        if ( $__condainer_saved ) then
            eval setenv $__condainer_name '$__CONDAINER_SAVED_'$__condainer_name':q'
            unsetenv __CONDAINER_SAVED_$__condainer_name
        else
            unsetenv $__condainer_name
        endif
    end
    unsetenv __CONDAINER_NAMES
"""

# The same, with the scripts and the claim of this shell's own activation.
LEAVE = """\
    setenv __CONDAINER_CALL @scripts
    foreach __condainer_file ( "`printenv __CONDAINER_CALL | /bin/sh`" )
        if ( "$__condainer_file" != '' ) source "$__condainer_file"
    end
@undo
    if ( $?__condainer_prompt ) then
        set prompt = "$__condainer_prompt:q"
    endif
    if ( $?__condainer_claim ) then
        /bin/rm -f -- "$__condainer_claim:q"
    endif
    unset __condainer_file __condainer_name __condainer_saved __condainer_prompt
"""

DEACTIVATE = """\
# Made by `cnd build`: source it from csh or tcsh; in an activated shell, `deactivate` does it.
set __condainer_status = 1
if ( ! $?__CONDAINER_NAMES ) then
    if ( $?CONDAINER_ADDRESS ) then
        /bin/sh -c @say sh 'cnd: leave this shell with `exit`'
    else
        /bin/sh -c @say sh 'cnd: no environment is active'
    endif
else
    set __condainer_newline = '\\
'
@leave
    unset __condainer_newline __condainer_claim __condainer_deactivate
    unalias deactivate
    rehash
    set __condainer_status = 0
endif
eval "unset __condainer_status; /bin/sh -c 'exit $__condainer_status'"
"""

SAY = """printf '%s\\n' "$@" >&2"""
ALREADY = "cnd: the environment is already active"
SWITCHED = """\
printf 'cnd: switched from %s (%.8s) to %s (%.8s)\\n' \\
    "${CONDA_DEFAULT_ENV-}" "$1" "$2" @address >&2
"""

SCRIPTS = """\
directory=$CONDAINER_PREFIX/etc/conda/@kind.d
LC_ALL=C ls @order "$directory" 2>/dev/null | while IFS= read -r file; do
    case "$file" in *.csh) printf '%s\\n' "$directory/$file" ;; esac
done
:
"""


def activation_script(of: Activation) -> str:
    """Return the text of a project's `activate.csh`."""
    lines = [line for name in of.names for line in _saving(name)]
    lines += [line for default in of.defaults for line in _setting_default(default, of.address)]
    lines += [
        "foreach __condainer_line ( $__condainer_lines[4-]:q )",
        "    eval $__condainer_line:q",
        "end",
    ]
    lines += [f"setenv {name} {quoted(value)}" for name, value in of.fixed.items()]
    return Script(ACTIVATE).substitute(
        say=quoted(SAY),
        already=quoted(ALREADY),
        warn=quoted(of.warn),
        switched=quoted(Script(SWITCHED).substitute(address=of.address)),
        name=quoted(of.name),
        address=of.address,
        leave_old=_leave(),
        mount=quoted(for_others(of.claim("csh"))),
        prefix=quoted(str(of.prefix)),
        settings="\n".join(f"        {line}" for line in lines),
        names="".join(f"{name}:" for name in of.names),
        marks=MARKS,
        undo=_undo(),
        stand_ins=of.stand_ins,
        none=NONE,
        prompt=quoted(of.prompt),
        deactivate=quoted(str(of.project / "deactivate.csh")),
        scripts=quoted(Script(SCRIPTS).substitute(kind="activate", order="")),
    )


def _undo() -> str:
    shown = f"{OTHER_PATH}printf '%s\\n' \"$__condainer_path\""
    return Script(UNDO).substitute(path=quoted(shown))


def _saving(name: str) -> list[str]:
    # Not in one line: csh expands the value also where it does not execute the command.
    saved = f"__CONDAINER_SAVED_{name}"
    return [
        f"unsetenv {saved}",
        f"if ( $?{name} ) then",
        f"    setenv {saved} ${name}:q",
        "endif",
    ]


def _setting_default(default: Default, address: str) -> list[str]:
    """Return the lines that set a variable if it is unset."""
    conditions, value = [f"! $?{default.variable}"], quoted(default.value)
    if not default.value:
        conditions.append(f'"$__condainer_cache" != {NONE}')
        conditions += [f'! -e "$__condainer_config/{path}"' for path in default.unless]
        value = f'"$__condainer_cache/{default_variables.DIRECTORY}/{address}/{default.below}"'
    return [
        f"if ( {' && '.join(conditions)} ) then",
        f"    setenv {default.variable} {value}",
        "endif",
    ]


def deactivation_script() -> str:
    """Return the text of a project's `deactivate.csh`, which undoes any activation."""
    return Script(DEACTIVATE).substitute(say=quoted(SAY), leave=_leave())


def _leave() -> str:
    return Script(LEAVE).substitute(
        scripts=quoted(Script(SCRIPTS).substitute(kind="deactivate", order="-r")), undo=_undo()
    )


def quoted(text: str) -> str:
    """Return a word of csh, without a line break, that stands for the text."""
    escaped = text.replace("'", "'\\''").replace("!", "\\!")
    return "'" + escaped.replace("\n", "'$__condainer_newline:q'") + "'"
