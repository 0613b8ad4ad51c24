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

  function say(text) {
    const place = document.createElement("div");
    place.className = "panel notice";
    place.setAttribute("role", "alert");
    place.append(Object.assign(document.createElement("p"), { textContent: text }));
    panel().replaceChildren(place);
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
    const wanted = { channelCount: 1, echoCancellation: false, noiseSuppression: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    const context = new AudioContext();
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([TAKER], { type: "text/javascript" })));
    const source = { stream, context, parts: [], samples: 0, lost: 0 };
    const taker = new AudioWorkletNode(context, "taker", { numberOfOutputs: 0 });
    taker.port.onmessage = (event) => keep(source, event.data);
    context.createMediaStreamSource(stream).connect(taker);
    await context.resume();
    stream.getTracks()[0].onended = () => {
      if (listening === source) stop("The microphone is gone. Plug it in, and press Start again.");
    };
    return source;
  }

  function close(source) {
    source.stream.getTracks().forEach((track) => track.stop());
    source.context.close();
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
      if (listening === source) panel().innerHTML = html;
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
    name(document.getElementById("listen"), "Stop");
    source.loop = listen(source).catch((error) => stop(trouble(error)));
  }

  async function stop(problem) {
    const source = listening;
    if (!source) return;
    listening = null;
    name(document.getElementById("listen"), "Start");
    close(source);
    if (problem) return say(problem);
    try {
      await source.loop;
      if (source.samples) await send("hear", take(source));
      panel().innerHTML = await send("stop");
    } catch (error) {
      say(trouble(error));
    }
  }

  document.addEventListener("click", async (event) => {
    if (busy || !event.target.closest?.("#listen")) return;
    busy = true;
    await (listening ? stop() : start());
    busy = false;
  });
  addEventListener("pagehide", () => {
    if (listening) close(listening);
    listening = null;
    navigator.sendBeacon(`live/forget?visitor=${visitor}`);
  });
})();
