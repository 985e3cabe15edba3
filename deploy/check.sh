#!/usr/bin/env bash
# Replays what Dockerfile.multi-node does, without an engine: takes the files that the image takes, installs them into a
# clean virtual environment by the Dockerfile's own pip line, and runs a node by its entry point, with its environment
# and its health check, as a user without rights if this is run as root. Ends with status 0 only if all of it works.
#
#     deploy/check.sh            with python3; another one: PYTHON=python3.13 deploy/check.sh
set -euo pipefail

python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
dockerfile=$root/deploy/Dockerfile.multi-node
folder=$(mktemp -d)
trap 'kill "${node:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
mkdir "$folder/src" "$folder/run" "$folder/home"

as_user=(env)
if [ "$(id -u)" = 0 ]; then
    uid=$(sed -n 's/^USER //p' "$dockerfile")
    as_user=(setpriv --reuid "$uid" --regid "$uid" --clear-groups env)
fi

# The files: what .dockerignore lets through.
sed -n 's/^!//p' "$dockerfile.dockerignore" | while read -r name; do cp -r "$root/$name" "$folder/src/"; done
find "$folder/src" -name __pycache__ -prune -exec rm -rf {} +
chmod -R a+rX "$folder"
[ "$(id -u)" != 0 ] || chown -R "$uid:$uid" "$folder"

# The build stage.
run() { (cd "$folder/run" && "${as_user[@]}" HOME="$folder/home" PATH="$folder/venv/bin:$PATH" "$@"); }
run "$python" -m venv "$folder/venv"
pip=$(sed -n 's|.*/opt/zmqlab/bin/pip \(install .*\) /src .*|\1|p' "$dockerfile")
# shellcheck disable=SC2086  # the line's words
run "$folder/venv/bin/pip" --quiet --disable-pip-version-check $pip "$folder/src"
run python -m compileall -q "$folder/venv/lib"

# The container: a first start as a seed, with the image's environment.
health=$(sed -n 's/^ *CMD \(\[.*status.*\]\)$/\1/p' "$dockerfile" | tr -d '[],"')
(cd "$folder/run" && exec "${as_user[@]}" PATH="$folder/venv/bin:$PATH" ZMQLAB_RUN_DIR="$folder/run" \
    ZMQLAB_LOG_TO=stderr ZMQLAB_JOIN=tcp://127.0.0.1:5100 ZMQLAB_BOOTSTRAP_MS=500 ZMQLAB_NODE=check zmqlab node) &
node=$!
for _ in $(seq 50); do
    # shellcheck disable=SC2086
    run $health && healthy=yes && break
    sleep 0.2
done
kill -TERM "$node"
wait "$node" # the node's exit status: set -e ends this if it is not 0
[ "${healthy:-}" = yes ] || { echo "the health check never passed: $health" >&2; exit 1; }
echo "the image's steps work: installed, ran as user ${uid:-$(id -u)}, healthy, ended in order"
