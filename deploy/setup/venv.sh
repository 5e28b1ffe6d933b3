#!/usr/bin/env bash
# venv.sh <folder> <requirements.txt>: a Python environment that holds exactly those packages.
# Used by tests alone; Chorus itself runs without Python.
set -euo pipefail
folder=$1 requirements=$2
stamp=$folder/requirements.sha256
sum=$(sha256sum "$requirements" | cut -d' ' -f1)
if [ -x "$folder/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ]; then exit 0; fi
echo "Making the Python environment $folder from $requirements"
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
echo "$sum" > "$stamp"
