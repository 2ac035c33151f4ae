"""Numbers in words, in the eight languages of Llama 3.1.

Seven languages come from num2words. It has no Hindi, whose words for 0 to 99 follow no rule and
are listed here; above that the rules are regular. Evaluations of number words use this too, on the
numbers that `heldout.held_out_number` reserves.
"""

from puna.errors import ExtraError, RequestError

LANGUAGES = ("en", "de", "fr", "it", "pt", "hi", "es", "th")

_HINDI_TEXT = """
शून्य एक दो तीन चार पाँच छह सात आठ नौ दस ग्यारह बारह तेरह चौदह पंद्रह सोलह सत्रह अठारह
उन्नीस बीस इक्कीस बाईस तेईस चौबीस पच्चीस छब्बीस सत्ताईस अट्ठाईस उनतीस तीस इकतीस बत्तीस
तैंतीस चौंतीस पैंतीस छत्तीस सैंतीस अड़तीस उनतालीस चालीस इकतालीस बयालीस तैंतालीस चौवालीस
पैंतालीस छियालीस सैंतालीस अड़तालीस उनचास पचास इक्यावन बावन तिरपन चौवन पचपन छप्पन सत्तावन
अट्ठावन उनसठ साठ इकसठ बासठ तिरसठ चौंसठ पैंसठ छियासठ सड़सठ अड़सठ उनहत्तर सत्तर इकहत्तर बहत्तर
तिहत्तर चौहत्तर पचहत्तर छिहत्तर सतहत्तर अठहत्तर उन्यासी अस्सी इक्यासी बयासी तिरासी चौरासी
पचासी छियासी सत्तासी अट्ठासी नवासी नब्बे इक्यानवे बानवे तिरानवे चौरानवे पचानवे छियानवे
सत्तानवे अट्ठानवे निन्यानवे
"""
_HINDI = _HINDI_TEXT.split()  # 0 to 99

# Indian counting: hundred, thousand, hundred thousand.
_HINDI_STEPS = ((100_000, "लाख"), (1_000, "हज़ार"), (100, "सौ"))
_HINDI_END = 10_000_000


def number_words(n: int, language: str) -> str:
    """Write `n` in words.

    Raises:
        RequestError: the language is not one of the eight, or the number is out of range.
    """
    if language not in LANGUAGES or not 0 <= n < _HINDI_END:
        raise RequestError(
            f"number_words: {n} in {language!r}; a number from 0 to {_HINDI_END - 1} in one of "
            f"{', '.join(LANGUAGES)} is expected."
        )
    if language == "hi":
        return _hindi(n)
    try:
        from num2words import num2words
    except ImportError as error:
        raise ExtraError("number words need the extra `seed`: pip install 'puna[seed]'.") from error
    # CLDR's `pt` is Brazilian, so number words are too: dezesseis, not dezasseis.
    return str(num2words(n, lang="pt_BR" if language == "pt" else language))


def _hindi(n: int) -> str:
    words = []
    for step, name in _HINDI_STEPS:
        if n >= step:
            count, n = divmod(n, step)
            words.append(f"{_hindi(count)} {name}")
    if n or not words:
        words.append(_HINDI[n])
    return " ".join(words)
