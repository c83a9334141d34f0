// The chat of the page at /. Model output is only ever put in as text, or as what /render escaped.
"use strict";

const OPEN = "<think>";
const CLOSE = "</think>";
const FINAL = "Final Answer:";
const PART = 16000; // characters that /render is sent at once

// A completion as {thinking, answer}. With tags: what is before the last closing one. Without, and
// once it is `done`: what is before the final answer, or before the paragraph that boxes it.
function split(text, done) {
  const closed = text.lastIndexOf(CLOSE);
  const started = text.trimStart();
  if (closed >= 0) {
    return { thinking: untagged(text.slice(0, closed)), answer: text.slice(closed + CLOSE.length).trimStart() };
  }
  if (started.startsWith(OPEN)) return { thinking: untagged(text), answer: "" };
  if (!done) {
    const tag = started && OPEN.startsWith(started); // the beginning of a tag, perhaps
    return { thinking: "", answer: tag ? "" : text };
  }
  const at = answerStart(text);
  return { thinking: text.slice(0, at).trim(), answer: text.slice(at).trimStart() };
}

function untagged(text) {
  return text.replaceAll(OPEN, "").replaceAll(CLOSE, "").trimStart();
}

function answerStart(text) {
  const final = text.lastIndexOf(FINAL);
  if (final >= 0) return final;
  let at = Math.max(text.lastIndexOf("\\boxed{"), text.lastIndexOf("\\fbox{"));
  if (at < 0) return 0;
  for (const [open, close] of [["\\[", "\\]"], ["\\(", "\\)"]]) { // not in the middle of a formula
    const opened = text.lastIndexOf(open, at);
    if (opened > text.lastIndexOf(close, at)) at = opened;
  }
  const dollars = text.slice(0, at).split("$$").length - 1;
  if (dollars % 2) at = text.lastIndexOf("$$", at);
  const paragraph = text.lastIndexOf("\n\n", at);
  if (at - paragraph <= 600) return Math.max(0, paragraph);
  const line = text.lastIndexOf("\n", at);
  return at - line <= 600 ? Math.max(0, line) : at;
}

// Text in parts of at most `most` characters, cut between paragraphs where there are any.
function parts(text, most) {
  const out = [];
  while (text.length > most) {
    let at = text.lastIndexOf("\n\n", most);
    if (at <= 0) at = text.lastIndexOf("\n", most);
    if (at <= 0) at = most;
    out.push(text.slice(0, at));
    text = text.slice(at);
  }
  return [...out, text];
}

// The events of a response's body, one JSON value after another.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    const lines = (rest + (value ?? "")).split(/\r?\n/);
    rest = done ? "" : lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
    if (done) throw new Error("The connection broke off before the answer was complete.");
  }
}

function start() {
  const $ = (id) => document.getElementById(id);
  const [form, question, send, stop, chat] = ["ask", "question", "send", "stop", "chat"].map($);
  const html = window.trustedTypes?.createPolicy("rendered", { createHTML: (text) => text });
  const model = document.body.dataset.model;
  let messages = [];
  let running = null; // the AbortController of the answer under way

  const element = (tag, name, text = "") =>
    Object.assign(document.createElement(tag), { className: name, textContent: text });

  // ---- the endpoint

  async function call(path, body, signal) {
    const headers = { "Content-Type": "application/json" };
    const key = $("key").value.trim();
    if (key) headers.Authorization = `Bearer ${key}`;
    let response;
    try {
      response = await fetch(path, body
        ? { method: "POST", headers, body: JSON.stringify(body), signal }
        : { headers, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      if (error instanceof TypeError && /header|ByteString|ISO-8859/i.test(error.message)) {
        throw new Error("The API key has characters that no key has.");
      }
      throw new Error("The server cannot be reached.");
    }
    if (response.ok) return response;
    const told = await response.json().catch(() => null);
    let message = told?.error?.message ?? `The server answered with ${response.status}.`;
    const after = response.headers.get("Retry-After");
    if (after && !/\d s\b/.test(message)) message += ` (try again in ${after} s)`;
    if (response.status === 401) {
      $("keyline").hidden = false;
      message = key ? "The server does not know this API key." : "This server asks for an API key.";
    }
    throw Object.assign(new Error(message), { status: response.status });
  }

  async function setMaths(node, text) {
    try {
      const pieces = [];
      for (const part of parts(text, PART)) {
        pieces.push((await (await call("render", { text: part })).json()).html);
      }
      const whole = pieces.join("");
      node.innerHTML = html ? html.createHTML(whole) : whole; // /render has escaped it
    } catch {
      // it stays as plain text, which it is already
    }
  }

  // ---- one answer

  function card(asked) {
    const mine = element("li", "question text");
    mine.append(element("span", "unseen", "You: "), element("span", "", asked));
    setMaths(mine.lastChild, asked);
    const item = element("li", "answer");
    item.append(element("span", "unseen", `${model}: `));
    const pending = element("p", "pending", "Waiting for the model");
    item.append(pending);
    item.setAttribute("aria-busy", "true");
    chat.append(mine, item);
    const began = performance.now();
    const fold = element("details", "think busy");
    fold.append(element("summary", "", "Thinking"), element("div", "text"));
    const body = element("div", "text");
    let thought = null; // seconds until the answer began
    let touched = false;
    fold.firstChild.addEventListener("click", () => { touched = true; });

    function show({ thinking, answer }) {
      if (pending.parentNode && (thinking.trim() || answer.trim())) pending.replaceWith(body);
      if (thinking.trim() && !fold.parentNode) {
        body.before(fold);
        fold.open = true;
      }
      if (thinking.trim() && answer.trim() && thought === null) {
        thought = (performance.now() - began) / 1000;
        fold.classList.remove("busy");
        if (!fold.hasAttribute("data-plain")) fold.firstChild.textContent = `Thinking, ${thought.toFixed(1)} s`;
        if (!touched) fold.open = false;
      }
      const box = fold.lastChild; // it scrolls by itself, and follows its end like the page
      const follow = box.scrollTop + box.clientHeight >= box.scrollHeight - 60;
      grow(box, thinking);
      if (follow) box.scrollTop = box.scrollHeight;
      grow(body, answer);
    }

    // Adds what is new at the end: a long text is not laid out anew with every token.
    function grow(node, text) {
      const shown = node.textContent;
      if (shown === text) return;
      if (shown && text.startsWith(shown)) node.firstChild.appendData(text.slice(shown.length));
      else node.textContent = text;
    }

    async function finish(text, told, { usage, reason, stopped, trouble }) {
      const both = told ? { thinking: told, answer: text } : split(text, true);
      const seconds = (performance.now() - began) / 1000;
      if (pending.parentNode) pending.replaceWith(body);
      // of a plain chain of thought only its end tells where the answer began, and nothing tells when
      if (!fold.parentNode) fold.dataset.plain = "";
      show(both);
      fold.classList.remove("busy");
      if (thought !== null && !touched) fold.open = false;
      item.removeAttribute("aria-busy");
      const facts = element("p", "facts");
      const count = usage?.completion_tokens;
      const pieces = [`${seconds.toFixed(1)} s`];
      if (count) pieces.unshift(`${count} tokens`, `${(count / seconds).toFixed(0)} per second`);
      facts.textContent = pieces.join(" · ");
      const cut = stopped ? "stopped" : reason === "length" ? "cut off at the limit of tokens" : "";
      if (cut) facts.append(" · ", element("span", "cut", cut));
      item.append(facts);
      if (trouble) item.append(Object.assign(element("p", "callout error", trouble), { role: "alert" }));
      await setMaths(body, both.answer);
      let set = false; // thinking may be long: formulas are set when somebody looks
      const look = () => {
        if (!fold.open || set) return;
        set = true;
        setMaths(fold.lastChild, both.thinking);
      };
      fold.addEventListener("toggle", look);
      look();
      return both.answer;
    }
    return { show, finish, remove: () => { mine.remove(); item.remove(); } };
  }

  // Follows the end of the page while the reader is there.
  function following() {
    return innerHeight + scrollY >= document.documentElement.scrollHeight - 120;
  }
  const toEnd = () => scrollTo(0, document.documentElement.scrollHeight);

  function settings() {
    const values = {};
    for (const input of $("settings").querySelectorAll("input")) {
      if (!input.checkValidity()) {
        $("settings").open = true;
        input.focus();
        throw new Error(`${input.parentNode.firstChild.textContent.trim()}: ${input.validationMessage}`);
      }
      if (input.value !== "") values[input.name] = Number(input.value);
    }
    return values;
  }

  function trouble(message) {
    $("trouble").textContent = message.charAt(0).toUpperCase() + message.slice(1);
    $("trouble").hidden = !message;
  }

  async function ask() {
    const asked = question.value.trim();
    if (!asked || running) return;
    let values;
    try {
      values = settings();
    } catch (error) {
      trouble(error.message);
      return;
    }
    trouble("");
    running = new AbortController();
    $("hello").hidden = true;
    $("new").hidden = send.hidden = true;
    stop.hidden = false;
    question.value = "";
    fit();
    const answer = card(asked);
    toEnd();
    $("said").textContent = "The model is answering";
    let [text, told, usage, reason, failed, stopped] = ["", "", null, null, null, false];
    let due = false;
    const draw = () => {
      due = false;
      if (!running) return;
      const follow = following();
      answer.show(told ? { thinking: told, answer: text } : split(text, false));
      if (follow) toEnd();
    };
    try {
      const response = await call("v1/chat/completions", {
        model, messages: [...messages, { role: "user", content: asked }],
        stream: true, stream_options: { include_usage: true }, ...values,
      }, running.signal);
      for await (const event of events(response.body)) {
        if (event.error) throw new Error(event.error.message ?? "The server failed.");
        usage = event.usage ?? usage;
        const choice = event.choices?.[0];
        text += choice?.delta?.content ?? "";
        told += choice?.delta?.reasoning ?? choice?.delta?.reasoning_content ?? "";
        reason = choice?.finish_reason ?? reason;
        if (!due) {
          due = true;
          requestAnimationFrame(draw);
        }
      }
    } catch (error) {
      stopped = error.name === "AbortError";
      if (!stopped) failed = error;
    }
    running = null;
    const follow = following();
    if (failed && !text && !told) { // nothing came of it: the question goes back to where it was
      answer.remove();
      question.value = question.value || asked;
      fit();
      trouble(failed.message);
      $("said").textContent = "";
      $("hello").hidden = chat.children.length > 0;
      if (failed.status === 401) $("key").focus();
    } else {
      const settled = answer.finish(text, told, { usage, reason, stopped, trouble: failed?.message });
      const kept = told ? text : split(text, true).answer;
      // as in training, thinking is no part of the turns before
      if (kept.trim()) messages.push({ role: "user", content: asked }, { role: "assistant", content: kept });
      $("said").textContent = stopped ? "Stopped" : failed ? "" : "The answer is complete";
      settled.then(() => follow && toEnd());
    }
    stop.hidden = true;
    send.hidden = false;
    $("new").hidden = !chat.children.length;
    if (failed?.status !== 401) question.focus();
  }

  // ---- the form

  function fit() {
    question.style.height = "auto"; // set by script, which the policy allows
    question.style.height = `${question.scrollHeight + 2}px`;
    send.disabled = !question.value.trim();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  question.addEventListener("input", fit);
  question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") running?.abort();
  });
  stop.addEventListener("click", () => running?.abort());
  $("new").addEventListener("click", () => {
    messages = [];
    chat.replaceChildren();
    trouble("");
    $("hello").hidden = false;
    $("new").hidden = true;
    question.focus();
  });
  for (const button of document.querySelectorAll(".try")) {
    button.addEventListener("click", () => {
      question.value = button.textContent;
      fit();
      question.focus();
    });
  }

  // ---- is the model there, is a key needed

  async function look() {
    const answer = await fetch("ready").catch(() => null);
    const state = $("state");
    state.textContent = answer?.ok ? "ready" : answer ? "the model is not ready yet" : "the server is away";
    state.className = answer?.ok ? "state" : "state wait";
    state.hidden = false;
    setTimeout(look, answer?.ok ? 60000 : 3000);
  }

  async function tryKey() {
    try {
      await call("v1/models");
      trouble("");
    } catch (error) {
      if (error.status !== 401) return; // readiness is told elsewhere
      trouble(error.message);
      $("key").focus();
    }
  }

  $("key").value = sessionStorage.getItem("key") ?? "";
  $("keyline").hidden = !$("key").value;
  $("key").addEventListener("change", () => {
    sessionStorage.setItem("key", $("key").value.trim());
    tryKey();
  });
  question.focus();
  tryKey();
  look();
  fit();
}

if (typeof document !== "undefined") start();
