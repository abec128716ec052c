// Shows /openapi.json: every request with the keys of its body.
"use strict";

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function kind(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.enum || schema.const) return (schema.enum ?? [schema.const]).join(" or ");
  return schema.type === "array" ? `list of ${kind(schema.items ?? {})}` : schema.type ?? "any";
}

function keys(schema) {
  const rows = Object.entries(schema.properties).map(([name, item]) => {
    const needed = (schema.required ?? []).includes(name);
    return element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, kind(item)),
      element("td", {}, needed ? "required" : JSON.stringify(item.default ?? null)), element("td", {}, item.description ?? ""));
  });
  const head = ["key", "type", "default", "meaning"].map((name) => element("th", { scope: "col" }, name));
  return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
}

async function start() {
  const schema = await (await fetch("/openapi.json")).json();
  const parts = [];
  for (const [path, methods] of Object.entries(schema.paths)) {
    for (const [method, about] of Object.entries(methods)) {
      parts.push(element("h2", {}, `${method.toUpperCase()} ${path}`), element("p", {}, about.description ?? ""));
      const body = about.requestBody?.content?.["application/json"]?.schema;
      if (body) parts.push(keys(schema.components.schemas[kind(body)]));
    }
  }
  document.getElementById("paths").replaceChildren(...parts);
}

start();
