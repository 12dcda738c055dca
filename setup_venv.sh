#!/bin/sh
# Set up a virtual environment from a lock file, unless it is there and complete.
#
#     setup_venv.sh VENV LOCK PYTHON OLDEST NEWEST [VARIABLE]
#
# OLDEST and NEWEST are the accepted Python versions (3.10 3.13); VARIABLE is the make variable by
# which the user names another Python. The lock file is copied into the environment as the last
# step: where that copy is missing or differs, the set-up was interrupted or is out of date.
set -eu
venv=$1 lock=$2 python=$3 oldest=$4 newest=$5 variable=${6:-PYTHON}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo none; }

if cmp -s "$lock" "$venv/installed.lock"; then
    # Complete. Another Python is a wish only if it was named: plain `make test` keeps this one.
    case " ${MAKEFLAGS-} " in *" $variable="*) ;; *) exit 0 ;; esac
    [ "$(version_of "$python")" = "$(version_of "$venv/bin/python")" ] && exit 0
fi

if [ -L "$venv" ]; then # setting up empties a folder, and another checkout may use this one
    echo "error: $venv is a symbolic link to an environment for another lock file; accepted: a folder of this checkout; remove the link" >&2
    exit 2
fi

accepted="accepted: Python $oldest to $newest, named for example by: make demo $variable=python3.11"
version=$(version_of "$python")
minor=${version#3.}
case $minor in *[!0-9]*) minor=-1 ;; esac
if [ "$minor" -lt "${oldest#3.}" ] || [ "$minor" -gt "${newest#3.}" ]; then
    [ "$version" = none ] && found="does not run" || found="is Python $version"
    echo "error: $python $found; $accepted" >&2
    exit 2
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "error: $python has no venv module; accepted: Python with venv (on Debian: apt install python$version-venv)" >&2
    exit 2
fi

size="takes a few minutes and about 3.5 GB"
grep -q '^tensorflow==' "$lock" || size="takes a minute"
echo "Setting up $venv with Python $version from $lock ($size) ..."
rm -f "$venv/installed.lock"
"$python" -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$lock"
cp "$lock" "$venv/installed.lock"
