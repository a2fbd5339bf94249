// The strip of time: overlap, vector error and surprise by moment, and a mark that a player moves.

export class Strip {
  constructor(canvas, onMark) {
    [this.canvas, this.onMark] = [canvas, onMark];
    this.mark = 0;
    this.load({ iou: [], error: [], surprise: [], synced: [] });
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      this.moveMark(Math.round(((event.clientX - box.left) / box.width) * Math.max(this.last, 1)));
    };
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId);
      at(event);
    };
    canvas.onpointermove = (event) => event.buttons && at(event);
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  get last() {
    return this.iou.length - 1;
  }

  load({ iou, error, surprise, synced }) {
    [this.iou, this.error, this.surprise, this.synced] = [iou, error, surprise, new Set(synced)];
    this.mark = Math.max(0, Math.min(this.mark, this.last));
    this.draw();
  }

  add({ moment, iou, error, surprise, synced }) {
    this.iou[moment] = iou ?? null;
    this.error[moment] = error ?? null;
    this.surprise[moment] = surprise ?? null;
    if (synced) this.synced.add(moment);
    this.draw();
  }

  moveMark(moment) {
    this.mark = Math.max(0, Math.min(moment, this.last));
    this.draw();
    this.onMark(this.mark);
  }

  draw() {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    [canvas.width, canvas.height] = [width * ratio, height * ratio];
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(canvas);
    const x = (moment) => 4 + (moment / Math.max(this.last, 1)) * (width - 8);
    const most = (values) => values.reduce((a, b) => Math.max(a, b ?? 0), 1e-9);
    const line = (values, scale, colour, dash) => {
      pen.strokeStyle = style.getPropertyValue(colour);
      pen.setLineDash(dash);
      pen.lineWidth = 2;
      pen.beginPath();
      let down = false;
      values.forEach((value, moment) => {
        if (value === null || value === undefined) return void (down = false);
        const y = height - 4 - (value / scale) * (height - 10);
        down ? pen.lineTo(x(moment), y) : pen.moveTo(x(moment), y);
        down = true;
      });
      pen.stroke();
      pen.setLineDash([]);
    };
    const peak = most(this.surprise);
    pen.fillStyle = style.getPropertyValue("--surprise");
    pen.globalAlpha = 0.45;
    const bar = Math.max(1, (width - 8) / Math.max(this.last, 1));
    this.surprise.forEach((value, moment) => {
      if (value) pen.fillRect(x(moment) - bar / 2, height - 4 - (value / peak) * (height - 10), bar, (value / peak) * (height - 10));
    });
    pen.globalAlpha = 1;
    line(this.error, most(this.error), "--error", [5, 3]);
    line(this.iou, 1, "--learned", []);
    pen.fillStyle = style.getPropertyValue("--real");
    for (const moment of this.synced) pen.fillRect(x(moment) - 1, 0, 2, 8);
    pen.strokeStyle = style.color;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(x(this.mark), 0);
    pen.lineTo(x(this.mark), height);
    pen.stroke();
    canvas.setAttribute("aria-valuemax", Math.max(this.last, 0));
    canvas.setAttribute("aria-valuenow", this.mark);
  }
}
