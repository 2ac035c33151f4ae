// Files of the user -> text that travels with a message. Nothing is uploaded: the browser reads them.

export const MOST_BYTES = 256 * 1024; // of one file: about 64,000 tokens of English
export const MOST_FILES = 8; // of one message

/** Read one file. Returns `{file: {name, text, bytes}}` or `{problem}`, a sentence. */
export async function readFile(file) {
  if (file.size > MOST_BYTES) {
    return { problem: `${file.name} has ${sizeText(file.size)}; at most ${sizeText(MOST_BYTES)} can be attached.` };
  }
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    if (text.includes("\0")) throw new TypeError("a zero byte");
    return { file: { name: file.name, text, bytes: file.size } };
  } catch {
    return { problem: `${file.name} is not text; only text and code can be attached.` };
  }
}

/** Say a size for people. */
export function sizeText(bytes) {
  return bytes < 1024 ? `${bytes} bytes` : `${Math.round(bytes / 1024).toLocaleString("en")} KB`;
}
