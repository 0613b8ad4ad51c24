// Sends what the microphone hears to the demo, and shows the panel that comes back. The next block is sent when the
// last one is answered: on a slow machine blocks grow longer, and nothing is lost until MOST seconds wait.
(() => {
  const EVERY = 500; // ms between blocks
  const MOST = 10; // s that may wait
  const TAKER = `registerProcessor("taker", class extends AudioWorkletProcessor {
    process(inputs) {
      if (inputs[0].length) this.port.postMessage(inputs[0][0].slice());
      return true;
    }
  });`;
  const numbers = Array.from(crypto.getRandomValues(new Uint8Array(16)));
  const visitor = numbers.map((each) => each.toString(16).padStart(2, "0")).join("");
  const field = (selector) => document.querySelector(selector)?.value ?? "";
  const panel = () => document.getElementById("live-panel");
  const wait = (time) => new Promise((done) => setTimeout(done, time));

  let listening = null; // {stream, context, parts, samples, lost}, while the microphone is on
  let busy = false; // from a press of the button until it has done its work

  // The alert stands outside the panel, and changes only with its text: a screen reader reads each change aloud.
  function alarm(texts) {
    const place = document.getElementById("live-alert");
    if (Array.from(place.querySelectorAll("p"), (each) => each.textContent).join("\n") === texts.join("\n")) return;
    const notice = Object.assign(document.createElement("div"), { className: "panel notice" });
    notice.append(...texts.map((text) => Object.assign(document.createElement("p"), { textContent: text })));
    place.replaceChildren(...(texts.length ? [notice] : []));
  }

  function say(text) {
    panel().querySelector(".hint")?.remove();
    alarm([text]);
  }

  function show(html, problem) {
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    const alerts = Array.from(fresh.content.querySelectorAll("[data-alert]"));
    alerts.forEach((each) => each.remove());
    panel().replaceChildren(fresh.content);
    alarm([...(problem ? [problem] : []), ...alerts.map((each) => each.textContent.trim())]);
  }

  function reason(error) {
    if (!navigator.mediaDevices) return "Browsers allow the microphone only on the demo's own computer, or over HTTPS.";
    const known = {
      NotAllowedError: "The browser does not allow the microphone. Allow it beside the address, and press Start again.",
      NotFoundError: "The browser finds no microphone. Plug one in, and press Start again.",
      NotReadableError: "The microphone cannot be read; another program may use it. Close that, and press Start again.",
    };
    return known[error.name] ?? `The microphone does not start: ${error.message}.`;
  }

  function trouble(error) {
    if (error.status === 503) return "Too many people are listening. Try again in a minute.";
    if (error.status) return "This is a fault of the demo, not yours. The terminal that runs it shows the details.";
    return "The demo does not answer. It may have ended; start it again.";
  }

  async function send(what, body) {
    const answer = await fetch(`live/${what}?visitor=${visitor}`, { method: "POST", body });
    if (!answer.ok) throw Object.assign(new Error(), { status: answer.status });
    return answer.text();
  }

  function take(source) {
    const sound = new Int16Array(source.samples);
    let at = 0;
    for (const part of source.parts) {
      for (const sample of part) sound[at++] = Math.max(-1, Math.min(1, sample)) * 32767;
    }
    const block = new FormData();
    block.append("sound", new Blob([sound]), "block");
    block.append("rate", source.context.sampleRate);
    block.append("words", field("#live-words textarea"));
    block.append("threshold", field("#threshold input[type=number]") || 0.5);
    block.append("lost", source.lost);
    Object.assign(source, { parts: [], samples: 0, lost: 0 });
    return block;
  }

  function keep(source, part) {
    source.parts.push(part);
    source.samples += part.length;
    while (source.samples > MOST * source.context.sampleRate) {
      const dropped = source.parts.shift();
      source.samples -= dropped.length;
      source.lost += dropped.length / source.context.sampleRate;
    }
  }

  async function open() {
    const wanted = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    const source = { stream, context: null, parts: [], samples: 0, lost: 0 };
    try {
      await connect(source);
    } catch (error) {
      close(source); // or the microphone would stay on
      throw error;
    }
    stream.getTracks()[0].onended = () => end(source, "The microphone is gone. Plug it in, and press Start again.");
    return source;
  }

  async function connect(source) {
    const context = (source.context = new AudioContext());
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([TAKER], { type: "text/javascript" })));
    const taker = new AudioWorkletNode(context, "taker", { numberOfOutputs: 0 });
    taker.port.onmessage = (event) => keep(source, event.data);
    context.createMediaStreamSource(source.stream).connect(taker);
    await context.resume();
  }

  function close(source) {
    source.stream.getTracks().forEach((track) => track.stop());
    source.context?.close();
  }

  function name(button, text) {
    button.textContent = text;
    button.classList.toggle("on", text === "Stop");
  }

  async function listen(source) {
    while (listening === source) {
      await wait(EVERY);
      if (listening !== source || !source.samples) continue;
      const html = await send("hear", take(source));
      if (listening === source) show(html);
    }
  }

  async function start() {
    let source;
    try {
      source = await open();
    } catch (error) {
      return say(reason(error));
    }
    try {
      await send("start");
    } catch (error) {
      close(source);
      return say(trouble(error));
    }
    listening = source;
    alarm([]);
    name(document.getElementById("listen"), "Stop");
    source.loop = listen(source).catch((error) => end(source, trouble(error), true));
  }

  // Where the loop is broken, it waits for this, and must not be waited for.
  async function stop(problem, broken = false) {
    const source = listening;
    if (!source) return;
    listening = null;
    name(document.getElementById("listen"), "Start");
    close(source);
    if (problem) say(problem);
    try {
      if (!broken) await source.loop;
      if (source.samples) await send("hear", take(source));
      show(await send("stop"), problem);
    } catch (error) {
      say(problem ?? trouble(error));
    }
  }

  async function work(action) {
    busy = true;
    try {
      await action();
    } finally {
      busy = false;
    }
  }

  // What ends a recording by itself. A recording that the visitor is ending goes on to its end.
  async function end(source, problem, broken) {
    if (listening === source) await work(() => stop(problem, broken));
  }

  document.addEventListener("click", async (event) => {
    if (busy || !event.target.closest?.("#listen")) return;
    await work(() => (listening ? stop() : start()));
  });
  addEventListener("pagehide", () => {
    if (listening) close(listening);
    listening = null;
    navigator.sendBeacon(`live/forget?visitor=${visitor}`);
  });
})();
