// Letters in other alphabets: bold, script, Fraktur, double-struck and their like, by their Unicode numbers.
//
// MathML Core draws these from the characters themselves. Source: Unicode 15, Mathematical Alphanumeric
// Symbols (1D400-1D7FF); the holes in that block are letters that had a place before it.

// Alphabet: first capital, first small letter, first digit (0 where there is none).
const ALPHABETS = {
  bold: [0x1d400, 0x1d41a, 0x1d7ce],
  bolditalic: [0x1d468, 0x1d482, 0],
  script: [0x1d49c, 0x1d4b6, 0],
  fraktur: [0x1d504, 0x1d51e, 0],
  double: [0x1d538, 0x1d552, 0x1d7d8],
  sans: [0x1d5a0, 0x1d5ba, 0x1d7e2],
  mono: [0x1d670, 0x1d68a, 0x1d7f6],
};

const HOLES = {
  script: { B: "ℬ", E: "ℰ", F: "ℱ", H: "ℋ", I: "ℐ", L: "ℒ", M: "ℳ", R: "ℛ", e: "ℯ", g: "ℊ", o: "ℴ" },
  fraktur: { C: "ℭ", H: "ℌ", I: "ℑ", R: "ℜ", Z: "ℨ" },
  double: { C: "ℂ", H: "ℍ", N: "ℕ", P: "ℙ", Q: "ℚ", R: "ℝ", Z: "ℤ" },
};

const GREEK = "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡϴΣΤΥΦΧΨΩ∇αβγδεζηθικλμνξοπρςστυφχψω∂ϵϑϰϕϱϖ";
const BOLD_GREEK = 0x1d6a8;

/** Return a text with its letters and digits taken from an alphabet; other signs stay. */
export function inAlphabet(text, name) {
  return [...text].map((sign) => letter(sign, name)).join("");
}

function letter(sign, name) {
  const starts = ALPHABETS[name];
  if (!starts) return sign;
  if (HOLES[name]?.[sign]) return HOLES[name][sign];
  const [capital, small, digit] = starts;
  if (sign >= "A" && sign <= "Z") return String.fromCodePoint(capital + sign.charCodeAt(0) - 65);
  if (sign >= "a" && sign <= "z") return String.fromCodePoint(small + sign.charCodeAt(0) - 97);
  if (sign >= "0" && sign <= "9" && digit) return String.fromCodePoint(digit + sign.charCodeAt(0) - 48);
  const greek = name === "bold" || name === "bolditalic" ? GREEK.indexOf(sign) : -1;
  return greek < 0 ? sign : String.fromCodePoint(BOLD_GREEK + greek);
}
