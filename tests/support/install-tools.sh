#!/bin/sh
# Install rabbitmq-server for the tests where that is possible, without starting the system's service.
# Never fails: tests that need it are skipped (on CI: fail) where it is missing.
set -u

for place in $(command -v rabbitmq-server || true) /usr/lib/rabbitmq/bin/rabbitmq-server; do
    [ -x "$place" ] && exit 0
done

if ! command -v apt-get >/dev/null 2>&1; then
    echo "No rabbitmq-server and no apt-get here: tests against RabbitMQ are skipped."
    exit 0
fi
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    echo "No rabbitmq-server, and no right to install it: tests against RabbitMQ are skipped."
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

echo "Installing rabbitmq-server for the tests."
install() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends rabbitmq-server
}
log=$(mktemp)
if ! { install || { $as_root apt-get update && install; }; } >"$log" 2>&1; then
    tail -n 3 "$log"
    echo "rabbitmq-server could not be installed: tests against RabbitMQ are skipped."
fi
rm -f "$log"
exit 0
