// The token view: every token of an answer, tinted by its probability; its rivals on hover and on focus.
//
// The tokens form one list box: Tab enters it, the arrow keys walk through it, and the card under the
// pointer or the focus tells the token's id, its probability and what else could have stood there.

import { element, part } from "../element.js";

const LEVELS = [0.9, 0.6, 0.3, 0.1]; // from certain to surprising; below the last is level 4

/** Return `{node, update(tokens)}`; update only ever appends. */
export function tokenView() {
  const node = element("div", { class: "tokens", role: "listbox", "aria-label": "Tokens of the answer", tabindex: "-1" });
  let tokens = [];
  let count = 0;
  const at = (event) => [...node.children].indexOf(event.target.closest?.(".token"));
  const show = (event) => {
    const place = at(event);
    if (place >= 0) showCard(tokens[place], node.children[place]);
  };
  const focus = (place) => {
    const target = node.children[Math.max(0, Math.min(count - 1, place))];
    node.querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
    target?.setAttribute("tabindex", "0");
    target?.focus();
  };
  node.addEventListener("mouseover", show);
  node.addEventListener("focusin", show);
  node.addEventListener("mouseleave", hideCard);
  node.addEventListener("focusout", hideCard);
  node.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape") hideCard();
    if (step === undefined) return;
    event.preventDefault();
    focus(at(event) + step);
  });
  const update = (all) => {
    tokens = all;
    node.append(...tokens.slice(count).map((token, more) => tokenNode(token, count + more === 0)));
    count = tokens.length;
  };
  return { node, update };
}

function tokenNode({ text, p, id }, isFirst) {
  const level = LEVELS.findIndex((least) => p >= least);
  const shown = text.replace(/\n/g, "⏎\n") || "∅";
  const name = `${text.trim() || "blank"}, ${percent(p)}${id === null ? "" : `, id ${id}`}`;
  const place = { role: "option", "aria-selected": "false", tabindex: isFirst ? "0" : "-1", "aria-label": name };
  return element("span", { class: `token level-${level < 0 ? 4 : level}`, ...place }, shown);
}

function percent(p) {
  return p < 0.001 ? "< 0.1 %" : `${(p * 100).toFixed(p < 0.1 ? 1 : 0)} %`;
}

const quoted = (text) => JSON.stringify(text).slice(1, -1).replace(/^ | $/g, "␣") || "∅";

function showCard({ text, p, id, rivals }, anchor) {
  const card = part("token-card");
  const others = rivals.some((rival) => rival.text === text) ? rivals : [{ text, p }, ...rivals];
  const rows = others.map((rival) => rivalRow(rival, rival.text === text));
  const head = [element("code", {}, quoted(text)), id === null ? null : element("span", {}, `id ${id}`), element("strong", {}, percent(p))];
  card.replaceChildren(element("div", { class: "token-head" }, head), element("ul", {}, rows));
  card.hidden = false;
  const box = anchor.getClientRects()[0] ?? anchor.getBoundingClientRect();
  const left = Math.min(box.left, innerWidth - card.offsetWidth - 8);
  const isLow = box.bottom + card.offsetHeight + 12 > innerHeight;
  card.style.left = `${Math.max(8, left)}px`;
  card.style.top = `${isLow ? box.top - card.offsetHeight - 6 : box.bottom + 6}px`;
}

function rivalRow({ text, p }, isChosen) {
  const bar = element("progress", { max: "1", value: p.toFixed(4), "aria-hidden": "true" });
  return element("li", { class: isChosen ? "chosen" : null }, element("code", {}, quoted(text)), bar, element("span", {}, percent(p)));
}

/** Hide the card. */
export function hideCard() {
  part("token-card").hidden = true;
}
