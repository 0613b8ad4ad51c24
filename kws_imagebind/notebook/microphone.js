// Records from the microphone and hands the kernel a WAV file: 16 bits, one channel.

const HEADER = 44; // bytes

function wav(samples, rate) {
  const view = new DataView(new ArrayBuffer(HEADER + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, HEADER - 8 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // bytes of this chunk
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channel
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, i) => view.setInt16(HEADER + 2 * i, Math.max(-1, Math.min(1, value)) * 32767, true));
  return view;
}

async function record(seconds) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  try {
    const recorder = new MediaRecorder(stream);
    const parts = [];
    recorder.ondataavailable = (event) => parts.push(event.data);
    const stopped = new Promise((resolve) => (recorder.onstop = resolve));
    recorder.start();
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    recorder.stop();
    await stopped;
    const context = new AudioContext();
    const sound = await context.decodeAudioData(await new Blob(parts).arrayBuffer());
    await context.close();
    return wav(sound.getChannelData(0), sound.sampleRate);
  } finally {
    stream.getTracks().forEach((track) => track.stop());
  }
}

function render({ model, el }) {
  const button = document.createElement("button");
  const state = document.createElement("span");
  const player = document.createElement("audio");
  button.textContent = "● Record";
  button.style.cssText = "padding: 6px 14px; margin-right: 10px";
  state.setAttribute("role", "status");
  player.controls = true;
  player.style.cssText = "display: none; margin-top: 8px; height: 36px";
  button.onclick = async () => {
    button.disabled = true;
    state.textContent = `speak now, for ${model.get("seconds")} seconds`;
    try {
      const sound = await record(model.get("seconds"));
      model.set("wav", sound);
      model.save_changes();
      player.src = URL.createObjectURL(new Blob([sound], { type: "audio/wav" }));
      player.style.display = "block";
      state.textContent = "recorded; run the next cell";
    } catch (error) {
      state.textContent = `the microphone is not available (${error.message}); allow it in the browser, or use a file`;
    }
    button.disabled = false;
  };
  el.append(button, state, player);
}

export default { render };
