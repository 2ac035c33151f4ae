// One element of the page, built without ever parsing a string as HTML.
//
// Every node on the page is made here or with `svg` below: text becomes a text node, a listener must be a
// function. Output of a model therefore cannot become markup, whatever it contains.

/** Build `<tag>` with attributes, listeners (`onclick: function`) and children (nodes or text). */
export function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

const SVG = "http://www.w3.org/2000/svg";

/** Build an element of an inline drawing. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) {
      if (typeof value !== "function") throw new TypeError(`${name} must be a function`);
      node.addEventListener(name.slice(2), value);
    } else {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Return the element of index.html with this id. */
export function part(id) {
  return document.getElementById(id);
}
