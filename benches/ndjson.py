"""ndjson.py FOLDER BYTES FILES: FILES files of Observations (R4, one a line), so many BYTES together,
below FOLDER/files; the CapabilityStatement and the manifest that belong to them beside."""

import json
import pathlib
import sys

folder, size, files = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
(folder / "files").mkdir(parents=True, exist_ok=True)


def observation(file, number):
    value = (file * 31 + number * 17) % 1000
    return {
        "resourceType": "Observation",
        "id": f"measured-{file}-{number}",
        "meta": {
            "versionId": "3",
            "lastUpdated": f"2026-{1 + number % 12:02}-{1 + number % 28:02}T08:15:30.{value:03}+00:00",
            "profile": ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-observation-lab"],
        },
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "laboratory",
                        "display": "Laboratory",
                    }
                ]
            }
        ],
        "code": {
            "coding": [{"system": "http://loinc.org", "code": "2339-0", "display": "Glucose [Mass/volume] in Blood"}],
            "text": "Glucose, \u201cfasting\u201d",
        },
        "subject": {"reference": f"Patient/patient-{number % 997}"},
        "encounter": {"reference": f"Encounter/encounter-{number % 4999}"},
        "effectiveDateTime": f"2025-{1 + number % 12:02}-{1 + number % 28:02}T07:{number % 60:02}:00+00:00",
        "issued": f"2025-{1 + number % 12:02}-{1 + number % 28:02}T09:{number % 60:02}:00.{value:03}+00:00",
        "valueQuantity": {
            "value": value / 10,
            "unit": "mg/dL",
            "system": "http://unitsofmeasure.org",
            "code": "mg/dL",
        },
        "referenceRange": [{"low": {"value": 70, "unit": "mg/dL"}, "high": {"value": 99, "unit": "mg/dL"}}],
    }


output = []
for file in range(files):
    text = []
    length = 0
    while length < size / files:
        text.append(json.dumps(observation(file, len(text)), separators=(",", ":")) + "\n")
        length += len(text[-1])
    name = f"Observation.{file}.ndjson"
    (folder / "files" / name).write_text("".join(text), encoding="utf-8")
    output.append({"type": "Observation", "url": f"BASE/files/{name}", "count": len(text)})
manifest = {
    "transactionTime": "2026-01-31T00:00:00Z",
    "request": "BASE/Patient/$export",
    "requiresAccessToken": False,
    "output": output,
    "error": [],
}
(folder / "manifest").write_text(json.dumps(manifest), encoding="utf-8")
statement = {
    "resourceType": "CapabilityStatement",
    "status": "active",
    "date": "2026-01-01",
    "kind": "instance",
    "fhirVersion": "4.0.1",
    "format": ["json"],
    "instantiates": ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"],
    "rest": [
        {
            "mode": "server",
            "resource": [
                {
                    "type": name,
                    "interaction": [{"code": "read"}, {"code": "search-type"}],
                    "operation": [
                        {"name": "export", "definition": f"http://hl7.org/fhir/uv/bulkdata/OperationDefinition/{kind}-export"}
                    ]
                    if kind
                    else [],
                }
                for name, kind in (("Patient", "patient"), ("Group", "group"), ("Observation", ""))
            ],
            "operation": [
                {"name": "export", "definition": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export"}
            ],
        }
    ],
}
(folder / "metadata").write_text(json.dumps(statement), encoding="utf-8")
