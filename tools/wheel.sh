#!/usr/bin/env bash
# Whether the wheel is whole: builds it, looks at what is in it, and runs a fold of the recipe mini with it from an empty
# folder, in a second environment that knows nothing of this repository: tools/wheel.sh [OPTIONS OF sertk recipe]
# That environment is made as tools/env.sh makes one (the package index), in 5 GB of TMPDIR that are given back; with uv
# and its cache on that disk it costs seconds and no room.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/env.sh

work="$(mktemp -d "${TMPDIR:-/tmp}/sertk-wheel.XXXXXX")"
trap 'rm -rf "$work"' EXIT
say() { echo "wheel: $* ($SECONDS s)"; }

die() {
    echo "wheel: $*" >&2
    exit 1
}

# Every recipe and every file of settings, and nothing but the package and its metadata.
inspect() {
    python - "$1" <<'PYTHON'
import sys, zipfile
from pathlib import Path

held = {name for name in zipfile.ZipFile(sys.argv[1]).namelist() if not name.endswith("/")}
wanted = {f"sertk/{path}" for name in ("recipe.yaml", "sweeps/*.yaml") for path in Path("egs").glob(f"*/{name}")}
wanted |= {str(path) for path in Path("sertk/settings/conf").rglob("*.yaml")}
wanted |= {"sertk/py.typed", "sertk/results/page.html.jinja", "sertk/scoring/maps/emobox.yaml"}
wanted |= {str(path) for path in Path("sertk/builtin/corpora/folds").glob("*.tsv")}
made, ours = {"data", "exp", "corpus"}, {"tests", "plugins", "tools"}  # by recipes; beside the package
extra = [n for n in held if (made if n.startswith("sertk/egs/") else ours) & set(Path(n).parts)]
extra += [n for n in held if not n.startswith(("sertk/", "sertk-"))]
if not wanted <= held or extra or len(wanted) < 4:
    sys.exit(f"{sys.argv[1]} lacks {sorted(wanted - held)} and should not hold {sorted(extra)[:5]}: "
             "mend tool.hatch.build.targets.wheel in pyproject.toml")
PYTHON
}

with_uv() {
    uv venv --quiet --python "$(command -v python)" "$work/env" || return
    uv pip install --quiet --python "$work/env/bin/python" --constraint tools/constraints.txt "$1"
}

with_pip() {
    python -m venv --clear "$work/env" || return
    PIP_CONSTRAINT=tools/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 "$work/env/bin/python" -m pip install -qq "$1"
}

install() {
    if command -v uv >/dev/null; then
        with_uv "$1" && return
        say "uv failed; it does not read pip's configuration (an index, a certificate), so trying pip"
    fi
    with_pip "$1" || die "neither uv nor pip could install $1, see above; remove the cause and run this again"
}

# A command of the second environment in the empty folder, without what would let it find this repository or ours.
clean() {
    (cd "$work/empty" && env -u PYTHONPATH -u PYTHONHOME -u VIRTUAL_ENV PATH="$work/env/bin:/usr/bin:/bin" "$@")
}

python -m hatchling build -t wheel -d "$work/dist" >/dev/null || die "hatchling could not build the wheel, see above"
wheel="$(echo "$work"/dist/*.whl)"
inspect "$wheel"
say "built ${wheel##*/}, $(wc -c <"$wheel") bytes"

install "sertk[mini] @ file://$wheel"
say "installed in a second environment"

mkdir "$work/empty"
where="$(clean python -c 'import sertk; print(sertk.__file__)')"
[[ "$where" == "$work/env/"* ]] || die "the second environment imports sertk from $where, not from its own wheel"
[[ "$(clean sertk --version)" == "sertk "[0-9]* ]] || die "sertk --version does not tell the version"
clean sertk doctor
clean sertk recipe mini --fold 1 --set train.epochs=2 "$@"
results=("$work"/empty/exp/*/*/RESULTS.md)
[[ -s "${results[0]}" ]] || die "no exp/PROTOCOL/SYSTEM/RESULTS.md below the folder that sertk recipe mini was run in"
say "recipe mini ran from an empty folder: ${results[0]#"$work/empty/"}"
