"""Presidio and detect-secrets on the texts of the benchmark; runs in an environment of its own.

Reads a JSON list of texts on stdin, writes {"finds": [[kind, start, end] …] a text, "cpu_s"}.
Presidio's recognisers for every country here, its context words, and a tokenizer in place of a
language model, which is for names. Of overlapping finds the one with the higher score stays.
"""

import json
import os
import sys
import tempfile
import time

KINDS = {
    "EMAIL_ADDRESS": "EMAIL", "PHONE_NUMBER": "PHONE", "IP_ADDRESS": "IP", "IBAN_CODE": "IBAN",
    "CREDIT_CARD": "CARD", "US_SSN": "ID", "UK_NINO": "ID", "ES_NIF": "ID", "ES_NIE": "ID",
    "IT_FISCAL_CODE": "ID", "IN_AADHAAR": "ID", "FI_PERSONAL_IDENTITY_CODE": "ID", "KR_RRN": "ID",
    "PL_PESEL": "ID", "SG_NRIC_FIN": "ID", "DE_TAX_ID": "ID", "SE_PERSONNUMMER": "ID",
    "CA_SIN": "ID", "TR_NATIONAL_ID": "ID", "ZA_ID_NUMBER": "ID",
}
RECOGNIZERS = (
    "EmailRecognizer", "IpRecognizer", "IbanRecognizer", "CreditCardRecognizer", "UsSsnRecognizer",
    "UkNinoRecognizer", "EsNifRecognizer", "EsNieRecognizer", "ItFiscalCodeRecognizer",
    "InAadhaarRecognizer", "FiPersonalIdentityCodeRecognizer", "KrRrnRecognizer",
    "PlPeselRecognizer",
    "SgFinRecognizer", "DeTaxIdRecognizer", "SePersonnummerRecognizer", "CaSinRecognizer",
    "TrNationalIdRecognizer", "ZaIdNumberRecognizer",
)
REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "CH", "SE", "NO", "PL", "BR", "MX", "AR", "IN",
           "CN", "JP", "KR", "AU", "ZA", "RU", "TR", "NG")
LEAST_SCORE = 0.3
"""Weaker finds rest on a form alone that every row of figures has."""


def analyzer():
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry, predefined_recognizers
    from presidio_analyzer.nlp_engine import NlpArtifacts, SpacyNlpEngine

    class Tokens(SpacyNlpEngine):
        def __init__(self):
            super().__init__()
            self.nlp = {"en": spacy.blank("en")}

        def process_text(self, text, language):
            doc = self.nlp[language](text)
            words = [token.lower_ for token in doc]
            return NlpArtifacts([], doc, [token.idx for token in doc], words, self, language)

    registry = RecognizerRegistry()
    for name in RECOGNIZERS:
        registry.add_recognizer(getattr(predefined_recognizers, name)(supported_language="en"))
    phone = predefined_recognizers.PhoneRecognizer(supported_language="en",
                                                   supported_regions=REGIONS)
    registry.add_recognizer(phone)
    return AnalyzerEngine(registry=registry, nlp_engine=Tokens(), supported_languages=["en"])


def personal(engine, text):
    found = engine.analyze(text, language="en", score_threshold=LEAST_SCORE)
    kept = []
    for one in sorted(found, key=lambda r: (-r.score, r.start - r.end)):
        kind = KINDS.get(one.entity_type)
        if kind and all(one.end <= start or end <= one.start for _, start, end in kept):
            kept.append((kind, one.start, one.end))
    return kept


def secrets(text):
    """Of a file with this text: as it is used, with its default plugins and filters."""
    from detect_secrets import SecretsCollection
    from detect_secrets.settings import default_settings

    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
        file.write(text)
    collection = SecretsCollection()
    with default_settings():
        collection.scan_file(file.name)
    os.unlink(file.name)
    kept = []
    for _, secret in collection:
        value = secret.secret_value or ""
        start = text.find(value) if value else -1
        if secret.type == "Private Key" and start >= 0:  # it names the first line
            start, value = 0, text
        elif secret.type == "Public IP (ipv4)":
            continue
        if start >= 0:
            kept.append(("KEY", start, start + len(value)))
    return kept


def main():
    texts = json.load(sys.stdin)
    engine = analyzer()
    started = time.process_time()
    finds = []
    for text in texts:
        keys = secrets(text)
        rest = [
            one for one in personal(engine, text)
            if all(one[2] <= start or end <= one[1] for _, start, end in keys)
        ]
        finds.append(keys + rest)
    json.dump({"finds": finds, "cpu_s": time.process_time() - started}, sys.stdout)


if __name__ == "__main__":
    main()
