// The microphone, as blocks of samples at one rate.

import { Resampler } from "./resampler.js";

/** What keeps the microphone from being heard, and what helps, as a sentence for the user. */
export class NoMicrophone extends Error {}

const SENTENCES = {
  NotAllowedError:
    "The microphone was refused. Allow it for this page, in the browser's settings or beside the address, and press " +
    "Start again.",
  NotFoundError: "No microphone was found. Connect one and press Start again.",
  NotReadableError:
    "The microphone cannot be read: another program may be using it. Close that program and press Start again.",
};

// The spotter learnt from sound as it was recorded.
const AS_IT_IS = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/**
 * @param {number} sampleRate in hertz, of the blocks.
 * @param {(block: Float32Array) => void} heard
 * @param {(sentence: string) => void} lost when the microphone is gone; it is closed then.
 * @returns its `label` and `close()`.
 * @throws {NoMicrophone}
 */
export async function openMicrophone(sampleRate, heard, lost) {
  const stream = await ask();
  const { context, source } = connect(stream, sampleRate);
  let closed = false;
  const close = () => {
    closed = true;
    stream.getTracks().forEach((track) => track.stop());
    return context.state === "closed" ? Promise.resolve() : context.close();
  };
  const lose = (sentence) => {
    if (closed) return;
    close();
    lost(sentence);
  };
  try {
    await context.audioWorklet.addModule(new URL("capture.js", import.meta.url));
    await context.resume();
    const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 1 });
    const resampler = context.sampleRate === sampleRate ? null : new Resampler(context.sampleRate, sampleRate);
    capture.port.onmessage = ({ data }) => closed || heard(resampler ? resampler.add(data) : data);
    source.connect(capture).connect(context.destination); // silence; some browsers run only what leads there
  } catch (error) {
    close();
    throw error;
  }
  const [track] = stream.getAudioTracks();
  track.onended = () => lose("The microphone is gone: it was unplugged, or its permission was taken back.");
  context.onstatechange = () => {
    if (context.state === "running") return;
    lose("The browser has stopped the sound, as for a telephone call. Press Start to go on.");
  };
  return { label: track.label, close };
}

async function ask() {
  if (!window.isSecureContext) {
    throw new NoMicrophone(
      "Browsers give the microphone only to a page at https:// or at localhost. Open this page at such an address.",
    );
  }
  if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) {
    throw new NoMicrophone("This browser gives pages no microphone. A current Firefox, Chrome, Edge or Safari does.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: AS_IT_IS });
  } catch (error) {
    const sentence = SENTENCES[error.name] ?? `The microphone cannot be used (${error.message}).`;
    throw new NoMicrophone(sentence, { cause: error });
  }
}

/** Firefox does not take a microphone into a context of another rate than its own; the page converts it there. */
function connect(stream, sampleRate) {
  for (const options of [{ sampleRate }, {}]) {
    let context;
    try {
      context = new AudioContext(options);
      return { context, source: context.createMediaStreamSource(stream) };
    } catch (error) {
      context?.close();
      if (options.sampleRate) continue;
      stream.getTracks().forEach((track) => track.stop());
      throw new NoMicrophone(`The microphone's sound cannot be read (${error.message}).`, { cause: error });
    }
  }
}
