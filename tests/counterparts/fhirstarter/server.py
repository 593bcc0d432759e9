"""fhirstarter (R5) with one synthetic Patient in memory."""

import json
import logging
import socket
import warnings

warnings.filterwarnings("ignore")

import uvicorn  # noqa: E402
from fhir.resources.bundle import Bundle  # noqa: E402
from fhir.resources.patient import Patient  # noqa: E402
from fhirstarter import FHIRProvider, FHIRStarter, InteractionContext  # noqa: E402
from fhirstarter.exceptions import FHIRResourceNotFoundError  # noqa: E402

CANARY = {"resourceType": "Patient", "id": "canary-1", "name": [{"family": "Canary"}]}

app = FHIRStarter(title="counterpart")
provider = FHIRProvider()


@provider.read(Patient)
async def read(context: InteractionContext, id_: str) -> Patient:
    if id_ != CANARY["id"]:
        raise FHIRResourceNotFoundError
    return Patient.model_validate(CANARY)


@provider.search_type(Patient)
async def search(context: InteractionContext, family: str | None) -> Bundle:
    return Bundle.model_validate(
        {"resourceType": "Bundle", "type": "searchset", "total": 1, "entry": [{"resource": CANARY}]}
    )


app.add_providers(provider)

if __name__ == "__main__":
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(json.dumps({"name": "fhirstarter", "port": listener.getsockname()[1]}), flush=True)
    logging.disable(logging.INFO)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
