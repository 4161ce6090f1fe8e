// Making and changing elements. Names of functions, databases and warnings come from clients: text goes in as text nodes,
// and there is no way here to put it in as HTML.

const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  set(element, attributes);
  element.append(...children);
  return element;
}

function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(element, attributes);
  element.append(...children);
  return element;
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

// Writes only what has changed, so that a selection of text survives.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
