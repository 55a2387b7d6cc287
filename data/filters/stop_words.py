"""Stop words by language: frequent ones that say nothing of the subject, as Gopher's eight are for English."""

# ruff: noqa: RUF001 - letters of other scripts are meant

_WORDS = {
    "en": "the be to of and that have with",  # Gopher's
    "de": "der die das und in zu den mit von ist",
    "nl": "de het een van en in is dat op te",
    "sv": "och att det som en av är för med till",
    "da": "og at det som en af er for med til",
    "no": "og å det som en av er for med til",
    "fr": "de la le et les des en un une que",
    "es": "de la que el en y los un por con",
    "it": "di e il la che in un per del non",
    "pt": "de a o que e do da em um para",
    "ro": "de și în la cu a un pe care nu",
    "pl": "w i na z do nie że się jest to",
    "cs": "a v se na je že s z do to",
    "ru": "и в не на что с по к",
    "uk": "і в на не з що до та",
    "tr": "ve bir bu da de için ile olarak",
    "fi": "ja on ei se että oli myös kun",
    "hu": "a az és hogy nem is egy van",
    "ar": "في من على إلى أن التي عن لا",
    "hi": "के में की है और से का को",
    "vi": "và của có là trong được các cho",
    "id": "yang dan di dengan untuk ini dari pada",
    "zh": "的 是 在 了 不 和 有 一",
    "ja": "の に は を が で と た",
    "th": "ที่ และ ใน เป็น การ ของ มี ได้",
}
STOP_WORDS = {language: tuple(words.split()) for language, words in _WORDS.items()}
"By ISO 639 code."

UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "km", "yue", "wuu"})
"Written without spaces: a stop word is found wherever its characters are."
