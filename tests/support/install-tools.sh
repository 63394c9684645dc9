#!/bin/sh
# Install the programs that tests ask, where that is possible, without starting any of the system's services.
# Says first what it is about to install, and why. MSCTL_TEST_TOOLS=no installs nothing.
# With the argument `bench`, also what the benchmarks ask.
# Never fails: tests that need a missing program are skipped (on CI: fail).
set -u

PATH="$PATH:/usr/sbin:/usr/lib/rabbitmq/bin"
axe_version=4.14.1
axe_digest=29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c
axe="${XDG_CACHE_HOME:-$HOME/.cache}/msctl-tests/axe-core-$axe_version/axe.min.js"
missing=""
reasons=""

# need PACKAGE WHY: note a package that is missing.
need() {
    missing="$missing $1"
    reasons="$reasons  $(printf '%-20s' "$1") $2
"
}

while read -r program package why; do
    command -v "$program" >/dev/null 2>&1 || need "$package" "$why"
done <<LIST
rabbitmq-server rabbitmq-server a private node, to compare the embedded broker with RabbitMQ
nginx nginx serves the exported nginx.conf
promtool prometheus checks the exported rules and scrapes a running stack
kubectl kubernetes-client builds the exported kustomize base
systemd-analyze systemd checks the exported units
buildah buildah builds the exported Dockerfile
ip iproute2 connects the services of the exported compose file, each on a host of its own
strip binutils builds the one-file msctl
chromium chromium opens the dashboard
chromedriver chromium-driver drives chromium
node nodejs runs the example service in JavaScript
go golang-go runs the example service in Go
etcd etcd-server a registry, in which stacks on several machines find each other
etcdctl etcd-client sets up that registry's users, and looks at what is in it
ip iproute2 makes network namespaces, as several machines
redis-server redis-server runs under msctl, beside other programs that msctl did not write
pg_createcluster postgresql runs under msctl as a user other than root
npm npm fetches axe-core $axe_version into ~/.cache, to check the dashboard's accessibility
LIST
if [ "${1:-}" = bench ]; then
    command -v wrk >/dev/null 2>&1 || need wrk "sends the benchmarks' HTTP requests"
    command -v caddy >/dev/null 2>&1 || need caddy "a proxy that the gateway is compared with"
    command -v haproxy >/dev/null 2>&1 || need haproxy "a proxy that the gateway is compared with"
    library=golang-github-rabbitmq-amqp091-go-dev
    [ -d /usr/share/gocode/src/github.com/rabbitmq/amqp091-go ] || need "$library" "the broker benchmark's Go client"
fi

install_axe() {
    [ -f "$axe" ] && return
    command -v npm >/dev/null 2>&1 || { echo "No npm: the accessibility check is skipped."; return; }
    echo "Fetching axe-core $axe_version from npm into $(dirname "$axe"): it checks the dashboard's accessibility."
    mkdir -p "$(dirname "$axe")"
    work=$(mktemp -d)
    if (cd "$work" && npm pack --silent "axe-core@$axe_version" >/dev/null 2>&1 && tar -xzf axe-core-*.tgz package/axe.min.js) &&
        echo "$axe_digest  $work/package/axe.min.js" | sha256sum --check --quiet; then
        mv "$work/package/axe.min.js" "$axe"
    else
        echo "axe-core could not be fetched: the accessibility check is skipped."
    fi
    rm -rf "$work"
}

# Programs from PyPI and npm that tests/strangers runs under msctl.
strangers="${XDG_CACHE_HOME:-$HOME/.cache}/msctl-tests/strangers"
install_strangers() {
    here=$(dirname "$0")/../strangers
    wanted=$(cat "$here/requirements.txt" "$here/project/package-lock.json" | cksum)
    [ "$(cat "$strangers/installed" 2>/dev/null)" = "$wanted" ] && return
    echo "Installing FastAPI, Flask, Django, Litestar, celery, FastStream, vite and ws into $strangers: tests run them under msctl."
    rm -rf "$strangers"
    mkdir -p "$strangers"
    cp "$here/project/package.json" "$here/project/package-lock.json" "$strangers/"
    if "${PYTHON:-python3}" -m venv "$strangers/venv" &&
        "$strangers/venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$here/requirements.txt" 2>/dev/null &&
        (cd "$strangers" && npm ci --silent --no-audit --no-fund >/dev/null 2>&1); then
        echo "$wanted" >"$strangers/installed"
    else
        echo "They could not be installed: tests/strangers is skipped."
    fi
}

# Programs with OpenTelemetry's SDKs, from PyPI and npm, that tests/strangers/test_instrumented.py runs.
instrumented="${XDG_CACHE_HOME:-$HOME/.cache}/msctl-tests/instrumented"
install_instrumented() {
    here=$(dirname "$0")/../strangers/instrumented
    wanted=$(cat "$here/requirements.txt" "$here/package-lock.json" | cksum)
    [ "$(cat "$instrumented/installed" 2>/dev/null)" = "$wanted" ] && return
    echo "Installing OpenTelemetry's SDKs, FastAPI, Flask, express, pika and amqplib into $instrumented: tests run them under msctl."
    rm -rf "$instrumented"
    mkdir -p "$instrumented"
    cp "$here/package.json" "$here/package-lock.json" "$instrumented/"
    if "${PYTHON:-python3}" -m venv "$instrumented/venv" &&
        "$instrumented/venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$here/requirements.txt" 2>/dev/null &&
        (cd "$instrumented" && npm ci --silent --ignore-scripts --no-audit --no-fund >/dev/null 2>&1); then
        echo "$wanted" >"$instrumented/installed"
    else
        echo "They could not be installed: tests/strangers/test_instrumented.py is skipped."
    fi
}

install_packages() {
    install_axe
    install_strangers
    install_instrumented
}

if [ "${MSCTL_TEST_TOOLS:-yes}" = no ]; then
    [ -z "$missing" ] || printf 'Not installed, because MSCTL_TEST_TOOLS=no; tests that need them are skipped:\n%s' "$reasons"
    exit 0
fi

if [ -z "$missing" ]; then
    install_packages
    exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
    printf 'Not installed (no apt-get here); tests that need them are skipped:\n%s' "$reasons"
    exit 0
fi
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    printf 'Not installed (this needs root, or sudo without a password); tests that need them are skipped:\n%s' "$reasons"
    exit 0
fi

printf 'Installing with apt-get, for the tests (MSCTL_TEST_TOOLS=no leaves this out):\n%s' "$reasons"

# Debian asks policy-rc.d before it starts a service; 101 means no. One that exists stays in force.
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null && $as_root chmod 755 "$policy" && made=yes
fi
trap '[ -z "$made" ] || $as_root rm -f "$policy"' EXIT
trap 'exit 1' HUP INT TERM

install() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}
log=$(mktemp)
# shellcheck disable=SC2086
if ! { install $missing || { $as_root apt-get update && install $missing; }; } >"$log" 2>&1; then
    # One that cannot be had here must not cost the others.
    for package in $missing; do
        install "$package" >"$log" 2>&1 || {
            tail -n 3 "$log"
            echo "$package could not be installed: tests that need it are skipped."
        }
    done
fi
rm -f "$log"
install_packages
exit 0
