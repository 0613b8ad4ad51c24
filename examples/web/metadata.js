// What a spotter's file says of itself. onnxruntime-web (1.30) does not hand a model's metadata to JavaScript, so they
// are read from the file: an ONNX file is a protocol buffer whose field 14 holds a key and a value, again and again.

const METADATA = 14;
const VARINT = 0, FIXED_64 = 1, BYTES = 2, FIXED_32 = 5; // wire types
const utf8 = new TextDecoder("utf-8", { fatal: true });

/** The file is not what `kws-imagebind export` writes. */
export class NotASpotter extends Error {}

/**
 * @param {Uint8Array} file
 * @returns what the listener needs: `words`, `thresholds` (one for each word), `sampleRate` in hertz, `window`, `hop`
 *   and `patience` in seconds, `smoothed` in windows, `faintest` in decibels of full scale, and `precision`.
 * @throws {NotASpotter}
 */
export function describe(file) {
  try {
    return checked(metadata(file));
  } catch (error) {
    throw new NotASpotter("expected a file that 'kws-imagebind export' wrote", { cause: error });
  }
}

/** Keys and values of an ONNX file. */
function metadata(file) {
  const found = {};
  for (const [field, value] of fields(file)) {
    if (field !== METADATA) continue;
    const [key, text] = [...fields(value)].map(([, bytes]) => utf8.decode(bytes));
    found[key] = text;
  }
  return found;
}

/** The fields of a protocol buffer that hold bytes, as [number, bytes]; the others are skipped. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; scale < 2 ** 63; scale *= 128) {
      if (at >= bytes.length) break;
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    throw new Error("it ends within a number");
  };
  while (at < bytes.length) {
    const tag = varint();
    const [field, type] = [Math.floor(tag / 8), tag % 8];
    if (type === VARINT) varint();
    else if (type === FIXED_64) at += 8;
    else if (type === FIXED_32) at += 4;
    else if (type === BYTES) {
      const length = varint();
      if (at + length > bytes.length) throw new Error("it ends within a field");
      yield [field, bytes.subarray(at, at + length)];
      at += length;
    } else throw new Error(`no field has the type ${type}`);
  }
}

function checked(about) {
  const words = JSON.parse(about.words), least = JSON.parse(about.thresholds);
  const thresholds = words.map((word) => least[word]);
  const numbers = {
    sampleRate: Number(about.sample_rate),
    window: Number(about.window),
    hop: Number(about.hop),
    smoothed: Number(about.smoothed),
    patience: Number(about.patience),
    faintest: Number(about.faintest),
  };
  const complete = words.length && [...thresholds, ...Object.values(numbers)].every(Number.isFinite);
  const positive = [numbers.sampleRate, numbers.window, numbers.hop, numbers.smoothed].every((each) => each > 0);
  const written = complete && positive && numbers.patience >= 0 && words.every((word) => typeof word === "string");
  if (!written) throw new Error("words or numbers are missing");
  return { words, thresholds, precision: about.precision, ...numbers };
}
