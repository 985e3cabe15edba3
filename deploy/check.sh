#!/usr/bin/env bash
# Replays the steps of Dockerfile.multi-node without an engine. It takes the files that the image takes, and installs
# them into a clean virtual environment by the Dockerfile's own pip line. Then it runs a node by the entry point of the
# image, with its environment and its health check. If root runs the script, the node runs as a user without rights.
# The exit status is 0 only if all of it works.
#
#     deploy/check.sh                            with python3
#     PYTHON=python3.13 deploy/check.sh          with another Python
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

# The files that .dockerignore lets through.
sed -n 's/^!//p' "$dockerfile.dockerignore" | while read -r name; do cp -r "$root/$name" "$folder/src/"; done
find "$folder/src" -name __pycache__ -prune -exec rm -rf {} +
chmod -R a+rX "$folder"
[ "$(id -u)" != 0 ] || chown -R "$uid:$uid" "$folder"

# The build stage.
run() { (cd "$folder/run" && "${as_user[@]}" HOME="$folder/home" PATH="$folder/venv/bin:$PATH" "$@"); }
run "$python" -m venv "$folder/venv"
pip=$(sed -n 's|.*/opt/zmqlab/bin/pip \(install .*\) /src .*|\1|p' "$dockerfile")
# shellcheck disable=SC2086  # $pip holds several words
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
wait "$node" # set -e ends the script unless the node's exit status is 0
[ "${healthy:-}" = yes ] || { echo "the health check never passed: $health" >&2; exit 1; }
echo "the image's steps work: installed, ran as user ${uid:-$(id -u)}, healthy, ended in order"
