// The player's stick: keys, sliders and a gamepad become one action.

const PAIRS = [["q", "a"], ["w", "s"], ["e", "d"], ["r", "f"], ["t", "g"], ["u", "j"], ["i", "k"], ["o", "l"]];
const ARROWS = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [1, 1], ArrowDown: [1, -1] };
const STILL = 0.15; // of a gamepad's axis: less is no movement

export class Stick {
  // send(action) is called when the action changes: numbers by joint, or a choice.
  constructor(hello, place, send) {
    [this.hello, this.send] = [hello, send];
    this.held = new Map(); // key -> [joint, direction]
    this.sliders = [];
    this.sent = null;
    hello.discrete ? this.buttons(place) : this.ranges(place);
    const poll = () => {
      this.pad();
      requestAnimationFrame(poll);
    };
    window.addEventListener("gamepadconnected", poll, { once: true });
  }

  ranges(place) {
    this.base = this.hello.low.map((low, i) => Math.min(Math.max(0, low), this.hello.high[i]));
    for (let i = 0; i < this.hello.actions; i++) {
      const keys = PAIRS[i] ? ` <kbd>${PAIRS[i][1]}</kbd>` : "";
      const more = PAIRS[i] ? `<kbd>${PAIRS[i][0]}</kbd>` : "";
      const label = document.createElement("label");
      label.innerHTML = `<span>joint ${i + 1}${keys}</span>`;
      const slider = document.createElement("input");
      Object.assign(slider, { type: "range", step: "any" });
      [slider.min, slider.max, slider.value] = [this.hello.low[i], this.hello.high[i], this.base[i]];
      slider.oninput = () => this.update();
      slider.ondblclick = () => this.centre(i);
      label.append(slider);
      label.insertAdjacentHTML("beforeend", more);
      place.append(label);
      this.sliders.push(slider);
    }
  }

  buttons(place) {
    this.choice = null;
    for (let i = 0; i < this.hello.actions; i++) {
      const button = document.createElement("button");
      button.textContent = `action ${i}`;
      button.onpointerdown = () => this.choose(i);
      button.onpointerup = button.onpointerleave = () => this.choose(null);
      place.append(button);
    }
  }

  // Returns whether the key belongs to the stick.
  key(name, down) {
    if (this.hello.discrete) {
      const arrow = { ArrowLeft: 0, ArrowRight: this.hello.actions - 1, ArrowUp: 1, ArrowDown: 2 }[name];
      const choice = /^[0-9]$/.test(name) ? Number(name) : arrow;
      if (choice === undefined || choice >= this.hello.actions) return false;
      this.choose(down ? choice : null);
      return true;
    }
    const pair = PAIRS.findIndex((keys) => keys.includes(name));
    const joint = pair >= 0 ? [pair, PAIRS[pair][0] === name ? 1 : -1] : ARROWS[name];
    if (!joint || joint[0] >= this.hello.actions) return false;
    down ? this.held.set(name, joint) : this.held.delete(name);
    this.update();
    return true;
  }

  release() {
    this.held.clear();
    this.hello.discrete ? this.choose(null) : this.sliders.forEach((_, i) => this.centre(i));
  }

  centre(i) {
    this.sliders[i].value = this.base[i];
    this.update();
  }

  choose(choice) {
    this.choice = choice;
    this.pass(choice ?? 0);
  }

  update(pad = []) {
    const action = this.sliders.map((slider) => Number(slider.value));
    pad.forEach((value, i) => value && (action[i] = value > 0 ? value * this.hello.high[i] : -value * this.hello.low[i]));
    for (const [i, direction] of this.held.values()) action[i] = direction > 0 ? this.hello.high[i] : this.hello.low[i];
    this.pass(action);
  }

  pad() {
    const pad = navigator.getGamepads().find((each) => each);
    if (!pad || this.hello.discrete) return;
    const axes = pad.axes.slice(0, this.hello.actions).map((x) => (Math.abs(x) < STILL ? 0 : x));
    if (axes.some((x) => x) || this.padMoved) this.update(axes);
    this.padMoved = axes.some((x) => x);
  }

  pass(action) {
    const text = JSON.stringify(action);
    if (text !== this.sent) this.send(action);
    this.sent = text;
  }
}
