"""Masking personal data: each kind is an option, is found in linear time, and is checked as far as its standard allows.

Numbers count as what they look like only where their check digits hold, so that ordinary numbers stay.
"""

import datetime as dt
import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from data.errors import Problem


@dataclass
class MaskRules:
    """What is replaced; all off by default."""

    token: str = "<{kind}>"  # noqa: S105 - no password
    "What stands in its place; {kind} is EMAIL, IP_ADDRESS, PHONE_NUMBER, CREDIT_CARD, IBAN, CHINESE_ID or US_SSN."
    email: bool = False
    "E-mail addresses (RFC 5321, ASCII, without quoted local parts)."
    ip_address: bool = False
    "Addresses of IPv4 and IPv6."
    public_ip_address_only: bool = True
    "Private, loopback, documentation and other addresses that no one in the Internet has (RFC 6890) stay."
    phone_number: bool = False
    "+ and 8 to 15 digits (E.164); North American numbers in groups; Chinese mobile numbers of 11 digits."
    credit_card: bool = False
    "13 to 19 digits, plain or in the groups of a card, with a payment network's first digits and Luhn's check digit."
    iban: bool = False
    "ISO 13616: the country's length, and check digits modulo 97."
    chinese_id: bool = False
    "GB 11643: 18 characters with a province, a date of birth and a check digit modulo 11."
    us_ssn: bool = False
    "US social security numbers, with hyphens; numbers that are never assigned stay."

    @property
    def is_on(self) -> bool:
        return any(getattr(self, kind) for kind in KINDS)

    def problems(self) -> list[Problem]:
        try:
            self.token.format(kind="EMAIL")
        except (KeyError, IndexError, ValueError) as error:
            return [Problem("token", f'"{self.token}" ({error})', "a text with no braces but {kind}")]
        return []


def _email_length(text: str, _rules: MaskRules) -> int:
    local = text.partition("@")[0]
    return 0 if ".." in local or local.endswith(".") else len(text)


def _ip_length(text: str, rules: MaskRules) -> int:
    if ":" in text and text.count(":") < 3 and not any(map(str.isdigit, text)):  # noqa: PLR2004
        return 0  # a::b is more often a name
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return 0
    return len(text) if address.is_global or not rules.public_ip_address_only else 0


def _phone_length(text: str, _rules: MaskRules) -> int:
    num_digits = sum(map(str.isdigit, text))
    return len(text) if not text.startswith("+") or 8 <= num_digits <= 15 else 0  # noqa: PLR2004 - E.164


def _card_length(text: str, _rules: MaskRules) -> int:
    """ISO/IEC 7812: Luhn's sum over the digits from the right, every second doubled, is a multiple of 10."""
    digits = [int(each) for each in reversed(text) if each.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return 0 if (sum(digits[::2]) + sum(doubled)) % 10 else len(text)


def _iban_length(text: str, _rules: MaskRules) -> int:
    """The country says where it ends; what the pattern took beyond that stays."""
    left = IBAN_LENGTHS.get(text[:2], 1 << 10)
    for end, character in enumerate(text, 1):
        left -= character != " "
        if not left:
            compact = text[:end].replace(" ", "")
            number = int("".join(str(int(each, 36)) for each in compact[4:] + compact[:4]))
            return end if number % 97 == 1 and not text[end : end + 1].isalnum() else 0
    return 0


def _chinese_id_length(text: str, _rules: MaskRules) -> int:
    """ISO 7064 MOD 11-2: the digits, weighted by powers of two, with 10 written X, are 1 modulo 11."""
    total = sum((10 if digit in "Xx" else int(digit)) << (17 - place) for place, digit in enumerate(text))
    try:
        dt.date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return 0
    return len(text) if total % 11 == 1 and text[:2] in PROVINCES else 0


_IBANS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 "
    "FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 "
    "LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 "
    "SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
)
IBAN_LENGTHS = {each[:2]: int(each[2:]) for each in _IBANS.split()}
"ISO 13616 registry: characters by country."
_PROVINCES = "11-15 21-23 31-37 41-46 50-54 61-65 71 81-83"
PROVINCES = frozenset(
    str(code)
    for first, _, last in (each.partition("-") for each in _PROVINCES.split())
    for code in range(int(first), int(last or first) + 1)
)
"GB/T 2260: the first two digits."

# A pattern begins only where a run of its characters begins and repeats nothing without a bound, so that the time is
# linear in the text. ASCII throughout: a letter of another script may touch a number.
_LOCAL, _LABEL = r"[\w.!#$%&'*+/=?^`{|}~-]", r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = rf"(?<!{_LOCAL})[\w+]{_LOCAL}{{0,63}}+@(?:{_LABEL}\.){{1,8}}[A-Za-z]{{2,24}}(?![\w-])"
_IBAN = r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)"
_BEFORE, _AFTER = r"(?<![\w.-])", r"(?![\w-]|\.\d)"
_CHINESE_ID = _BEFORE + r"[1-8]\d{16}[\dXx]" + _AFTER
_NETWORKS = r"(?=4|5[1-5]|2[2-7]|3[4-9]|6[0-9])"
_GROUPS = r"\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|3[47]\d\d([ -])\d{6}\2\d{5}"
_CREDIT_CARD = f"{_BEFORE}{_NETWORKS}(?:{_GROUPS}){_AFTER}"
_US_SSN = _BEFORE + r"(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}" + _AFTER
_INTERNATIONAL = (
    r"(?<![\w+])\+(?:[1-9]\d{7,14}|[1-9]\d{0,2}(?:[ .-](?:\(\d{1,4}\)[ .-]?\d{0,4}|\d{1,5})){2,5})(?!\w)"
)
_AMERICAN = r"(?<![\w.+/-])(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[.-]\d{4}" + _AFTER
_CHINESE = r"(?<![\w.+/-])1[3-9]\d{9}" + _AFTER
_PHONE_NUMBER = f"{_INTERNATIONAL}|{_AMERICAN}|{_CHINESE}"
_IPV4, _IPV6 = r"(?:\d{1,3}\.){3}\d{1,3}" + _AFTER, r"[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{2,34}+(?![\w:])"
_IP_ADDRESS = rf"(?<![\w.:-])(?:{_IPV4}|{_IPV6})"

Length = Callable[[str, MaskRules], int]
_KINDS: tuple[tuple[str, str, Length], ...] = (
    ("email", _EMAIL, _email_length),
    ("iban", _IBAN, _iban_length),
    ("chinese_id", _CHINESE_ID, _chinese_id_length),
    ("credit_card", _CREDIT_CARD, _card_length),
    ("us_ssn", _US_SSN, lambda text, _: len(text)),
    ("phone_number", _PHONE_NUMBER, _phone_length),
    ("ip_address", _IP_ADDRESS, _ip_length),
)
KINDS = {kind: (re.compile(pattern, re.ASCII), length) for kind, pattern, length in _KINDS}
"""In the order in which they are looked for: what has check digits comes before what has none. A pattern, and how many
characters of what it matched are one; 0: none."""


def mask(text: str, *, rules: MaskRules) -> tuple[str, Counter[str]]:
    """The text with a token in place of what the rules find, and how often, by kind."""
    found: Counter[str] = Counter()
    for kind, (pattern, length) in KINDS.items():
        if getattr(rules, kind) and (kind != "email" or "@" in text):
            text = pattern.sub(_replacing(kind, length, rules, found), text)
    return text, found


def _replacing(
    kind: str, length: Length, rules: MaskRules, found: Counter[str]
) -> Callable[[re.Match[str]], str]:
    token = rules.token.format(kind=kind.upper())

    def replace(match: re.Match[str]) -> str:
        end = length(match[0], rules)
        if not end:
            return match[0]
        found[kind] += 1
        return token + match[0][end:]

    return replace
