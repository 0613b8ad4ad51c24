// The page: a spotter's file, the microphone, and what is heard.

import { Listener } from "./listener.js";
import { NotASpotter } from "./metadata.js";
import { openMicrophone } from "./microphone.js";
import { load } from "./model.js";

const DEFAULT = "spotter.onnx";
const QUIETEST = -70; // dB of full scale at the meter's left end
const SILENT_FOR = 3; // s of nothing at all, after which the microphone is likely to be muted
const BEHIND = 5; // s of sound that may wait for its scores
const SHOWN = 200; // hits
const LIT = 1500; // ms
const IDLE = "Not listening.";

const element = (id) => document.getElementById(id);
const names = ["toggle", "pick", "level", "status", "problem", "words", "hits"];
const [toggle, pick, level, status, problem, words, hits] = names.map(element);

let spotter = null;
let session = null; // while it listens

/** One run from Start to Stop: blocks wait here while the windows before them are scored. */
class Session {
  waiting = [];
  work = null; // a promise, while windows are scored
  muted = 0; // s of nothing at all
  left = 0; // s of sound that was left out
  began = null; // the clock's time at the first sample
  scored = { windows: 0, time: 0 };

  constructor() {
    this.listener = new Listener({ ...spotter, score: (window) => this.#timed(window) });
  }

  async #timed(window) {
    const start = performance.now();
    const scores = await spotter.score(window);
    this.scored.windows++;
    this.scored.time += performance.now() - start;
    await breath();
    return scores;
  }

  async hear(block) {
    const seconds = block.length / spotter.sampleRate;
    this.began ??= Date.now() - 1000 * seconds;
    this.muted = block.every((sample) => sample === 0) ? this.muted + seconds : 0;
    this.waiting.push(block);
    this.work ??= this.#work().finally(() => (this.work = null));
    await this.work;
  }

  async #work() {
    while (this.waiting.length) show(this, await this.listener.hear(this.#next(), bars));
  }

  /** After the last block: what the end decides. */
  async finish() {
    await this.work;
    show(this, await this.listener.finish());
  }

  /** All that waits, in one; where that is too much, silence of the same length, which costs nothing. */
  #next() {
    const block = new Float32Array(this.waiting.reduce((sum, each) => sum + each.length, 0));
    const seconds = block.length / spotter.sampleRate;
    let at = 0;
    if (seconds > BEHIND) this.left += seconds;
    else for (const each of this.waiting) block.set(each, at), (at += each.length);
    this.waiting = [];
    return block;
  }
}

/** Lets the page draw and answer between two windows. Unlike a timer, a message is not late in a hidden tab. */
function breath() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

function say(text) {
  if (status.textContent !== text) status.textContent = text;
}

function complain(text) {
  problem.textContent = text;
  problem.hidden = !text;
}

/** While a file is loaded or the microphone is opened, nothing else can be begun. */
function wait(text) {
  toggle.disabled = pick.disabled = true;
  say(text);
}

function ready(text) {
  toggle.disabled = !spotter;
  pick.disabled = false;
  if (text) say(text);
}

function clock(seconds) {
  const tenths = Math.round(10 * seconds);
  return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
}

function made(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

/** A line for each word: its name, a bar with the threshold on it, the score. */
function list() {
  words.replaceChildren(
    ...spotter.words.map((word, number) => {
      const line = made("li", ""), bar = made("div", "bar"), mark = made("b", "threshold");
      const threshold = spotter.thresholds[number];
      mark.style.left = `${100 * threshold}%`;
      bar.append(made("i", ""), mark);
      bar.setAttribute("role", "meter");
      bar.setAttribute("aria-label", `score of ${word}, threshold ${threshold}`);
      bar.setAttribute("aria-valuemin", 0);
      bar.setAttribute("aria-valuemax", 1);
      line.append(made("span", "word", word), bar, made("span", "score"));
      line.title = `A hit from ${threshold} on.`;
      return line;
    }),
  );
  element("legend").hidden = false;
  bars(new Float32Array(spotter.words.length));
}

function bars(scores) {
  [...words.children].forEach((line, number) => {
    const [, bar, score] = line.children;
    bar.firstChild.style.width = `${100 * scores[number]}%`;
    bar.setAttribute("aria-valuenow", scores[number].toFixed(2));
    score.textContent = scores[number].toFixed(2);
  });
}

function meter(decibels) {
  const shown = Math.max(QUIETEST, Math.min(0, decibels));
  level.firstChild.style.width = `${100 * (1 - shown / QUIETEST)}%`;
  level.setAttribute("aria-valuenow", Math.round(shown));
}

function tooSlow(seconds) {
  return (
    `This device is too slow for all of the sound: ${Math.round(seconds)} s were left out. ` +
    "Other programs or tabs may keep it busy."
  );
}

function show(run, found) {
  if (session === run) {
    meter(run.listener.loudness.level);
    const { windows, time } = run.scored;
    element("cost").textContent = windows < 10 ? "" : `${Math.round(time / windows)} ms a window.`;
    const muted = run.muted > SILENT_FOR;
    const listening = `Listening, ${clock(run.listener.seconds).slice(0, -2)}.`; // whole seconds
    say(muted ? "The microphone gives no sound at all: is it muted?" : listening);
    if (run.left) complain(tooSlow(run.left));
  }
  for (const hit of found) {
    const line = made("li", "");
    const time = made("time", "", new Date(run.began + 1000 * hit.time).toLocaleTimeString([], { hourCycle: "h23" }));
    const [at, score] = [made("span", "at", clock(hit.time)), made("span", "score", hit.score.toFixed(2))];
    line.append(at, made("strong", "word", hit.word), score, time);
    hits.prepend(line);
    while (hits.children.length > SHOWN) hits.lastChild.remove();
    const word = words.children[spotter.words.indexOf(hit.word)];
    word.classList.add("hit");
    setTimeout(() => word.classList.remove("hit"), LIT);
  }
  hits.hidden = !hits.children.length;
  element("nothing").hidden = !hits.hidden;
}

async function start() {
  complain("");
  wait("Waiting for the microphone …");
  const run = new Session();
  try {
    const heard = (block) => run.hear(block).catch(fail);
    run.microphone = await openMicrophone(spotter.sampleRate, heard, stop);
  } catch (error) {
    complain(error.message);
    return ready(IDLE);
  }
  session = run;
  element("source").textContent = `Microphone: ${run.microphone.label || "not named by the browser"}.`;
  hits.replaceChildren();
  show(run, []);
  toggle.textContent = "Stop";
  toggle.classList.add("on");
  ready();
}

async function stop(sentence = "") {
  const run = session;
  if (!run) return;
  session = null;
  wait("Stopping …");
  complain(sentence);
  await run.microphone.close();
  await run.finish().catch((error) => complain(broken(error)));
  toggle.textContent = "Start";
  toggle.classList.remove("on");
  meter(QUIETEST);
  bars(new Float32Array(spotter.words.length));
  ready(IDLE);
}

function fail(error) {
  stop(broken(error));
}

function broken(error) {
  return `The scores could not be computed (${error.message}).`;
}

/** Makes a file the page's spotter; a file that is not one leaves the one before. */
async function use(name, file) {
  await stop();
  complain("");
  wait(`Loading ${name} …`);
  try {
    const before = spotter;
    spotter = await load(await file());
    before?.release();
    list();
    hits.replaceChildren();
    element("cost").textContent = "";
    const count = spotter.words.length === 1 ? "1 word" : `${spotter.words.length} words`;
    element("file").textContent = `${name}: ${count}, ${spotter.precision}.`;
  } catch (error) {
    complain(error instanceof NotASpotter ? `'${name}' is not a spotter: ${error.message}.` : error.message);
  }
  ready(spotter ? IDLE : "No spotter is loaded.");
}

async function fetched() {
  const answer = await fetch(DEFAULT);
  if (answer.ok) return answer.arrayBuffer();
  throw new Error(
    `There is no ${DEFAULT} beside this page: run 'make web' in the project's folder, or choose another file below.`,
  );
}

toggle.addEventListener("click", () => (session ? stop() : start()));
pick.addEventListener("change", () => {
  const [file] = pick.files;
  if (file) use(file.name, () => file.arrayBuffer());
  pick.value = ""; // so that the same file can be chosen again
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file && !pick.disabled) use(file.name, () => file.arrayBuffer());
});
use(DEFAULT, fetched);
