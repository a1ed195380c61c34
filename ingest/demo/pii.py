"""Invented personal data that can belong to nobody, for planting.

Mail at example domains (RFC 2606), telephone numbers set aside for fiction (555-01xx and 01632
960xxx), addresses for documentation (RFC 5737, RFC 3849), the card schemes' published test
numbers, and IBANs of a bank called TEST with a right check sum.
"""

import random

__all__ = ["plant"]

CARDS = ("4111 1111 1111 1111", "4242424242424242", "5555-5555-5555-4444", "378282246310005")
SENTENCES = {
    "EMAIL": "Corrections to this page are welcome at {0}, where every message is read.",
    "PHONE": "The reading room can be reached by telephone on {0} during office hours.",
    "IP": "This edition was last changed by an unregistered reader from {0} in the spring.",
    "IBAN": "Gifts towards the printing costs are received on the account {0} all year round.",
    "CARD": "The order was paid with the card {0} and sent on the following day.",
}


def plant(index: int, draw: random.Random) -> tuple[str, tuple[tuple[str, str], ...]]:
    """(a sentence, what it gives away as (kind, text)); kinds take turns."""
    kind = list(SENTENCES)[index % len(SENTENCES)]
    value = _value(kind, index // len(SENTENCES), draw)
    return SENTENCES[kind].format(value), ((kind, value),)


def _value(kind: str, turn: int, draw: random.Random) -> str:
    number = draw.randrange(100)
    if kind == "EMAIL":
        return f"desk.{draw.randrange(1000, 9999)}@{('example.org', 'mail.example.com')[turn % 2]}"
    if kind == "PHONE":
        forms = ("(202) 555-01{0:02d}", "+1 202-555-01{0:02d}", "202.555.01{0:02d}",
                 "+44 1632 9600{0:02d}")
        return forms[turn % 4].format(number)
    if kind == "IP":
        return f"192.0.2.{number}" if turn % 2 else f"2001:db8::{number:x}:1"
    if kind == "CARD":
        return CARDS[turn % len(CARDS)]
    return _iban(f"TEST{draw.randrange(10**14):014d}", grouped=turn % 2 == 0)


def _iban(account: str, grouped: bool) -> str:
    digits = "".join(str(int(char, 36)) for char in f"{account}GB00")
    whole = f"GB{98 - int(digits) % 97:02d}{account}"
    return " ".join(whole[i : i + 4] for i in range(0, len(whole), 4)) if grouped else whole
