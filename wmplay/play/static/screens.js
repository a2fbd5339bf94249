// Drawing of screens: uint8 pixels [height, width, channels] on a canvas, each pixel crisp.

const REAL = [0, 114, 178];
const LEARNED = [230, 159, 0];
const BOTH = [235, 238, 242];

export class Screen {
  constructor(canvas, [height, width, channels]) {
    [this.canvas, this.channels] = [canvas, channels];
    [canvas.width, canvas.height] = [width, height];
    this.context = canvas.getContext("2d");
    this.image = this.context.createImageData(width, height);
    this.pixels = width * height;
  }

  // paint(pixel index) -> [red, green, blue]
  draw(paint) {
    const data = this.image.data;
    for (let i = 0; i < this.pixels; i++) {
      const colour = paint(i);
      data[4 * i] = colour[0];
      data[4 * i + 1] = colour[1];
      data[4 * i + 2] = colour[2];
      data[4 * i + 3] = 255;
    }
    this.context.putImageData(this.image, 0, 0);
  }

  // One screen in its own colours, or in shades of one colour.
  show(screen, colour = BOTH, ghost = null) {
    if (this.channels === 3) {
      this.draw((i) => screen.subarray(3 * i, 3 * i + 3));
      return;
    }
    this.draw((i) => {
      const lit = screen[i] / 255;
      const under = ghost && ghost[i] > 127 ? 0.55 : 0;
      return [0, 1, 2].map((c) => Math.min(255, 11 + colour[c] * lit + REAL[c] * under * (1 - lit)));
    });
  }

  showReal(screen) {
    this.show(screen, BOTH);
  }

  showLearned(screen, ghost) {
    this.show(screen, LEARNED, ghost);
  }

  // Missing pixels in the colour of the real world, invented ones in that of the learned world.
  showDifference(real, learned) {
    if (this.channels === 3) {
      this.draw((i) => [0, 1, 2].map((c) => Math.abs(real[3 * i + c] - learned[3 * i + c])));
      return;
    }
    this.draw((i) => {
      const [a, b] = [real[i] > 127, learned[i] > 127];
      return a && b ? [90, 96, 104] : a ? REAL : b ? LEARNED : [11, 13, 16];
    });
  }
}

export function mean(screens) {
  const sum = new Float32Array(screens[0].length);
  for (const screen of screens) for (let i = 0; i < sum.length; i++) sum[i] += screen[i];
  return Uint8Array.from(sum, (x) => Math.round(x / screens.length));
}
