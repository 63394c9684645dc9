"""The kustomize base: each object's settings follow from the project's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from msctl.export import ExportError, ExportOptions, export
from msctl.model.project import Project
from msctl.model.service_policies import RestartPolicy
from msctl.model.service_spec import ServiceSpec
from tests.support import yaml_files
from tests.unit.export import projects


def objects(project: Project, options: ExportOptions | None = None) -> dict[tuple[str, str], Any]:
    """Return every object, by kind and name."""
    found = {}
    for file in export("kubernetes", project, options).files:
        if file.path.endswith(".yaml") and file.path != "kustomization.yaml":
            for document in yaml_files.read_all(file.text):
                found[document["kind"], document["metadata"]["name"]] = document
    return found


def container(found: Mapping[tuple[str, str], Any], name: str) -> dict[str, Any]:
    one: dict[str, Any] = found["Deployment", name]["spec"]["template"]["spec"]["containers"][0]
    return one


def environment(found: Mapping[tuple[str, str], Any], name: str) -> dict[str, Any]:
    return {
        entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(found, name)["env"]
    }


def test_the_gateway_finds_every_service_that_has_routes_by_its_dns_name() -> None:
    found = environment(objects(projects.shop()), "gateway")
    assert found["MSCTL_USER_SERVICE_URL"] == "http://user-service:8081"
    assert found["MSCTL_ORDERS_URL"] == "http://orders:8082"
    assert "AMQP_URL" not in found
    assert "MSCTL_LEDGER_URL" not in found  # it runs elsewhere, as the configuration says


def test_secrets_are_references() -> None:
    found = objects(projects.shop())
    users = environment(found, "user-service")
    assert users["SESSION_SECRET"] == {
        "secretKeyRef": {"name": "user-service-secrets", "key": "SESSION_SECRET"}
    }
    assert users["AMQP_URL"] == "amqp://rabbitmq:5672/shop"
    assert users["MSCTL_BROKER_PASSWORD"]["secretKeyRef"] == {"name": "broker-credentials", "key": "password"}
    assert environment(found, "gateway")["ADMIN_KEYS"]["secretKeyRef"]["name"] == "gateway-secrets"
    assert not [kind for kind, _ in found if kind == "Secret"]


def test_remote_broker_is_not_deployed() -> None:
    project = projects.shop()
    elsewhere = replace(project, broker=replace(project.broker, url="amqps://u:p@mq.example/x"))
    elsewhere = replace(elsewhere, broker=replace(elsewhere.broker, mode=projects.course().broker.mode))
    found = objects(elsewhere)
    assert ("StatefulSet", "rabbitmq") not in found
    orders = environment(found, "orders")
    assert orders["AMQP_URL"] == "amqps://mq.example:5671/x"
    assert orders["MSCTL_BROKER_USERNAME"]["secretKeyRef"] == {
        "name": "broker-credentials",
        "key": "username",
    }


def test_probes_are_those_of_the_service() -> None:
    found = objects(projects.shop())
    users, orders, gateway = (container(found, name) for name in ("user-service", "orders", "gateway"))
    assert users["readinessProbe"]["tcpSocket"] == {"port": "http"}
    assert "livenessProbe" not in users
    assert orders["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert orders["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert gateway["startupProbe"]["httpGet"]["path"] == "/-/ready"
    assert "readinessProbe" not in container(found, "mailer")


def test_pod_has_more_time_to_stop_than_its_service() -> None:
    pod = objects(projects.shop())["Deployment", "payments"]["spec"]["template"]["spec"]
    pause = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + 2.5


def test_every_pod_is_locked_down() -> None:
    for (kind, _), found in objects(projects.shop()).items():
        if kind not in ("Deployment", "Job", "StatefulSet"):
            continue
        pod = found["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        for one in pod["containers"]:
            assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert one["resources"]["limits"]["memory"]


def test_replicas_are_protected_and_single_services_are_not() -> None:
    found = objects(projects.shop())
    assert found["Deployment", "orders"]["spec"]["replicas"] == 3
    assert not [name for kind, name in found if kind == "HorizontalPodAutoscaler"]  # nobody has asked for one
    assert found["PodDisruptionBudget", "orders"]["spec"]["maxUnavailable"] == 1
    assert ("PodDisruptionBudget", "payments") not in found
    assert found["Deployment", "mailer"]["spec"]["replicas"] == 0


def test_an_autoscaler_is_written_where_it_is_asked_for() -> None:
    shop = projects.shop()
    asked = tuple(replace(each, autoscale=8) if each.name == "orders" else each for each in shop.services)
    found = objects(replace(shop, services=asked))
    scaler = found["HorizontalPodAutoscaler", "orders"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 8)
    assert "replicas" not in found["Deployment", "orders"]["spec"]


def job_name(project: Project, options: ExportOptions | None = None) -> str:
    (name,) = [name for kind, name in objects(project, options) if kind == "Job"]
    return name


def test_a_changed_job_has_another_name_since_its_template_is_immutable() -> None:
    shop = projects.shop()
    changed = tuple(
        replace(each, command=("python", "other.py")) if each.name == "migrate" else each
        for each in shop.services
    )
    assert job_name(shop) == job_name(shop)
    assert job_name(shop) != job_name(replace(shop, services=changed))  # its configuration
    assert job_name(shop) != job_name(shop, ExportOptions(tag="2"))
    longest = tuple(
        replace(each, name="m" * 63) if each.name == "migrate" else each for each in shop.services
    )
    without = tuple(replace(each, depends_on=()) for each in longest)
    assert len(job_name(replace(shop, services=without))) <= 63


def test_the_brokers_volume_keeps_the_mode_of_its_cookie() -> None:
    pod = objects(projects.shop())["StatefulSet", "rabbitmq"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


def test_only_what_has_metrics_is_scraped_and_nobody_else_reaches_them() -> None:
    found = objects(projects.shop())
    scraped = {
        name
        for (kind, name), each in found.items()
        if kind in ("Deployment", "StatefulSet")
        and "prometheus.io/scrape" in each["spec"]["template"]["metadata"].get("annotations", {})
    }
    assert scraped == {"user-service", "orders", "gateway", "rabbitmq"}
    rules = found["NetworkPolicy", "gateway"]["spec"]["ingress"]
    assert [(rule["ports"][0]["port"], "from" in rule) for rule in rules] == [
        ("http", False),
        ("metrics", True),
    ]


def test_a_program_in_another_language_has_an_image_and_all_variables_of_its_own() -> None:
    payments = container(objects(projects.shop(), ExportOptions(registry="r.example/x", tag="7")), "payments")
    assert payments["image"] == "r.example/x/my-shop-payments"
    assert payments["command"] == ["node", "payments.js"]
    assert "args" not in payments
    names = {each["name"]: each for each in payments["env"]}
    assert names["PORT"]["value"] == "8083"
    assert names["LEDGER_URL"]["value"] == "http://ledger.internal:9000"
    assert names["AMQP_URL"]["valueFrom"]["secretKeyRef"]["key"] == "url"


def test_an_image_of_the_users_own_is_kept() -> None:
    spec = ServiceSpec("cache", command=("redis-server", "--port", "$PORT"), port=6379, image="redis:8")
    found = container(objects(replace(projects.course(), services=(spec,), gateway=None)), "cache")
    assert found["image"] == "redis:8"
    assert found["command"] == ["redis-server", "--port", "6379"]
    assert "lifecycle" not in found  # it may have no program that waits


@pytest.mark.parametrize(
    "options",
    [
        ExportOptions(gateway_api="a/b/c"),
        ExportOptions(gateway_api="/public"),
        ExportOptions(gateway_api="Public_1"),
        ExportOptions(ingress_class="x y"),
        ExportOptions(host="shop.example/x"),
        ExportOptions(tls_secret=""),
        ExportOptions(gateway_api="a/b", ingress_class="nginx"),
    ],
)
def test_a_name_that_kubernetes_refuses_is_an_error(options: ExportOptions) -> None:
    with pytest.raises(ExportError, match=r"^--"):
        export("kubernetes", projects.course(), options)


def test_class_certificate_and_gateway_of_another_namespace_are_named() -> None:
    options = ExportOptions(host="shop.example", ingress_class="nginx", tls_secret="shop-tls")
    spec = objects(projects.course(), options)["Ingress", "gateway"]["spec"]
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"hosts": ["shop.example"], "secretName": "shop-tls"}]
    route = objects(projects.course(), ExportOptions(gateway_api="infra/public"))["HTTPRoute", "gateway"]
    assert route["spec"]["parentRefs"] == [{"name": "public", "namespace": "infra"}]


def test_oneshot_is_a_job() -> None:
    found = objects(projects.shop())
    (job,) = [each["spec"] for (kind, _), each in found.items() if kind == "Job"]
    assert (job["backoffLimit"], job["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert ("Service", "migrate") not in found


def test_only_callers_may_connect() -> None:
    found = objects(projects.shop())
    callers = found["NetworkPolicy", "orders"]["spec"]["ingress"][0]["from"]
    names = [
        one["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for one in callers if "podSelector" in one
    ]
    assert names == ["payments", "gateway"]
    assert "from" not in found["NetworkPolicy", "gateway"]["spec"]["ingress"][0]
    assert found["NetworkPolicy", "default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}


def test_entry_is_an_ingress_or_an_httproute() -> None:
    ingress = objects(projects.course(), ExportOptions(host="shop.example"))["Ingress", "gateway"]["spec"][
        "rules"
    ][0]
    assert ingress["host"] == "shop.example"
    assert ingress["http"]["paths"][0]["backend"] == {
        "service": {"name": "gateway", "port": {"name": "http"}}
    }
    route = objects(projects.course(), ExportOptions(gateway_api="public"))["HTTPRoute", "gateway"]["spec"]
    assert route["parentRefs"] == [{"name": "public"}]
    assert route["rules"][0]["backendRefs"] == [{"name": "gateway", "port": 8080}]


def test_no_entry_without_a_gateway() -> None:
    course = projects.course()
    project = replace(course, gateway=None, services=tuple(s for s in course.services if s.name != "gateway"))
    assert not [kind for kind, _ in objects(project) if kind == "Ingress"]


def test_a_service_called_as_the_broker_is_refused() -> None:
    project = replace(projects.course(), services=(ServiceSpec("rabbitmq", app="x:y"),))
    with pytest.raises(ExportError, match=r"^services\.rabbitmq: "):
        export("kubernetes", project)


def test_differences_of_kubernetes_are_notices() -> None:
    project = projects.course()
    once = ServiceSpec("once", command=("python", "x"), restart=RestartPolicy.NO)
    notices = export("kubernetes", replace(project, services=(*project.services, once))).notices
    assert "services.once.restart" in [notice.key for notice in notices]
