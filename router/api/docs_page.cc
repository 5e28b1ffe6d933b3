#include "router/api/docs_page.h"

namespace chorus::api {

const std::string_view kDocsPage = R"page(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Chorus API</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --get: #1a7f4b; --post: #1f5fbf; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; }
code, pre, textarea, input { font: 13px/1.45 ui-monospace, monospace; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; }
summary { cursor: pointer; padding: .5rem .75rem; display: flex; gap: .75rem; align-items: baseline; }
summary:hover { background: var(--soft); }
.method { color: #fff; border-radius: 4px; padding: 0 .5em; font-weight: 600; font-size: 12px; }
.get { background: var(--get); } .post { background: var(--post); }
.inside { padding: 0 .75rem .75rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .2rem .6rem .2rem 0; border-top: 1px solid var(--line); }
textarea { width: 100%; min-height: 8rem; box-sizing: border-box; }
pre { background: var(--soft); padding: .6rem; overflow: auto; max-height: 24rem; white-space: pre-wrap; }
.note { opacity: .7; }
input { width: 20rem; max-width: 100%; }
</style>
</head>
<body>
<h1>Chorus API</h1>
<p class="note" id="about">Reading /openapi.json …</p>
<p><label>API key, where the server asks for one: <input id="key" type="password" autocomplete="off"></label></p>
<main id="routes"></main>
<script>
"use strict";
const el = (tag, text, cls) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (cls) node.className = cls;
  return node;
};
const examples = {
  "/v1/chat/completions": {messages: [{role: "user", content: "What is the capital of France?"}], max_tokens: 50, temperature: 0},
  "/v1/completions": {prompt: "The capital of France is", max_tokens: 16, temperature: 0},
  "/v1/chat/render": {messages: [{role: "user", content: "Hello"}]},
  "/v1/tokenize": {prompt: "Hello world"},
  "/v1/detokenize": {tokens: [1, 2, 3]},
  "/chat_tokenize": {messages: [{role: "user", content: "Hello"}]},
  "/vertex": {instances: [{inputs: "The capital of France is", parameters: {max_new_tokens: 16}}]},
};
const nativeExample = {inputs: "The capital of France is", parameters: {max_new_tokens: 16, details: true}};

function typeOf(schema) {
  if (!schema) return "any";
  if (schema.anyOf) return schema.anyOf.map(typeOf).filter(t => t !== "null").join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return "array of " + typeOf(schema.items);
  let text = schema.type || "any";
  if (schema.enum) text = schema.enum.filter(v => v !== null).map(v => JSON.stringify(v)).join(" | ") || "null";
  const low = schema.minimum ?? schema.exclusiveMinimum;
  if (low !== undefined && Math.abs(low) < 1e9 || schema.maximum !== undefined && Math.abs(schema.maximum) < 1e9)
    text += " " + (low ?? "") + " … " + (schema.maximum ?? "");
  return text;
}
function objectOf(schema) {
  if (!schema) return null;
  if (schema.properties) return schema;
  for (const part of schema.anyOf || []) if (part.properties) return part;
  return null;
}
function fields(schema) {
  const object = objectOf(schema);
  if (!object) return el("p", typeOf(schema), "note");
  const table = el("table");
  for (const [name, field] of Object.entries(object.properties)) {
    const row = el("tr");
    const cell = el("td");
    cell.append(el("code", name + ((object.required || []).includes(name) ? " *" : "")));
    row.append(cell, el("td", typeOf(field), "note"), el("td", field.description || ""));
    table.append(row);
    const inner = objectOf(field);
    if (inner) for (const [key, part] of Object.entries(inner.properties)) {
      const line = el("tr");
      const at = el("td");
      at.append(el("code", "  " + name + "." + key));
      line.append(at, el("td", typeOf(part), "note"), el("td", part.description || ""));
      table.append(line);
    }
  }
  return table;
}
async function send(method, path, body, out) {
  out.textContent = "…";
  const headers = {};
  const key = document.getElementById("key").value;
  if (key) headers["Authorization"] = "Bearer " + key;
  if (body !== null) headers["Content-Type"] = "application/json";
  try {
    const answer = await fetch(path, {method, headers, body});
    const reader = answer.body.getReader();
    const decoder = new TextDecoder();
    out.textContent = answer.status + "\n";
    for (;;) {
      const {done, value} = await reader.read();
      if (done) break;
      out.textContent += decoder.decode(value, {stream: true});
    }
    const [status, ...rest] = out.textContent.split("\n");
    try { out.textContent = status + "\n" + JSON.stringify(JSON.parse(rest.join("\n")), null, 2); } catch { /* no JSON: shown as it is */ }
  } catch (error) {
    out.textContent = String(error);
  }
}
function draw(doc) {
  document.getElementById("about").textContent = doc.info.description + " Version " + doc.info.version + ".";
  for (const [path, methods] of Object.entries(doc.paths)) for (const [method, operation] of Object.entries(methods)) {
    const box = el("details");
    const head = el("summary");
    head.append(el("span", method.toUpperCase(), "method " + method), el("code", path), el("span", operation.summary, "note"));
    const inside = el("div", undefined, "inside");
    const schema = operation.requestBody?.content["application/json"].schema;
    let input = null;
    if (schema) {
      inside.append(el("h4", "Body"), fields(schema));
      input = el("textarea");
      input.value = JSON.stringify(examples[path] || nativeExample, null, 2);
      input.setAttribute("aria-label", "body");
    }
    inside.append(el("h4", "Answers"));
    const list = el("table");
    for (const [status, answer] of Object.entries(operation.responses)) {
      const row = el("tr");
      row.append(el("td", status), el("td", answer.description));
      list.append(row);
    }
    inside.append(list, el("h4", "Try it"));
    if (input) inside.append(input);
    const button = el("button", "Send");
    const out = el("pre");
    button.onclick = () => send(method.toUpperCase(), path.replace("{id}", ""), input ? input.value : null, out);
    inside.append(button, out);
    box.append(head, inside);
    document.getElementById("routes").append(box);
  }
}
async function load() {
  const key = document.getElementById("key").value;
  const answer = await fetch("/openapi.json", key ? {headers: {"Authorization": "Bearer " + key}} : {});
  if (!answer.ok) throw new Error("/openapi.json: " + answer.status + (answer.status === 401 ? " (give the API key above, then press Enter)" : ""));
  document.getElementById("routes").replaceChildren();
  draw(await answer.json());
}
const retry = () => load().catch(error => { document.getElementById("about").textContent = String(error); });
document.getElementById("key").onchange = retry;
retry();
</script>
</body>
</html>
)page";

}  // namespace chorus::api
