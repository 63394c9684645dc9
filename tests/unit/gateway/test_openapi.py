"""The services' OpenAPI documents become one, in which nothing of one service is taken for another's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from msctl.gateway.routing.openapi import (
    Place,
    ServiceDocument,
    UnusableDocumentError,
    check,
    join,
)


def document(paths: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"openapi": "3.1.0", "info": {"title": "Shop", "version": "1"}, "paths": paths, **more}


def item(**more: Any) -> dict[str, Any]:
    reference = {"$ref": "#/components/schemas/Item"}
    return {
        "get": {
            "operationId": "read",
            "tags": ["internal"],
            "responses": {"200": {"content": {"application/json": {"schema": reference}}}},
            **more,
        }
    }


SCHEMAS = {"schemas": {"Item": {"properties": {"next": {"$ref": "#/components/schemas/Item"}}}}}


def joined(*documents: ServiceDocument) -> dict[str, Any]:
    return join("demo", "1", documents)


def test_paths_are_where_the_gateway_serves_them() -> None:
    paths = {"/": item(), "/items/{id}": item(), "/orders": item()}
    at = [Place("/shop", True), Place("/orders", False)]
    assert set(joined(ServiceDocument("shop", at, document(paths)))["paths"]) == {
        "/shop",
        "/shop/items/{id}",
        "/shop/orders",
        "/orders",
    }


def test_route_of_the_root_changes_nothing() -> None:
    paths = {"/": item(), "/items": item()}
    for stripped in (True, False):
        one = ServiceDocument("shop", [Place("/", stripped)], document(paths))
        assert set(joined(one)["paths"]) == ({"/", "/items"} if stripped else {"/items"} | {"/"})


def test_equal_names_of_two_services_stay_apart() -> None:
    first = ServiceDocument("a", [Place("/a", True)], document({"/x": item()}, components=SCHEMAS))
    second = ServiceDocument("b", [Place("/b", True)], document({"/x": item()}, components=SCHEMAS))
    found = joined(first, second)
    assert set(found["components"]["schemas"]) == {"a.Item", "b.Item"}
    assert "#/components/schemas/Item" not in json.dumps(found)
    assert found["paths"]["/b/x"]["get"]["operationId"] == "b.read"
    assert found["paths"]["/b/x"]["get"]["tags"] == ["b"]
    assert found["components"]["schemas"]["b.Item"]["properties"]["next"] == {
        "$ref": "#/components/schemas/b.Item"
    }


def test_security_of_a_service_guards_its_operations_alone() -> None:
    guarded = document({"/x": item()}, security=[{"key": []}], components={"securitySchemes": {"key": {}}})
    found = joined(
        ServiceDocument("a", [Place("/a", True)], guarded),
        ServiceDocument("b", [Place("/b", True)], document({"/x": item(security=[])})),
    )
    assert found["paths"]["/a/x"]["get"]["security"] == [{"a.key": []}]
    assert found["paths"]["/b/x"]["get"]["security"] == []
    assert "security" not in found
    assert set(found["components"]["securitySchemes"]) == {"a.key"}


def test_references_in_data_are_data() -> None:
    example = {"$ref": "#/components/schemas/Item"}
    paths = {"/x": {"get": {"responses": {}, "example": example, "x-mapping": 1}}}
    found = joined(ServiceDocument("a", [Place("/a", True)], document(paths)))
    assert found["paths"]["/a/x"]["get"]["example"] == example


def test_discriminator_names_are_changed() -> None:
    schema = {"discriminator": {"mapping": {"cat": "#/components/schemas/Cat", "dog": "Dog"}}}
    one = document({}, components={"schemas": {"Pet": schema}})
    found = joined(ServiceDocument("a", [Place("/a", True)], one))
    mapping = found["components"]["schemas"]["a.Pet"]["discriminator"]["mapping"]
    assert mapping == {"cat": "#/components/schemas/a.Cat", "dog": "a.Dog"}


@pytest.mark.parametrize(
    "given", [None, [], {"swagger": "2.0"}, {"openapi": 3}, {"openapi": "3.0", "paths": []}]
)
def test_what_is_not_openapi_3_is_refused(given: object) -> None:
    with pytest.raises(UnusableDocumentError):
        check(given)


def test_document_that_nests_too_deeply_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"properties": deep}
    one = document({}, components={"schemas": {"Deep": deep}})
    with pytest.raises(UnusableDocumentError):
        joined(ServiceDocument("a", [Place("/a", True)], check(one)))
