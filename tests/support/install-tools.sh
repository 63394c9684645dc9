#!/bin/sh
# Install the programs that tests ask, where that is possible, without starting any of the system's services.
# With the argument `bench`, also what the benchmarks ask.
# Never fails: tests that need one are skipped (on CI: fail) where it is missing.
set -u

PATH="$PATH:/usr/sbin:/usr/lib/rabbitmq/bin"
missing=""
while read -r program package; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $package"
done <<LIST
rabbitmq-server rabbitmq-server
nginx nginx
promtool prometheus
kubectl kubernetes-client
systemd-analyze systemd
buildah buildah
strip binutils
chromium chromium
chromedriver chromium-driver
npm npm
LIST
if [ "${1:-}" = bench ]; then
    command -v wrk >/dev/null 2>&1 || missing="$missing wrk"
    command -v go >/dev/null 2>&1 || missing="$missing golang-go"
    library=golang-github-rabbitmq-amqp091-go-dev
    [ -d /usr/share/gocode/src/github.com/rabbitmq/amqp091-go ] || missing="$missing $library"
fi

# axe-core, which looks for what keeps people from using a page, is in npm's registry alone.
install_axe() {
    cache="${XDG_CACHE_HOME:-$HOME/.cache}/msctl-tests"
    version=4.14.1
    [ -f "$cache/axe-core-$version/axe.min.js" ] && return
    command -v npm >/dev/null 2>&1 || { echo "No npm: the accessibility check is skipped."; return; }
    mkdir -p "$cache/axe-core-$version"
    work=$(mktemp -d)
    if (cd "$work" && npm pack --silent "axe-core@$version" >/dev/null 2>&1 && tar -xzf axe-core-*.tgz package/axe.min.js); then
        mv "$work/package/axe.min.js" "$cache/axe-core-$version/axe.min.js"
    else
        echo "axe-core could not be fetched: the accessibility check is skipped."
    fi
    rm -rf "$work"
}

if [ -z "$missing" ]; then
    install_axe
    exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
    echo "Not installed, and no apt-get here:$missing. Tests that need them are skipped."
    exit 0
fi
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    echo "Not installed, and no right to install them:$missing. Tests that need them are skipped."
    exit 0
fi

# Debian asks policy-rc.d before it starts a service; 101 means no. One that exists stays in force.
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null && $as_root chmod 755 "$policy" && made=yes
fi
trap '[ -z "$made" ] || $as_root rm -f "$policy"' EXIT
trap 'exit 1' HUP INT TERM

echo "Installing for the tests:$missing."
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
install_axe
exit 0
