// Sound goes in, hits come out: the rules of `Listener` in kws_imagebind/spotting (windows.py, judge.py, hits.py).
//
// It differs in two respects. Each window hears only its own second when it looks for the quiet around a word, where
// `Listener` looks at 1.4 s. And the file gives a score for each window alone, so five windows' scores are averaged here,
// where `Listener` averages what the scores are made of (cosines and matches). Close to a threshold they can disagree.

import { joined } from "./resampler.js";

const FRAME = 0.01; // s, in which loudness is kept
const REMEMBERED = 20; // s of it
const MARGIN = 0.24; // s from the stream's ends, where a cut is heard as a sound
const LEAST = 0.01; // a lower score is none
const FAR_BELOW = 40; // dB below the loud parts of the last minute: not speech to this microphone
const LOUD = 0.95; // quantile of its windows' levels: its loud parts
const LOUD_FOR = 60; // s
const REFRACTORY = 0.5; // s after a hit without another one
const REACH = 0.25; // s from a window's middle to a word's loudest frame
const EDGE = 25; // dB below a word's loudest frame, where it begins and ends
const GAP = 8; // frames of less that do not end a word: the closure of a stop

/** Finds the words of a spotter in one stream, whatever the size of its blocks. */
export class Listener {
  /** @param spotter as `load` of model.js gives it. */
  constructor(spotter) {
    this.spotter = spotter;
    this.size = Math.round(spotter.window * spotter.sampleRate);
    this.hop = Math.round(spotter.hop * spotter.sampleRate);
    this.samples = 0; // of the stream so far
    this.held = new Float32Array(Math.floor(this.size / 2)); // from the next window's first sample on
    this.given = 0; // windows that were scored
    this.raw = []; // {scores, level} of windows around those that are smoothed
    this.first = 0; // the number of the first of them
    this.smoothed = 0; // the number of the next window to smooth
    this.levels = []; // of the windows of the last minute
    this.loudness = new Loudness(spotter.sampleRate);
    this.decider = new Decider(spotter);
  }

  /** That the stream has lasted, in seconds. */
  get seconds() {
    return this.samples / this.spotter.sampleRate;
  }

  /**
   * The hits, {word, start, end, time, score}, that became known with a block that follows those before.
   * @param {Float32Array} block at the spotter's sample rate, from -1 to 1.
   * @param {(scores: Float32Array) => void} told the smoothed scores of each window.
   */
  async hear(block, told = () => {}) {
    this.samples += block.length;
    this.loudness.add(block);
    await this.#score(block, Math.floor((this.samples - (this.size - Math.floor(this.size / 2))) / this.hop) + 1);
    if (this.seconds < 2 * (MARGIN + this.spotter.hop)) return []; // a short stream's end says what lies inside
    return this.#decide(this.first + this.raw.length - Math.floor(this.spotter.smoothed / 2), false, told);
  }

  /** The hits that remain when the stream has ended. The listener is used up. */
  async finish() {
    await this.#score(new Float32Array(this.size + this.hop), Math.floor(this.samples / this.hop) + 1);
    const hits = this.#decide(this.first + this.raw.length, true);
    return [...hits, ...this.decider.decide(this.loudness, true)];
  }

  async #score(samples, count) {
    this.held = joined(this.held, samples);
    for (; this.given < count; this.given++) {
      const window = this.held.slice(0, this.size);
      const level = levelOf(window, Math.floor(this.spotter.sampleRate / 10));
      const silent = level <= this.spotter.faintest; // which fits nothing, and is not scored
      const scores = silent ? new Float32Array(this.spotter.words.length) : await this.spotter.score(window);
      this.raw.push({ scores, level });
      this.held = this.held.slice(this.hop);
    }
  }

  /** Smooths the windows up to `end`, and hands the best word of each to the decider. */
  #decide(end, ended, told = () => {}) {
    const hits = [];
    for (; this.smoothed < end; this.smoothed++) {
      const scores = this.#mean(this.smoothed);
      const word = scores.indexOf(Math.max(...scores));
      const audible = this.#isAudible(this.raw[this.smoothed - this.first].level);
      const heard = audible && this.#isInside(this.smoothed, ended) && scores[word] >= LEAST;
      told(heard ? scores : scores.fill(0));
      hits.push(...this.decider.add(word, heard ? scores[word] : 0, this.loudness));
    }
    const kept = Math.max(0, end - Math.floor(this.spotter.smoothed / 2) - this.first);
    this.raw.splice(0, kept);
    this.first += kept;
    return hits;
  }

  /** The mean scores of the windows around one; of fewer at the stream's ends. */
  #mean(number) {
    const around = Math.floor(this.spotter.smoothed / 2), place = number - this.first;
    const windows = this.raw.slice(Math.max(0, place - around), place + around + 1);
    const sum = (word) => windows.reduce((before, { scores }) => before + scores[word], 0);
    return this.spotter.words.map((_, word) => sum(word) / windows.length);
  }

  #isInside(number, ended) {
    const middle = number * this.spotter.hop;
    if (!ended) return middle > MARGIN;
    return Math.min(middle, this.seconds - middle) > Math.min(MARGIN, this.seconds / 2 - this.spotter.hop);
  }

  #isAudible(level) {
    if (level <= this.spotter.faintest) return false;
    this.levels.push(level);
    if (this.levels.length > Math.round(LOUD_FOR / this.spotter.hop)) this.levels.shift();
    return level > quantile(this.levels, LOUD) - FAR_BELOW;
  }
}

/**
 * Takes the best word and score of each window in order. A window is a hit where its word reaches its threshold, no
 * window within `patience` scores more, and the last hit lies further back than `REFRACTORY` and is not mostly the same
 * sound.
 */
export class Decider {
  constructor({ words, thresholds, window, hop, patience }) {
    Object.assign(this, { words, window, hop });
    this.least = thresholds.map((each) => Math.max(each, 1e-9)); // a score of 0 says that there was nothing to hear
    this.patience = Math.round(patience / hop);
    this.refractory = Math.round(REFRACTORY / hop);
    this.next = 0; // window to decide
    this.ahead = []; // [word, score] of it and those after it
    this.before = []; // scores
    this.fired = -Infinity; // window of the last hit
    this.last = null;
  }

  add(word, score, loudness) {
    this.ahead.push([word, score]);
    return this.decide(loudness);
  }

  decide(loudness, ended = false) {
    const hits = [];
    while (this.ahead.length > (ended ? 0 : this.patience)) {
      const [word, score] = this.ahead[0];
      const hit = score >= this.least[word] && this.#isBest(score) && this.#hit(word, score, loudness);
      if (hit) {
        [this.fired, this.last] = [this.next, hit];
        hits.push(hit);
      }
      this.before = [...this.before, score].slice(-this.patience || Infinity);
      this.ahead.shift();
      this.next++;
    }
    return hits;
  }

  #isBest(score) {
    const after = this.ahead.slice(1, this.patience + 1);
    const rested = this.next - this.fired > this.refractory;
    return rested && this.before.every((other) => other < score) && after.every(([, other]) => other <= score);
  }

  #hit(word, score, loudness) {
    const [start, end] = extent(loudness, this.next * this.hop, this.window);
    if (this.last && overlap(this.last, start, end) > 0.5) return null;
    return { word: this.words[word], start, end, time: (start + end) / 2, score };
  }
}

/** Decibels of full scale of each `FRAME` of a stream, of which the last so many stay. */
export class Loudness {
  constructor(rate) {
    this.first = 0; // the number of the first frame that is kept
    this.frames = [];
    this.size = Math.round(FRAME * rate);
    this.rest = new Float32Array(0);
  }

  add(block) {
    const both = joined(this.rest, block);
    const whole = Math.floor(both.length / this.size);
    for (let frame = 0; frame < whole; frame++) {
      this.frames.push(decibels(both.subarray(frame * this.size, (frame + 1) * this.size)));
    }
    this.rest = both.slice(whole * this.size);
    const kept = Math.round(REMEMBERED / FRAME);
    if (this.frames.length >= 2 * kept) this.first += this.frames.splice(0, this.frames.length - kept).length;
  }

  /** The loudest of the last ten frames, for a meter. */
  get level() {
    return Math.max(...this.frames.slice(-10));
  }
}

/** Where the sound around a window's middle begins and ends, in seconds; it lies within the window. */
function extent(loudness, middle, window) {
  const known = loudness.first;
  const first = Math.max(Math.round(Math.max(0, middle - window / 2) / FRAME), known);
  const frames = loudness.frames.slice(first - known, Math.round(Math.max(0, middle + window / 2) / FRAME) - known);
  if (!frames.length) {
    const heard = (known + loudness.frames.length) * FRAME;
    return [Math.max(0, middle - window / 2), Math.min(heard, middle + window / 2)];
  }
  const centre = Math.min(Math.max(0, Math.round(middle / FRAME) - first), frames.length - 1);
  const reach = Math.round(REACH / FRAME);
  let loudest = Math.max(0, centre - reach);
  for (let at = loudest; at < Math.min(frames.length, centre + reach + 1); at++) {
    if (frames[at] > frames[loudest]) loudest = at;
  }
  const far = (step) => {
    let edge = loudest;
    for (let at = loudest + step; at >= 0 && at < frames.length && Math.abs(at - edge) <= GAP; at += step) {
      if (frames[at] > frames[loudest] - EDGE) edge = at;
    }
    return edge;
  };
  return [(first + far(-1)) * FRAME, (first + far(1) + 1) * FRAME];
}

/** The share of the shorter one that two stretches have in common. */
function overlap(hit, start, end) {
  const common = Math.min(hit.end, end) - Math.max(hit.start, start);
  return Math.max(0, common) / Math.max(Math.min(hit.end - hit.start, end - start), FRAME);
}

/** Decibels of full scale of the loudest part of so many samples; a constant is not a sound. */
function levelOf(window, part) {
  let loudest = -Infinity;
  for (let at = 0; at + part <= window.length; at += part) {
    loudest = Math.max(loudest, decibels(window.subarray(at, at + part)));
  }
  return loudest;
}

function decibels(samples) {
  const mean = samples.reduce((sum, each) => sum + each, 0) / samples.length;
  const power = samples.reduce((sum, each) => sum + (each - mean) ** 2, 0) / samples.length;
  return 10 * Math.log10(Math.max(power, 1e-20));
}

/** As numpy's: between the two nearest numbers. */
function quantile(numbers, share) {
  const sorted = Float64Array.from(numbers).sort();
  const place = share * (sorted.length - 1), below = Math.floor(place);
  return sorted[below] + (place - below) * (sorted[Math.min(below + 1, sorted.length - 1)] - sorted[below]);
}
