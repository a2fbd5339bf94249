// Tensor operations in plain typed arrays: a model's next step without torch (see program.py).
// A tensor is {data, shape}, contiguous; data is a Float32Array, or an Int32Array of whole numbers and booleans.

const size = (shape) => shape.reduce((a, b) => a * b, 1);

function strides(shape) {
  const steps = new Array(shape.length);
  for (let i = shape.length - 1, step = 1; i >= 0; i--) {
    steps[i] = step;
    step *= shape[i];
  }
  return steps;
}

const like = (data, shape, n = size(shape)) => ({ data: new data.constructor(n), shape });
const floats = (shape) => ({ data: new Float32Array(size(shape)), shape });
const whole = (shape) => ({ data: new Int32Array(size(shape)), shape });
const axis = (dim, rank) => (dim < 0 ? dim + rank : dim);
const tensor = (value) =>
  value?.data ? value : { data: Number.isInteger(value) ? Int32Array.of(value) : Float32Array.of(value), shape: [] };

// Reads data of `shape` as if it had the shape `to`: returns the offset of each of its entries.
function offsets(shape, to) {
  const lead = to.length - shape.length;
  const own = strides(shape);
  const step = to.map((_, i) => (i < lead || shape[i - lead] === 1 ? 0 : own[i - lead]));
  return walk(to, step);
}

function walk(shape, step, first = 0) {
  const found = new Int32Array(size(shape));
  const index = new Array(shape.length).fill(0);
  let at = first;
  for (let i = 0; i < found.length; i++) {
    found[i] = at;
    for (let d = shape.length - 1; d >= 0; d--) {
      at += step[d];
      if (++index[d] < shape[d]) break;
      at -= step[d] * shape[d];
      index[d] = 0;
    }
  }
  return found;
}

const cache = new Map(); // offsets by shapes: a program asks for the same again and again

function read(x, to) {
  const { data, shape } = x;
  if (data.length === 1) return () => data[0];
  if (data.length === size(to)) return (i) => data[i];
  const key = `${shape}|${to}`;
  if (!cache.has(key)) cache.set(key, offsets(shape, to));
  const found = cache.get(key);
  return (i) => data[found[i]];
}

const unary = (f) => (shape, [x]) => {
  const out = floats(shape);
  for (let i = 0; i < out.data.length; i++) out.data[i] = f(x.data[i]);
  return out;
};

const binary = (f, kind) => (shape, [a, b], named) => {
  const [first, second] = [tensor(a), tensor(b)];
  const both = first.data instanceof Int32Array && second.data instanceof Int32Array;
  const out = kind === "whole" || (kind === "same" && both) ? whole(shape) : floats(shape);
  const [x, y] = [read(first, shape), read(second, shape)];
  const alpha = named.alpha ?? 1;
  for (let i = 0; i < out.data.length; i++) out.data[i] = f(x(i), y(i), alpha);
  return out;
};

function gather(x, shape, found) {
  const out = like(x.data, shape, found.length);
  for (let i = 0; i < found.length; i++) out.data[i] = x.data[found[i]];
  return out;
}

function multiply(out, a, b, rows, inner, columns, [atOut, atA, atB] = [0, 0, 0]) {
  for (let r = 0; r < rows; r++) {
    const row = out.subarray(atOut + r * columns, atOut + (r + 1) * columns);
    for (let k = 0; k < inner; k++) {
      const x = a[atA + r * inner + k];
      if (x === 0) continue;
      const start = atB + k * columns;
      for (let c = 0; c < columns; c++) row[c] += x * b[start + c];
    }
  }
}

// Calls f(first, step) for each line along the axes that are reduced, which have to be neighbours.
function reduce(shape, [x, dims, keep], begin, f) {
  const rank = x.shape.length;
  const which = (dims === undefined || dims === null || dims.length === 0 ? x.shape.map((_, i) => i) : [dims].flat()).map((d) =>
    axis(d, rank),
  );
  const own = strides(x.shape);
  const kept = x.shape.map((n, i) => (which.includes(i) ? 1 : n));
  const starts = walk(kept, own.map((s, i) => (which.includes(i) ? 0 : s)));
  const line = walk(which.map((d) => x.shape[d]), which.map((d) => own[d]));
  const out = begin(shape);
  starts.forEach((start, i) => (out.data[i] = f(x.data, start, line)));
  return out;
}

const summed = (data, start, line) => {
  let sum = 0;
  for (let i = 0; i < line.length; i++) sum += data[start + line[i]];
  return sum;
};

function normalised(x, groups, length, eps, scale) {
  const out = floats(x.shape);
  for (let g = 0; g < groups; g++) {
    let [mean, variance] = [0, 0];
    for (let i = g * length; i < (g + 1) * length; i++) mean += x.data[i];
    mean /= length;
    for (let i = g * length; i < (g + 1) * length; i++) variance += (x.data[i] - mean) ** 2;
    const inverse = 1 / Math.sqrt(variance / length + eps);
    for (let i = g * length; i < (g + 1) * length; i++) out.data[i] = scale((x.data[i] - mean) * inverse, i);
  }
  return [out];
}

function convolution(shape, [x, weight, bias, stride, padding, dilation, transposed, , groups]) {
  if (shape.length !== 4 || groups !== 1) throw new Error("a convolution that is not of pictures");
  const out = floats(shape);
  const [batch, channels, height, width] = shape;
  const [, inputs, rows, columns] = x.shape;
  const [kh, kw] = weight.shape.slice(2);
  if (bias) for (let i = 0; i < out.data.length; i++) out.data[i] = bias.data[Math.floor(i / (height * width)) % channels];
  for (let b = 0; b < batch; b++)
    for (let o = 0; o < channels; o++)
      for (let c = 0; c < inputs; c++) {
        const kernel = (transposed ? c * channels + o : o * inputs + c) * kh * kw;
        const [from, to] = [(b * inputs + c) * rows * columns, (b * channels + o) * height * width];
        for (let i = 0; i < kh; i++)
          for (let j = 0; j < kw; j++) {
            const w = weight.data[kernel + i * kw + j];
            const [up, left] = [i * dilation[0] - padding[0], j * dilation[1] - padding[1]];
            if (transposed) {
              for (let r = 0; r < rows; r++) {
                const y = r * stride[0] + up;
                if (y < 0 || y >= height) continue;
                for (let q = 0; q < columns; q++) {
                  const z = q * stride[1] + left;
                  if (z >= 0 && z < width) out.data[to + y * width + z] += w * x.data[from + r * columns + q];
                }
              }
            } else {
              for (let y = 0; y < height; y++) {
                const r = y * stride[0] + up;
                if (r < 0 || r >= rows) continue;
                for (let z = 0; z < width; z++) {
                  const q = z * stride[1] + left;
                  if (q >= 0 && q < columns) out.data[to + y * width + z] += w * x.data[from + r * columns + q];
                }
              }
            }
          }
      }
  return out;
}

function erf(x) {
  // Numerical Recipes' Chebyshev fit, to 1.2e-7.
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const c = [-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277];
  const sum = c.reduceRight((rest, each) => rest * t + each, 0);
  const result = 1 - t * Math.exp(-x * x + sum);
  return x >= 0 ? result : -result;
}

const gelu = { none: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)), tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))) };

function evenRound(x) {
  const nearest = Math.round(x);
  return Math.abs(x % 1) === 0.5 && nearest % 2 !== 0 ? nearest - 1 : nearest;
}

const view = (shape, [x]) => ({ data: x.data, shape });

const operations = {
  abs: unary(Math.abs),
  exp: unary(Math.exp),
  floor: unary(Math.floor),
  log: unary(Math.log),
  log1p: unary(Math.log1p),
  neg: unary((x) => -x),
  relu: unary((x) => Math.max(x, 0)),
  round: unary(evenRound),
  rsqrt: unary((x) => 1 / Math.sqrt(x)),
  sigmoid: unary((x) => 1 / (1 + Math.exp(-x))),
  sin: unary(Math.sin),
  cos: unary(Math.cos),
  sqrt: unary(Math.sqrt),
  tanh: unary(Math.tanh),
  gelu: (shape, [x], named) => unary(gelu[named.approximate ?? "none"])(shape, [x]),
  bitwise_not: (shape, [x]) => ({ data: x.data.map((v) => (v ? 0 : 1)), shape }),
  logical_not: (shape, [x]) => ({ data: Int32Array.from(x.data, (v) => (v ? 0 : 1)), shape }),
  add: binary((a, b, alpha) => a + alpha * b, "same"),
  sub: binary((a, b, alpha) => a - alpha * b, "same"),
  mul: binary((a, b) => a * b, "same"),
  div: binary((a, b) => a / b),
  pow: binary((a, b) => a ** b),
  maximum: binary(Math.max, "same"),
  minimum: binary(Math.min, "same"),
  eq: binary((a, b) => +(a === b), "whole"),
  ne: binary((a, b) => +(a !== b), "whole"),
  lt: binary((a, b) => +(a < b), "whole"),
  le: binary((a, b) => +(a <= b), "whole"),
  gt: binary((a, b) => +(a > b), "whole"),
  ge: binary((a, b) => +(a >= b), "whole"),
  bitwise_and: binary((a, b) => a & b, "whole"),
  bitwise_or: binary((a, b) => a | b, "whole"),
  where: (shape, [condition, a, b]) => {
    const [first, second] = [tensor(a), tensor(b)];
    const out = first.data instanceof Int32Array && second.data instanceof Int32Array ? whole(shape) : floats(shape);
    const [c, x, y] = [condition, first, second].map((each) => read(each, shape));
    for (let i = 0; i < out.data.length; i++) out.data[i] = c(i) ? x(i) : y(i);
    return out;
  },
  clamp: (shape, [x, low, high]) => {
    const out = like(x.data, shape);
    const [value, least, most] = [x, tensor(low ?? -Infinity), tensor(high ?? Infinity)].map((each) => read(each, shape));
    for (let i = 0; i < out.data.length; i++) out.data[i] = Math.min(Math.max(value(i), least(i)), most(i));
    return out;
  },
  mm: (shape, [a, b]) => {
    const out = floats(shape);
    multiply(out.data, a.data, b.data, shape[0], a.shape[1], shape[1]);
    return out;
  },
  addmm: (shape, [bias, a, b]) => {
    const out = floats(shape);
    const start = read(bias, shape);
    for (let i = 0; i < out.data.length; i++) out.data[i] = start(i);
    multiply(out.data, a.data, b.data, shape[0], a.shape[1], shape[1]);
    return out;
  },
  bmm: (shape, [a, b]) => {
    const out = floats(shape);
    const [batch, rows, columns] = shape;
    const inner = a.shape[2];
    for (let i = 0; i < batch; i++)
      multiply(out.data, a.data, b.data, rows, inner, columns, [i * rows * columns, i * rows * inner, i * inner * columns]);
    return out;
  },
  view,
  alias: view,
  clone: view,
  to_copy: (shape, [x], named) => ({ data: named.whole ? Int32Array.from(x.data, Math.trunc) : Float32Array.from(x.data), shape }),
  unsqueeze: view,
  squeeze: view,
  expand: (shape, [x]) => gather(x, shape, offsets(x.shape, shape)),
  permute: (shape, [x, dims]) => {
    const own = strides(x.shape);
    return gather(x, shape, walk(shape, dims.map((d) => own[axis(d, dims.length)])));
  },
  slice: (shape, [x, dim = 0, start, , step = 1]) => {
    const [own, at] = [strides(x.shape), axis(dim, x.shape.length)];
    const first = Math.min((start ?? 0) < 0 ? start + x.shape[at] : (start ?? 0), x.shape[at]);
    return gather(x, shape, walk(shape, own.map((s, i) => (i === at ? s * step : s)), first * own[at]));
  },
  select: (shape, [x, dim, index]) => {
    const [own, at] = [strides(x.shape), axis(dim, x.shape.length)];
    return gather(x, shape, walk(shape, own.filter((_, i) => i !== at), axis(index, x.shape[at]) * own[at]));
  },
  cat: (shape, [parts, dim = 0]) => {
    const at = axis(dim, shape.length);
    const out = like(parts[0].data, shape);
    const [outer, step] = [size(shape.slice(0, at)), size(shape.slice(at))];
    let first = 0;
    for (const part of parts) {
      const length = size(part.shape.slice(at));
      for (let o = 0; o < outer; o++) out.data.set(part.data.subarray(o * length, (o + 1) * length), o * step + first);
      first += length;
    }
    return out;
  },
  split_with_sizes: (_, [x, sizes, dim = 0]) => {
    const at = axis(dim, x.shape.length);
    let start = 0;
    return sizes.map((length) => {
      const shape = x.shape.map((n, i) => (i === at ? length : n));
      const part = operations.slice(shape, [x, at, start]);
      start += length;
      return part;
    });
  },
  getitem: (_, [parts, index]) => parts[index],
  constant_pad_nd: (shape, [x, padding, value = 0]) => {
    const out = like(x.data, shape);
    out.data.fill(value);
    const own = strides(shape);
    const first = own.reduce((sum, s, i) => sum + s * (padding[2 * (shape.length - 1 - i)] ?? 0), 0);
    walk(x.shape, own, first).forEach((to, i) => (out.data[to] = x.data[i]));
    return out;
  },
  index: (shape, [x, indices]) => {
    // rows by whole numbers along the leading axes
    const given = indices.filter((each) => each);
    const rest = x.shape.slice(given.length);
    const [own, each] = [strides(x.shape), size(rest)];
    const lead = shape.slice(0, shape.length - rest.length);
    const readers = given.map((one) => read(one, lead));
    const out = like(x.data, shape);
    for (let i = 0; i < size(lead); i++) {
      const from = readers.reduce((sum, at, d) => sum + axis(at(i), x.shape[d]) * own[d], 0);
      out.data.set(x.data.subarray(from, from + each), i * each);
    }
    return out;
  },
  gather: (shape, [x, dim, index]) => {
    const [own, at] = [strides(x.shape), axis(dim, shape.length)];
    const starts = walk(shape, own.map((s, i) => (i === at ? 0 : s)));
    return gather(x, shape, starts.map((start, i) => start + index.data[i] * own[at]));
  },
  sum: (shape, given) => reduce(shape, given, floats, summed),
  mean: (shape, given) => reduce(shape, given, floats, (data, start, line) => summed(data, start, line) / line.length),
  amax: (shape, given) => reduce(shape, given, floats, (data, start, line) => line.reduce((a, i) => Math.max(a, data[start + i]), -Infinity)),
  any: (shape, given) => reduce(shape, given, whole, (data, start, line) => +line.some((i) => data[start + i])),
  argmax: (shape, given) =>
    reduce(shape, given, whole, (data, start, line) => line.reduce((best, at, i) => (data[start + at] > data[start + line[best]] ? i : best), 0)),
  cumsum: (shape, [x, dim]) => {
    const [out, own, at] = [like(x.data, shape), strides(shape), axis(dim, shape.length)];
    for (let i = 0; i < out.data.length; i++) {
      const first = Math.floor(i / own[at]) % shape[at] === 0;
      out.data[i] = x.data[i] + (first ? 0 : out.data[i - own[at]]);
    }
    return out;
  },
  softmax: (shape, [x, dim]) => {
    const [out, own, at] = [floats(shape), strides(shape), axis(dim, shape.length)];
    const starts = walk(shape.map((n, i) => (i === at ? 1 : n)), own);
    for (const start of starts) {
      let [most, sum] = [-Infinity, 0];
      for (let i = 0; i < shape[at]; i++) most = Math.max(most, x.data[start + i * own[at]]);
      for (let i = 0; i < shape[at]; i++) sum += out.data[start + i * own[at]] = Math.exp(x.data[start + i * own[at]] - most);
      for (let i = 0; i < shape[at]; i++) out.data[start + i * own[at]] /= sum;
    }
    return out;
  },
  native_layer_norm: (_, [x, last, weight, bias, eps]) => {
    const length = size(last);
    const scale = (v, i) => v * (weight ? weight.data[i % length] : 1) + (bias ? bias.data[i % length] : 0);
    return normalised(x, x.data.length / length, length, eps, scale);
  },
  native_group_norm: (_, [x, weight, bias, batch, channels, pixels, groups, eps]) => {
    const channel = (i) => Math.floor(i / pixels) % channels;
    const scale = (v, i) => v * (weight ? weight.data[channel(i)] : 1) + (bias ? bias.data[channel(i)] : 0);
    return normalised(x, batch * groups, (channels / groups) * pixels, eps, scale);
  },
  convolution,
  zeros_like: (shape, [x]) => like(x.data, shape),
  rand: (shape) => ({ data: Float32Array.from({ length: size(shape) }, Math.random), shape }),
  randn: (shape) => ({ data: Float32Array.from({ length: size(shape) }, normal), shape }),
};

function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

export class Program {
  // weights: an ArrayBuffer of 4-byte numbers
  constructor(json, weights) {
    Object.assign(this, json);
    this.held = this.constants.map(([value, shape, offset, isWhole]) => {
      const kind = isWhole ? Int32Array : Float32Array;
      return [value, { data: new kind(weights, 4 * offset, size(shape)), shape }];
    });
  }

  // Takes tensors and returns tensors, in the order of program.py.
  run(given) {
    const values = new Array(this.values);
    for (const [value, held] of this.held) values[value] = held;
    this.inputs.forEach((value, i) => (values[value] = given[i]));
    const argument = (x) => {
      if (Array.isArray(x)) return x.map(argument);
      if (x && typeof x === "object") return "v" in x ? values[x.v] : Number(x.n.replace("inf", "Infinity"));
      return x ?? undefined;
    };
    for (const [operation, value, shape, given, named] of this.instructions)
      values[value] = operations[operation](shape, given.map(argument), named);
    return this.outputs.map((value) => values[value]);
  }
}
