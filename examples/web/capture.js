// In the browser's thread of sound: gathers the microphone's samples and posts them to the page.

const BLOCK = 0.05; // s

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(Math.round(BLOCK * sampleRate));
    this.filled = 0;
  }

  process([channels]) {
    const frames = channels[0]?.length ?? 0;
    for (let frame = 0; frame < frames; frame++) {
      let sum = 0;
      for (const channel of channels) sum += channel[frame];
      this.block[this.filled++] = sum / channels.length;
      if (this.filled === this.block.length) {
        this.port.postMessage(this.block); // a copy
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
