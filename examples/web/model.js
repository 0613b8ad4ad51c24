// The network: windows of sound to the scores of words, computed by onnxruntime-web in WebAssembly.

import { describe, NotASpotter } from "./metadata.js";

const RUNTIME = new URL("vendor/", import.meta.url);

/** What the page cannot do, and what helps, as a sentence for the user. */
export class CannotRun extends Error {}

/**
 * @param {ArrayBuffer} file
 * @returns what the file says of itself (see `describe`), `score(window)`, which promises a score for each word, and
 *   `release()`.
 * @throws {NotASpotter | CannotRun}
 */
export async function load(file) {
  const about = describe(new Uint8Array(file));
  const ort = await runtime();
  let session;
  try {
    const options = { executionProviders: ["wasm"], logSeverityLevel: 3 };
    session = await ort.InferenceSession.create(new Uint8Array(file), options);
  } catch (error) {
    if (/wasm|webassembly|simd/i.test(error.message)) {
      throw new CannotRun(`WebAssembly could not be started in this browser (${error.message}).`, { cause: error });
    }
    throw new NotASpotter(`onnxruntime cannot read it (${error.message})`, { cause: error });
  }
  return {
    ...about,
    async score(window) {
      const waveforms = new ort.Tensor("float32", window, [1, window.length]);
      const { scores } = await session.run({ waveforms }, ["scores"]);
      return scores.data;
    },
    release: () => session.release(),
  };
}

async function runtime() {
  if (typeof WebAssembly !== "object") {
    throw new CannotRun(
      "This browser has no WebAssembly, which computes the scores. A current browser has it, unless it is switched " +
        "off, as in Lockdown Mode.",
    );
  }
  let ort;
  try {
    ort = await import(new URL("ort.wasm.min.mjs", RUNTIME));
  } catch (error) {
    const sentence = "onnxruntime-web is missing in the folder vendor/: run 'make web' in the project's folder.";
    throw new CannotRun(sentence, { cause: error });
  }
  ort.env.wasm.wasmPaths = RUNTIME.href;
  ort.env.wasm.numThreads = 1; // more need a server that isolates the page from other origins
  return ort;
}
