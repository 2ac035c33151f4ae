// What a highlighter must know of each language: its comments, its strings, its words.

const words = (text) => new Set(text.split(" "));

const C_WORDS =
  "auto break case char const continue default do double else enum extern float for goto if inline int long register " +
  "return short signed sizeof static struct switch typedef union unsigned void volatile while bool true false NULL";

const C_LIKE = { line: ["//"], block: [["/*", "*/"]], quotes: ['"', "'"] };

const LANGUAGES = {
  python: {
    line: ["#"],
    block: [],
    quotes: ['"""', "'''", '"', "'"],
    words: words(
      "and as assert async await break class continue def del elif else except finally for from global if import in is " +
        "lambda match case nonlocal not or pass raise return try while with yield None True False self",
    ),
  },
  javascript: {
    ...C_LIKE,
    quotes: ['"', "'", "`"],
    words: words(
      "async await break case catch class const continue debugger default delete do else export extends finally for from " +
        "function if import in instanceof let new of return static super switch this throw try typeof var void while with " +
        "yield null undefined true false interface type enum implements private public protected readonly as keyof " +
        "namespace declare abstract string number boolean any unknown never",
    ),
  },
  c: { ...C_LIKE, words: words(C_WORDS), directives: true },
  cpp: {
    ...C_LIKE,
    words: words(
      `${C_WORDS} alignas alignof catch class concept constexpr consteval co_await co_return co_yield decltype delete ` +
        "dynamic_cast explicit export final friend mutable namespace new noexcept nullptr operator override private " +
        "protected public requires static_assert static_cast template this throw try typename using virtual",
    ),
    directives: true,
  },
  java: {
    ...C_LIKE,
    words: words(
      `${C_WORDS} abstract assert boolean byte catch class extends final finally implements import instanceof interface ` +
        "native new null package private protected public record sealed super synchronized this throw throws try var when " +
        "fun val object companion override data string namespace using foreach async await decimal is out ref",
    ),
  },
  rust: {
    ...C_LIKE,
    quotes: ['"'],
    words: words(
      "as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut " +
        "pub ref return self Self static struct super trait true type unsafe use where while i8 i16 i32 i64 i128 u8 u16 u32 " +
        "u64 u128 isize usize f32 f64 bool char str String Vec Option Result Some None Ok Err",
    ),
  },
  go: {
    ...C_LIKE,
    quotes: ['"', "'", "`"],
    words: words(
      "break case chan const continue default defer else fallthrough for func go goto if import interface map package range " +
        "return select struct switch type var nil true false iota int int8 int16 int32 int64 uint uint8 uint16 uint32 uint64 " +
        "float32 float64 string bool byte rune error any make new len cap append",
    ),
  },
  swift: {
    ...C_LIKE,
    quotes: ['"""', '"'],
    words: words(
      "as associatedtype await async break case catch class continue default defer do else enum extension false for func guard " +
        "if import in init inout is let nil operator override private protocol public repeat return self Self some static struct " +
        "subscript super switch throw throws true try typealias var where while",
    ),
  },
  bash: {
    line: ["#"],
    block: [],
    quotes: ['"', "'"],
    variables: true,
    words: words(
      "if then else elif fi for while until do done case esac in function return local export readonly declare set unset " +
        "shift exit trap source alias echo printf cd test sudo",
    ),
  },
  sql: {
    line: ["--"],
    block: [["/*", "*/"]],
    quotes: ["'", '"'],
    foldsCase: true,
    words: words(
      "add all alter and as asc begin between by case check column commit constraint create cross default delete desc distinct " +
        "drop else end exists foreign from full group having if in index inner insert into is join key left like limit not null " +
        "offset on or order outer over partition primary references returning right rollback select set table then union unique " +
        "update using values view when where with int integer text varchar boolean date timestamp count sum avg min max",
    ),
  },
  lua: {
    line: ["--"],
    block: [["--[[", "]]"]],
    quotes: ['"', "'"],
    words: words(
      "and break do else elseif end false for function goto if in local nil not or repeat return then true until while",
    ),
  },
  ruby: {
    line: ["#"],
    block: [],
    quotes: ['"', "'"],
    words: words(
      "alias and begin break case class def defined do else elsif end ensure false for if in module next nil not or redo rescue " +
        "retry return self super then true undef unless until when while yield require attr_accessor puts",
    ),
  },
  r: { line: ["#"], block: [], quotes: ['"', "'"], words: words("if else repeat while function for next break TRUE FALSE NULL NA in library") },
  haskell: {
    line: ["--"],
    block: [["{-", "-}"]],
    quotes: ['"'],
    words: words("case class data deriving do else if import in infix infixl infixr instance let module newtype of then type where"),
  },
  css: { line: [], block: [["/*", "*/"]], quotes: ['"', "'"], words: words("important"), properties: true },
  json: { line: [], block: [], quotes: ['"'], words: words("true false null"), properties: true },
  yaml: { line: ["#"], block: [], quotes: ['"', "'"], words: words("true false null yes no"), properties: true },
  toml: { line: ["#", ";"], block: [], quotes: ['"""', "'''", '"', "'"], words: words("true false"), properties: true, sections: true },
  dockerfile: {
    line: ["#"],
    block: [],
    quotes: ['"', "'"],
    variables: true,
    words: words("FROM AS RUN CMD LABEL EXPOSE ENV ADD COPY ENTRYPOINT VOLUME USER WORKDIR ARG ONBUILD STOPSIGNAL HEALTHCHECK SHELL"),
  },
};

const OTHER_NAMES = {
  py: "python", python3: "python", pycon: "python", ipython: "python",
  js: "javascript", jsx: "javascript", mjs: "javascript", ts: "javascript", tsx: "javascript", typescript: "javascript", node: "javascript",
  h: "c", cc: "cpp", "c++": "cpp", cxx: "cpp", hpp: "cpp", cuda: "cpp", cu: "cpp",
  kotlin: "java", kt: "java", scala: "java", "c#": "java", cs: "java", csharp: "java", dart: "java", php: "java",
  rs: "rust", golang: "go", sh: "bash", shell: "bash", zsh: "bash", console: "bash", makefile: "bash", make: "bash",
  mysql: "sql", postgres: "sql", postgresql: "sql", sqlite: "sql", rb: "ruby", julia: "ruby", hs: "haskell",
  scss: "css", less: "css", jsonc: "json", json5: "json", jsonl: "json", yml: "yaml", ini: "toml", cfg: "toml", conf: "toml", docker: "dockerfile",
};

/** Return what is known of a language under any of its names, or null. */
export function languageOf(name) {
  const own = Object.hasOwn(OTHER_NAMES, name) ? OTHER_NAMES[name] : name;
  return Object.hasOwn(LANGUAGES, own) ? LANGUAGES[own] : null;
}
