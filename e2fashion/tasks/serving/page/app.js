// The page: what is typed goes to the service that sent the page, and nowhere else.
"use strict";

const $ = (id) => document.getElementById(id);
const THUMBNAIL = 224;
const state = { models: [], image: null, shown: null, search: 0 };

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "class") made.className = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

async function ask(path, body) {
  const headers = { "Content-Type": "application/json" };
  const key = sessionStorage.getItem("key");
  if (key) headers["X-API-Key"] = key;
  const answer = await fetch(path, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
  const content = await answer.json();
  if (answer.status === 401) $("key").hidden = false;
  if (!answer.ok) throw new Error(content.error.message);
  return content;
}

function say(message, error = false) {
  $("status").textContent = message;
  $("status").classList.toggle("error", error);
}

// brand=Brisk season=SS2023|AW2023 "fit=very wide" price=10..50 brand=null
function filters(text) {
  const where = {};
  for (const [, quoted, plain] of text.matchAll(/"([^"]+)"|(\S+)/g)) {
    const part = quoted ?? plain;
    const sign = part.indexOf("=");
    if (sign < 1) throw new Error(`the filter '${part}' has no value: write tag=value`);
    const values = part.slice(sign + 1).split("|");
    where[part.slice(0, sign)] = values.length > 1 ? values : values[0] === "null" ? null : values[0];
  }
  return where;
}

function addFilter(tag, value) {
  const filter = `${tag}=${value}`;
  const written = /\s/.test(filter) ? `"${filter}"` : filter;
  if (!$("where").value.includes(written)) $("where").value = `${$("where").value} ${written}`.trim();
  $("product").close();
  search();
}

function tagList(tags, list = element("ul", { class: "tags" })) {
  list.replaceChildren(
    ...Object.entries(tags).flatMap(([tag, values]) =>
      [values].flat().map((value) =>
        element("li", {}, element("button", { type: "button", title: `only ${tag} ${value}`, onclick: () => addFilter(tag, value) },
          typeof value === "number" ? `${tag} ${value}` : value)),
      ),
    ),
  );
  return list;
}

function card(hit, rank, numbers, change = "") {
  const name = hit.description || hit.id;
  const image = hit.image ? element("img", { src: hit.image, alt: name, loading: "lazy" }) : element("span", {}, "no image");
  return element(
    "li",
    { class: "hit" },
    element("button", { type: "button", "aria-label": `${rank}. ${name}`, onclick: () => open(hit) }, image),
    element(
      "div",
      { class: "words" },
      element("div", { class: "numbers" }, element("strong", {}, String(rank)), change, element("span", {}, numbers)),
      element("div", { class: "text" }, name),
      tagList(hit.tags),
    ),
  );
}

function rankChange(id, rank, other) {
  const before = other.findIndex((hit) => hit.id === id) + 1;
  if (!before) return element("span", { class: "quiet" }, "new");
  if (before === rank) return element("span", { class: "quiet" }, "same");
  const up = before > rank;
  const words = `${up ? "↑" : "↓"} ${Math.abs(before - rank)}`;
  return element("span", { class: up ? "up" : "down", title: `rank ${before} in the other list` }, words);
}

async function search(event) {
  event?.preventDefault();
  const number = ++state.search;
  try {
    const body = { where: filters($("where").value), top: Number($("top").value), thumbnail: THUMBNAIL };
    if ($("text").value.trim()) body.text = $("text").value;
    if (state.image) body.image = state.image;
    if (body.text && body.image) body.weight = Number($("weight").value);
    if (!body.text && !body.image) throw new Error("type a text, choose an image, or both");
    say("Searching …");
    const found = await Promise.all(state.models.map((model) => ask("/search", { ...body, model: model.id })));
    if (number !== state.search) return;
    show(found);
    say(`${found[0].hits.length} of ${found[0].products.toLocaleString("en")} products`);
  } catch (error) {
    if (number === state.search) say(error.message, true);
  }
}

function show(found) {
  $("results").replaceChildren(
    ...found.map((answer, column) =>
      element(
        "section",
        { "aria-label": state.models[column].id },
        element("h2", {}, state.models[column].id),
        ...Object.entries(answer.tags).map(([entity, tag]) => element("p", { class: "quiet" }, `${entity} ${tag} is compared with its region`)),
        answer.hits.length
          ? element("ol", { class: "hits" }, ...answer.hits.map((hit, row) =>
              card(hit, row + 1, hit.score.toFixed(3), column ? rankChange(hit.id, row + 1, found[0].hits) : "")))
          : element("p", { class: "quiet" }, "No product fulfils the filters."),
      ),
    ),
  );
}

function open(hit) {
  state.shown = hit;
  $("product-title").textContent = hit.id ?? "Your image";
  $("product-description").textContent = hit.description ?? "";
  $("product-image").src = hit.image ?? "";
  $("product-image").alt = hit.description ?? "the product";
  tagList(hit.tags ?? {}, $("product-tags"));
  for (const id of ["maps", "classes", "path", "predicted"]) $(id).replaceChildren();
  $("look-text").value = hit.description ?? "";
  if (!$("product").open) $("product").showModal();
  $("product").scrollTop = 0;
  if (hit.image) fill("predicted", "/tags", { images: hit.image }, tagTable);
}

// One answer per model, each below the model's name; an error is shown in its place.
async function fill(id, path, body, draw) {
  const shown = state.shown;
  $(id).replaceChildren(element("p", { class: "quiet" }, "…"));
  const parts = await Promise.all(
    state.models.map(async (model) => {
      let content;
      try {
        content = draw(await ask(path, { ...body, model: model.id }));
      } catch (error) {
        content = element("p", { class: "quiet" }, error.message);
      }
      return element("div", {}, element("h4", { class: "quiet" }, model.id), content);
    }),
  );
  if (shown === state.shown) $(id).replaceChildren(...parts);
}

function row(name, value, share) {
  const meter = element("meter", { min: 0, max: 1, value: share, "aria-label": `${name}: ${value}` });
  return element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value),
    element("td", {}, meter), element("td", { class: "number" }, `${Math.round(100 * share)} %`));
}

function tagTable(answer) {
  const rows = Object.entries(answer.images[0]).map(([entity, tag]) =>
    row(entity, tag.value ?? `not sure; nearest: ${tag.nearest}`, tag.probability));
  return element("table", {}, element("tbody", {}, ...rows));
}

function labelTable(answer) {
  const rows = answer.images[0].labels.slice(0, 10).map((label) => row(label.label, label.score.toFixed(3), label.probability));
  return element("table", {}, element("tbody", {}, ...rows));
}

function mapFigures(answer) {
  return element("div", { class: "maps" }, ...answer.maps.map((map) => {
    const caption = [map.method, map.subject].filter(Boolean).join(": ");
    const canvas = element("canvas", { role: "img", "aria-label": caption });
    const image = new Image();
    image.onload = () => drawMap(canvas, image, map);
    image.src = map.image;
    return element("figure", {}, canvas, element("figcaption", {}, caption));
  }));
}

// Bright where the model looks; frames are the patches that it has selected.
function drawMap(canvas, image, map) {
  const side = map.heat.length;
  canvas.width = canvas.height = Math.max(336, image.width);
  const pen = canvas.getContext("2d");
  const cell = canvas.width / side;
  const edge = (index) => Math.round(index * cell);
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  map.heat.forEach((line, y) => line.forEach((heat, x) => {
    pen.fillStyle = `rgb(0 0 0 / ${0.62 * (1 - heat)})`;
    pen.fillRect(edge(x), edge(y), edge(x + 1) - edge(x), edge(y + 1) - edge(y));
  }));
  pen.strokeStyle = "#ffb000";
  pen.lineWidth = 4;
  for (const patch of map.selected) pen.strokeRect((patch % side) * cell + 2, Math.floor(patch / side) * cell + 2, cell - 4, cell - 4);
}

function pathList(answer) {
  if (!answer.hits.length) return element("p", { class: "quiet" }, "No product lies further along.");
  return element("ol", { class: "hits" }, ...answer.hits.map((hit, index) => card(hit, index + 1, `grade ${hit.grade.toFixed(2)}`)));
}

function useImage(uri) {
  state.image = uri;
  $("preview").src = uri ?? "";
  $("own").hidden = !uri;
  $("share").hidden = !uri;
  if (!uri) $("image").value = "";
}

// Shrunk here: the service refuses large bodies, and the models see small squares anyway.
async function readImage(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, 768 / Math.max(bitmap.width, bitmap.height));
  const canvas = element("canvas", { width: Math.round(bitmap.width * scale), height: Math.round(bitmap.height * scale) });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "white";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.92);
}

async function start() {
  try {
    state.models = (await ask("/v1/models")).data;
    const counts = state.models.map((model) => `${model.id} (${(model.products ?? 0).toLocaleString("en")} products)`);
    $("about").textContent = counts.join(" and ");
    const known = state.models[0].filters;
    $("where-help").textContent = known.length ? `tag=value, of ${known.join(", ")}; or choose a tag of a product` : "this index has no tags";
    $("key").hidden = true;
    say("");
  } catch (error) {
    $("about").textContent = "";
    say(error.message, true);
  }
}

$("query").addEventListener("submit", search);
$("weight").addEventListener("input", () => { $("weight-value").value = $("weight").value; });
$("clear").addEventListener("click", () => useImage(null));
$("inspect").addEventListener("click", () => open({ image: state.image }));
$("similar").addEventListener("click", () => { useImage(state.shown.image); $("product").close(); search(); });
$("image").addEventListener("change", async () => {
  const [file] = $("image").files;
  try {
    useImage(file ? await readImage(file) : null);
  } catch {
    useImage(null);
    say("this file is not an image that the browser can read", true);
  }
});
$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key-value").value);
  start();
});
$("look").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("look-text").value.trim();
  fill("maps", "/explain", { image: state.shown.image, texts: text ? [text] : [] }, mapFigures);
});
$("classify").addEventListener("submit", (event) => {
  event.preventDefault();
  const labels = $("labels").value.split(",").map((label) => label.trim()).filter(Boolean);
  fill("classes", "/classify", { images: state.shown.image, labels }, labelTable);
});
$("towards").addEventListener("submit", (event) => {
  event.preventDefault();
  const from = state.shown.id ? { product: state.shown.id } : { image: state.shown.image };
  fill("path", "/recommend", { ...from, text: $("towards-text").value, thumbnail: THUMBNAIL }, pathList);
});
start();
