#!/bin/sh
# Install what the tests use and Python has not, where that is possible, without starting any service:
# rabbitmq-server, prometheus, and a browser with its driver; axe-core from npm, into the user's cache.
# Never fails: tests that need one are skipped (on CI: fail) where it is missing.
set -u

have() { command -v "$1" >/dev/null 2>&1; }

wanted=""
have rabbitmq-server || [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || wanted="$wanted rabbitmq-server"
have prometheus || wanted="$wanted prometheus"
have chromium || have google-chrome || wanted="$wanted chromium"
have chromedriver || wanted="$wanted chromium-driver"

as_root=""
install() {
    # shellcheck disable=SC2086 # several words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $wanted
}

install_packages() {
    if ! have apt-get; then
        echo "No apt-get here, and not installed:$wanted. Tests that need these are skipped."
        return
    fi
    if [ "$(id -u)" != 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            echo "No right to install, and missing:$wanted. Tests that need these are skipped."
            return
        fi
        as_root="sudo -n"
    fi

    # Debian asks policy-rc.d before it starts a service; 101 means no. One that exists stays in force.
    policy=/usr/sbin/policy-rc.d
    made=""
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null && $as_root chmod 755 "$policy" && made=yes
    fi
    trap '[ -z "$made" ] || $as_root rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM

    echo "Installing for the tests:$wanted."
    log=$(mktemp)
    if ! { install || { $as_root apt-get update && install; }; } >"$log" 2>&1; then
        tail -n 3 "$log"
        echo "Not installed:$wanted. Tests that need these are skipped."
    fi
    rm -f "$log"
}

install_axe() {
    cache="${XDG_CACHE_HOME:-$HOME/.cache}/msctl-tests"
    version=4.14.1
    [ -f "$cache/axe-core-$version/axe.min.js" ] && return
    have npm || { echo "No npm: the accessibility check is skipped."; return; }
    mkdir -p "$cache/axe-core-$version"
    work=$(mktemp -d)
    if (cd "$work" && npm pack --silent "axe-core@$version" >/dev/null 2>&1 && tar -xzf axe-core-*.tgz package/axe.min.js); then
        mv "$work/package/axe.min.js" "$cache/axe-core-$version/axe.min.js"
    else
        echo "axe-core could not be fetched: the accessibility check is skipped."
    fi
    rm -rf "$work"
}

[ -z "$wanted" ] || install_packages
install_axe
exit 0
