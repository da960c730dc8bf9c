"""A client whose models are generated from the committed OpenAPI document sends an order, reads it and lists it."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, ValidationError

from lastmile.contract import Operation
from lastmile.db import Database
from tests.support.api_keys import authorization, make_api_key
from tests.support.orders import Orders
from tests.support.readme import ROOT

DOCUMENT = ROOT / "docs" / "reference" / "openapi.json"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Generate the models as a user of the API does, and import them."""
    file = tmp_path_factory.mktemp("generated") / "lastmile_models.py"
    options = ("--output-model-type", "pydantic_v2.BaseModel", "--target-python-version", "3.11")
    generator = (sys.executable, "-m", "datamodel_code_generator", "--formatters", "builtin", "--disable-warnings")
    subprocess.run(
        [*generator, "--input", str(DOCUMENT), "--input-file-type", "openapi", "--output", str(file), *options],
        check=True,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(file.parent)
        yield importlib.import_module(file.stem)
        patch.delitem(sys.modules, file.stem)


class GeneratedClient:
    """Calls an operation of the document. The models of bodies and answers are those that the document names."""

    def __init__(self, http: httpx.AsyncClient, models: ModuleType) -> None:
        self._http = http
        self._models = models
        self._document = json.loads(DOCUMENT.read_text())

    async def call(self, method: str, path: str, body: BaseModel | None = None, **parameters: Any) -> BaseModel:
        """Return the answer in the model that the document names for its status."""
        operation = self._document["paths"][path][method]
        content = None if body is None else body.model_dump_json(exclude_unset=True)
        answer = await self._http.request(
            method,
            path.format(**parameters),
            params={name: value for name, value in parameters.items() if f"{{{name}}}" not in path},
            content=content,
            headers={"Content-Type": "application/json"},
        )
        responses = operation["responses"]
        described = responses.get(str(answer.status_code), responses["default"])
        if "$ref" in described:
            described = self._document["components"]["responses"][described["$ref"].rpartition("/")[2]]
        schema = described["content"][answer.headers["Content-Type"]]["schema"]
        named = schema.get("anyOf", [schema])[0]["$ref"].rpartition("/")[2]
        model: type[BaseModel] = getattr(self._models, named.replace("_", ""))  # PageOf_OrderRecord_: PageOfOrderRecord
        return model.model_validate_json(answer.content)


@pytest.fixture
async def client(api: httpx.AsyncClient, models: ModuleType, database: Database) -> GeneratedClient:
    api.headers.update(authorization(await make_api_key(database)))
    return GeneratedClient(api, models)


async def test_generated_client_sends_reads_and_lists_an_order(client: GeneratedClient, models: ModuleType) -> None:
    line = models.Line(connection_type="ftth", onu_serial="HWTC1A2B3C4D", cpe_mac="00:1A:2B:3C:4D:5E")
    order = models.ProvisionSubscriberRequest(
        operation="provision",
        order_id="O-1",
        subscriber_ref="S-1",
        customer=models.Customer(ref="C-1", name="Ada Byron"),
        plan=models.ServicePlan(name="fiber-100", download_kbps=100_000, upload_kbps=50_000),
        line=line,
    )
    sent = await client.call("post", "/v1/orders", order)
    assert isinstance(sent, models.Order)
    assert (sent.order_id, sent.status, sent.operation.value) == ("O-1", "waiting", "provision")
    read = await client.call("get", "/v1/orders/{order_id}", order_id="O-1")
    assert read == sent.model_copy(update={"requested_by": read.requested_by})
    page = await client.call("get", "/v1/orders", subscriber="S-1")
    assert isinstance(page, models.PageOfOrderRecord)
    assert [one.order_id for one in page.results] == ["O-1"]
    caller = await client.call("get", "/v1/caller")
    assert caller.tenant == "acme"


async def test_generated_client_reads_a_problem_with_every_mistake(client: GeneratedClient, models: ModuleType) -> None:
    unknown = await client.call("get", "/v1/orders/{order_id}", order_id="O-404")
    assert isinstance(unknown, models.Problem)
    assert (unknown.status, unknown.type) == (404, "/problems/not-found")
    wrong = models.SuspendSubscriberRequest.model_construct(operation="suspend", reason="")
    invalid = await client.call("post", "/v1/orders", wrong)
    assert isinstance(invalid, models.Problem)
    assert {one.pointer for one in invalid.errors} == {"/subscriber_ref", "/reason", "/mode"}


def test_generated_models_refuse_what_the_api_refuses(models: ModuleType) -> None:
    with pytest.raises(ValidationError) as refused:
        models.SuspendSubscriberRequest(
            operation="suspend", subscriber_ref="not a reference", reason="", mode="off", colour="red"
        )
    assert {error["loc"][0] for error in refused.value.errors()} == {"subscriber_ref", "reason", "mode", "colour"}


@pytest.mark.parametrize("operation", Operation)
def test_order_fits_the_generated_model_of_its_type(models: ModuleType, operation: Operation) -> None:
    order = Orders("S-1").of(operation, "O-1")
    model = getattr(models, f"{type(order).__name__}Request")
    written = order.model_dump(mode="json", exclude_defaults=True) | {"operation": operation}
    assert json.loads(model.model_validate(written).model_dump_json(exclude_unset=True)) == written
