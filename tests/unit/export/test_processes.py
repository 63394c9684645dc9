"""systemd units and Procfiles: ports and names are distinct on one machine."""

from __future__ import annotations

import configparser
from dataclasses import replace

from msctl.export import ExportOptions, export
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from tests.unit.export import projects


def unit(project: Project, name: str, options: ExportOptions | None = None) -> configparser.ConfigParser:
    (text,) = [file.text for file in export("systemd", project, options).files if file.path == name]
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep case
    parser.read_string(text)
    return parser


def test_services_that_share_a_listener_get_their_own_ports() -> None:
    commands = {
        file.path: unit(projects.course(), file.path)["Service"]["ExecStart"]
        for file in export("systemd", projects.course()).files
        if file.path.endswith(".service")
    }
    assert commands["course-gateway.service"].endswith("serve gateway --host 127.0.0.1 --port 8080")
    assert commands["course-users.service"].endswith("serve users --host 127.0.0.1 --port 8081")
    assert commands["course-hello.service"].endswith("serve hello --host 127.0.0.1 --port 8100")
    assert len({command.split()[-1] for command in commands.values()}) == len(commands)


def test_only_a_job_must_have_succeeded_first() -> None:
    orders = unit(projects.shop(), "my-shop-orders.service")["Unit"]
    assert orders["Requires"] == "my-shop-migrate.service"
    assert orders["Wants"] == "network-online.target my-shop-user-service.service"


def test_service_without_autostart_is_not_enabled() -> None:
    assert "Install" not in unit(projects.course(), "course-consumer.service")
    assert unit(projects.course(), "course-users.service")["Install"]["WantedBy"] == "course.target"


def test_percent_signs_spaces_and_dollars_mean_themselves() -> None:
    options = ExportOptions(executable="/opt/my $ctl/100%", directory="/srv/a%b")
    service = unit(projects.course(), "course-users.service", options)["Service"]
    assert service["ExecStart"].startswith('"/opt/my $$ctl/100%%" serve users')
    assert service["WorkingDirectory"] == "/srv/a%%b"


def test_procfile_has_long_running_services_and_notices_for_the_rest() -> None:
    exported = export("procfile", projects.shop())
    names = [line.partition(":")[0] for line in exported.files[0].text.splitlines()]
    assert names == ["user_service", "orders", "payments", "gateway"]
    keys = {notice.key for notice in exported.notices}
    assert {"services.migrate.oneshot", "services.mailer.autostart", "broker.mode"} <= keys


def test_three_hundred_services_get_ports() -> None:
    many = tuple(ServiceSpec(f"s{number}", app="x:y") for number in range(250))
    text = export("procfile", replace(projects.course(), services=many, gateway=None)).files[0].text
    assert len({line.split()[-1] for line in text.splitlines()}) == 250
