"""statement.py BYTES: a CapabilityStatement (R4) of about that size, like a large server's."""

import json
import sys

TYPES = (
    "AllergyIntolerance Appointment Binary Bundle CarePlan CareTeam Claim Composition Condition Consent "
    "Coverage Device DiagnosticReport DocumentReference Encounter EpisodeOfCare Flag Goal Group "
    "HealthcareService ImagingStudy Immunization Location Medication MedicationAdministration "
    "MedicationRequest MedicationStatement Observation Organization Patient Person Practitioner "
    "PractitionerRole Procedure Provenance Questionnaire QuestionnaireResponse RelatedPerson Schedule "
    "ServiceRequest Slot Specimen Subscription Task"
).split()
COMMON = [("_id", "token"), ("_lastUpdated", "date"), ("_tag", "token"), ("_profile", "uri"), ("_security", "token")]
PARAMETERS = [
    ("identifier", "token"), ("patient", "reference"), ("subject", "reference"), ("date", "date"),
    ("status", "token"), ("code", "token"), ("category", "token"), ("encounter", "reference"),
    ("performer", "reference"), ("based-on", "reference"), ("part-of", "reference"), ("type", "token"),
]  # fmt: skip


def resource(name, parameters):
    return {
        "type": name,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{name}",
        "supportedProfile": [f"http://hl7.org/fhir/us/core/StructureDefinition/us-core-{name.lower()}"],
        "interaction": [
            {"code": code} for code in ("read", "vread", "search-type", "create", "update", "history-instance")
        ],
        "versioning": "versioned",
        "readHistory": True,
        "conditionalCreate": True,
        "searchInclude": [f"{name}:patient", f"{name}:encounter"],
        "searchParam": [
            {
                "name": parameter,
                "definition": f"http://hl7.org/fhir/SearchParameter/{name}-{parameter}",
                "type": kind,
                "documentation": f"Finds records of {name} by their {parameter}",
            }
            for parameter, kind in parameters
        ],
    }


def statement(parameters):
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-01-01T00:00:00Z",
        "kind": "instance",
        "software": {"name": "Static page", "version": "1"},
        "implementation": {"description": "A page for measuring"},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [
            {
                "mode": "server",
                "resource": [resource(name, parameters) for name in TYPES],
                "interaction": [{"code": "transaction"}, {"code": "batch"}],
            }
        ],
    }


if __name__ == "__main__":
    wanted = int(sys.argv[1])
    chosen = list(COMMON)
    for parameter in PARAMETERS:
        if len(json.dumps(statement([*chosen, parameter]), separators=(",", ":"))) > wanted:
            break
        chosen.append(parameter)
    page = statement(chosen)
    # The last bytes come from a text.
    missing = wanted - len(json.dumps(page, separators=(",", ":")))
    page["implementation"]["description"] += "." * max(0, missing)
    print(json.dumps(page, separators=(",", ":")), end="")
