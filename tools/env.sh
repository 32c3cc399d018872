# shellcheck shell=bash
# Puts an environment that holds sertk first on PATH. Source it:
#
#     . "$root/tools/env.sh"            # or: . "$root/tools/env.sh" --cpu
#
# With --cpu (or SERTK_CPU=1) torch is the version for CPUs alone, 0.2 GB instead of 3, where a package index offers it.
# An environment that already holds sertk (conda, a cluster's module, an active venv) is taken as it is. Otherwise
# .venv in the repository's root is used: made on the first call with uv, or with pip where uv is absent or fails,
# at the versions of tools/constraints.txt; brought up to date when these or pyproject.toml change; made anew when an
# earlier call was killed half-way or the repository has moved. With nothing to do it says one line, on stderr, so
# that a recipe's own output stays clean.
#
# The work is done by this same file run as a program, so nothing but PATH (and VIRTUAL_ENV) changes in the caller.

if [[ "${BASH_SOURCE[0]}" != "$0" ]]; then
    if ! __sertk_bin="$(SERTK_CPU="$([[ "${1-}" == --cpu ]] && echo 1 || echo "${SERTK_CPU-}")" bash "${BASH_SOURCE[0]}")"; then
        unset __sertk_bin
        return 1
    fi
    [[ "$PATH" == "$__sertk_bin" || "$PATH" == "$__sertk_bin":* ]] || export PATH="$__sertk_bin:$PATH"
    if [[ "$__sertk_bin" == */.venv/bin ]]; then
        export VIRTUAL_ENV="${__sertk_bin%/bin}"
        unset PYTHONHOME
    fi
    unset __sertk_bin
    return 0
fi

set -euo pipefail
exec 3>&1 1>&2 # the answer goes to 3, everything else to stderr
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root="$(pwd -P)"
venv="$root/.venv"
stamp="$venv/sertk-stamp" # "unfinished" while .venv is being made, then what `state` says
supported='(3, 11) <= sys.version_info[:2] < (3, 14)'

say() { echo "env: $*"; }

die() {
    say "$@"
    exit 1
}

# The versions to install; --cpu asks for those of torch that say "+cpu".
constraints() {
    if [[ -n "${SERTK_CPU-}" ]]; then
        sed -E 's/^(torch|torchaudio|torchvision)==([0-9.]+)$/\1==\2+cpu/' tools/constraints.txt
    else
        cat tools/constraints.txt
    fi
}

# What .venv is made from, and where: installed scripts hold absolute paths.
state() { echo "$(cat pyproject.toml tools/constraints.txt | cksum) $root"; }

# The bin folder of the current environment, and a line about it, if it holds sertk and its command and is not our own
# .venv. Asked in "/" and of the installed distribution: a clone in the working directory or on PYTHONPATH is none.
current_environment() {
    local python
    for python in python python3; do
        (cd / && VENV="$venv" "$python" - 2>/dev/null) <<'PYTHON' && return
import os, sys, sysconfig
from importlib import metadata, util

if not (3, 11) <= sys.version_info[:2] < (3, 14):
    sys.exit(1)
if os.path.realpath(sys.prefix) == os.path.realpath(os.environ["VENV"]):
    sys.exit(1)
version, spec = metadata.version("sertk"), util.find_spec("sertk")
schemes = sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user")
folders = [sysconfig.get_path("scripts", scheme) for scheme in schemes]
found = [folder for folder in folders if os.access(os.path.join(folder, "sertk"), os.X_OK)]
if spec is None or not spec.origin or not found:
    sys.exit(1)
print(found[0])
print(f"using {sys.prefix} (sertk {version} from {os.path.dirname(spec.origin)})")
PYTHON
    done
    return 1
}

# A Python that sertk supports, never the one inside an environment, and with ensurepip if there is such a one (pip
# needs it to make an environment, uv does not); else says which were found and what to do.
find_python() {
    local need name version found=""
    for need in ensurepip sys; do
        for name in python3.11 python3.12 python3.13 python3 python; do
            "$name" -c "import sys, $need; $supported or sys.exit(1); print(sys._base_executable)" 2>/dev/null && return
        done
    done
    for name in python3.11 python3.12 python3.13 python3 python; do
        version="$("$name" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)" || continue
        found+="${found:+, }$name is Python $version"
    done
    {
        say "sertk needs Python 3.11, 3.12 or 3.13; found: ${found:-no Python at all}."
        say "Put one on PATH, for example with 'conda create -n sertk python=3.11' and 'conda activate sertk'," \
            "or with 'uv venv --python 3.11 .venv', then run this again."
    } >&2
    return 1
}

with_uv() {
    [[ -x "$venv/bin/python" ]] || uv venv --quiet --seed --allow-existing --python "$python" "$venv" || return
    uv pip install --quiet --compile-bytecode --python "$venv/bin/python" \
        --constraint "$versions" --build-constraint "$versions" --editable ".[mini,dev]"
}

with_pip() {
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        "$python" -c 'import ensurepip' 2>/dev/null || die "$python has no ensurepip, so it cannot make an" \
            "environment. Install its venv package (on Debian and Ubuntu python3-venv) or uv, then run this again."
        "$python" -m venv "$venv" || return
    fi
    # By the environment as well, so that the tools which build sertk are held to these versions too.
    PIP_CONSTRAINT="$versions" PIP_DISABLE_PIP_VERSION_CHECK=1 "$venv/bin/python" -m pip install -qq \
        --constraint "$versions" --editable ".[mini,dev]"
}

# Says every 15 s that it still runs, with the size so far.
heartbeat() {
    while sleep 15; do say "still installing, $SECONDS s, $(du -sh "$venv" 2>/dev/null | cut -f1)B so far"; done
}

install() {
    local versions size="some minutes and 5 GB the first time, most of it CUDA"
    versions="$(mktemp)"
    constraints >"$versions"
    heartbeat 3>&- 9>&- & # it must not hold the answer's pipe, nor the lock
    # shellcheck disable=SC2064 # as they are now
    trap "kill $! 2>/dev/null || true; rm -f '$versions'" EXIT
    if [[ -n "${SERTK_CPU-}" ]]; then
        say "installing into $venv, torch for CPUs alone"
        { command -v uv >/dev/null && with_uv; } || with_pip && return
        say "no package index that is set up here offers torch for CPUs alone; add PyTorch's own (its page \"Get started\"" \
            "says which) with PIP_EXTRA_INDEX_URL or UV_EXTRA_INDEX_URL. Taking the full one"
        SERTK_CPU="" constraints >"$versions"
    fi
    if command -v uv >/dev/null; then
        say "installing into $venv with uv ($size)"
        with_uv && return
        say "uv failed. It does not read pip's configuration (an index, a certificate), so trying pip."
    fi
    say "installing into $venv with pip ($size)"
    with_pip || die "pip failed, see above; remove the cause and run this again"
}

# Makes .venv or brings it up to date: one that is ours and unfinished, or broken, or moved, is made anew; one that
# somebody made by hand is installed into. It may be a link to another disk, so it is emptied, not removed.
make_venv() {
    local was="" python
    [[ ! -f "$stamp" ]] || was="$(<"$stamp")"
    if [[ -n "$was" && "$was" != *" $root" ]] || ! "$venv/bin/python" -c '' 2>/dev/null; then
        # a link into another clone holds that clone's environment
        [[ "$was" == unfinished* || ! -L "$venv" || "$was" == *" $root" || -z "$was" ]] || die "$venv leads to" \
            "$(readlink -f "$venv"), which is the environment of another clone; remove the link and run this again"
        [[ ! -e "$venv" ]] || say "$venv is half-made, broken or from elsewhere; making it anew"
        python="$(find_python)"
        mkdir -p "$venv"
        find -H "$venv" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
    else
        python="$venv/bin/python"
        "$python" -c "import sys; sys.exit(not $supported)" || die "$venv holds $("$python" --version), but sertk" \
            "needs 3.11, 3.12 or 3.13; remove that folder and run this again"
    fi
    echo unfinished >"$stamp"
    install
    state >"$stamp"
    say "installed in $SECONDS s"
}

is_current() {
    [[ -x "$venv/bin/sertk" && -f "$stamp" && "$(<"$stamp")" == "$(state)" ]] && "$venv/bin/python" -c '' 2>/dev/null
}

if found="$(current_environment)"; then
    say "${found#*$'\n'}"
    echo "${found%%$'\n'*}" >&3
    exit
fi
if ! is_current; then
    [[ -w "$root" ]] || die "$root is not writable, so .venv cannot be made in it; activate an environment that" \
        "holds sertk, or copy the repository to a folder of your own"
    # Two recipes started together: the second waits here, then finds the work done.
    exec 9>>"$root/.venv.lock"
    if command -v flock >/dev/null && ! flock --nonblock 9; then
        say "waiting for another run that is installing into $venv"
        flock 9
    fi
    is_current || make_venv
fi
say "using $venv"
echo "$venv/bin" >&3
