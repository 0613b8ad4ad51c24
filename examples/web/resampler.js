// Sound at another sample rate, by windowed-sinc interpolation, block after block without seams. For browsers that do
// not convert the microphone's rate themselves.

const CROSSINGS = 6; // of zero by the sinc, to either side
const ROLL_OFF = 0.99; // of the lower rate's highest frequency

export class Resampler {
  #step; // so many samples ...
  #out; // ... become so many
  #reach; // samples that the filter reaches to either side
  #filters; // one for each of the `out` places between two samples
  #held; // samples that are still needed
  #first; // the number of the first of them in the stream
  #next = 0; // the number of the next sample to give

  /** Both rates in whole hertz. */
  constructor(fromRate, toRate) {
    const common = divisor(fromRate, toRate);
    [this.#step, this.#out] = [fromRate / common, toRate / common];
    const base = ROLL_OFF * Math.min(fromRate, toRate) / fromRate; // zero crossings a sample
    this.#reach = Math.ceil(CROSSINGS / base);
    const fraction = (place) => ((place * this.#step) % this.#out) / this.#out; // of a sample, that it lies after one
    this.#filters = Array.from({ length: this.#out }, (_, place) => this.#filter(fraction(place), base));
    this.#held = new Float32Array(this.#reach); // silence before the stream
    this.#first = -this.#reach;
  }

  #filter(fraction, base) {
    return Float32Array.from({ length: 2 * this.#reach + 1 }, (_, tap) => {
      const time = (tap - this.#reach - fraction) * base;
      if (Math.abs(time) >= CROSSINGS) return 0;
      const hann = Math.cos((Math.PI * time) / (2 * CROSSINGS)) ** 2;
      return base * hann * (time === 0 ? 1 : Math.sin(Math.PI * time) / (Math.PI * time));
    });
  }

  /** Float32Array -> Float32Array: what is ready with a block. */
  add(block) {
    this.#held = joined(this.#held, block);
    const end = this.#first + this.#held.length;
    const count = Math.max(0, Math.ceil(((end - this.#reach) * this.#out) / this.#step) - this.#next);
    const given = new Float32Array(count);
    for (let each = 0; each < count; each++) {
      const number = this.#next + each;
      const start = Math.floor((number * this.#step) / this.#out) - this.#reach - this.#first;
      const filter = this.#filters[number % this.#out];
      let sum = 0;
      for (let tap = 0; tap < filter.length; tap++) sum += filter[tap] * this.#held[start + tap];
      given[each] = sum;
    }
    this.#next += count;
    const done = Math.floor((this.#next * this.#step) / this.#out) - this.#reach - this.#first;
    this.#held = this.#held.slice(done);
    this.#first += done;
    return given;
  }
}

/** Two stretches of samples as one. */
export function joined(one, other) {
  const both = new Float32Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

function divisor(one, other) {
  return other ? divisor(other, one % other) : one;
}
