import { Wire } from "./wire.js";
import { Screen, mean } from "./screens.js";
import { Strip } from "./strip.js";
import { Stick } from "./stick.js";

const find = (id) => document.getElementById(id);
const fixed = (value, digits = 2) => (value === null || value === undefined ? "" : value.toFixed(digits));

let hello, screens, strip, stick, frame;
let running = true;
let futures = [];
let shown = null; // the frame that waits to be drawn
const trips = []; // round trips in milliseconds, the last 31

const wire = new Wire({
  hello: begin,
  frame: (message) => {
    frame = message;
    strip?.add(message);
    if (shown === null) requestAnimationFrame(draw);
    shown = message;
  },
  strip: (message) => {
    strip?.load(message);
    if (find("notice").classList.contains("wrong")) tell("");
    if (document.activeElement !== find("seed")) find("seed").value = message.seed;
    showBranches(message);
  },
  notice: ({ text, wrong }) => tell(text, wrong),
  pong: ({ sent }) => {
    trips.push(performance.now() - sent);
    if (trips.length > 31) trips.shift();
    const median = [...trips].sort((a, b) => a - b)[trips.length >> 1];
    find("link").textContent = `round trip ${fixed(median, 1)} ms · step ${fixed(frame?.milliseconds, 1)} ms`;
    document.body.dataset.trip = fixed(median, 2);
  },
  closed: () => {
    find("link").textContent = "the server is gone: start wmplay play again and reload";
    tell("connection closed", true);
  },
});

function begin(message) {
  hello = message;
  document.title = `wmplay · ${hello.world}`;
  find("world").textContent = `${hello.world}${hello.model ? ` · ${hello.model}` : ""}`;
  document.body.classList.toggle("alone", !hello.model);
  screens = Object.fromEntries(["real", "learned", "difference"].map((id) => [id, new Screen(find(id), hello.size)]));
  strip = new Strip(find("strip"), showMark);
  stick = new Stick(hello, find("joints"), (action) => {
    takeOver();
    wire.send("act", { action });
  });
  find("driver").replaceChildren(...hello.drivers.map((name) => new Option(name, name)));
  find("temperature").max = hello.can_warm ? 3 : 1;
  find("temperature").step = hello.can_warm ? 0.1 : 1;
  find("view").disabled = !hello.binary;
  find("ghost").disabled = !hello.binary;
  setInterval(() => wire.send("ping", { sent: performance.now() }), 500);
  listKeys();
  document.body.dataset.ready = "yes";
}

function draw() {
  const message = shown;
  shown = null;
  const { real, learned } = message.screens;
  screens.real.showReal(real);
  find("reward").textContent = message.reward ? `reward ${fixed(message.reward)}` : "";
  find("driver").value = message.driver;
  document.body.dataset.moment = message.moment;
  document.body.dataset.branch = message.branch;
  const further = message.planes.filter((name) => name.startsWith("future")).map((name) => message.screens[name]);
  drawFutures(further);
  if (learned) {
    const view = find("view").value;
    const seen = view === "mean" && further.length ? mean(further) : learned;
    const sharp = view === "pixels" ? seen.map((p) => (p > 127 ? 255 : 0)) : seen;
    screens.learned.showLearned(sharp, find("ghost").checked ? real : null);
    screens.difference.showDifference(real, learned);
    find("spread").textContent = `spread ${fixed(message.spread, 3)} · confidence ${fixed(message.confidence)}`;
  } else if (hello.model) {
    find("spread").textContent = "";
    screens.learned.showLearned(real, null);
    screens.difference.showDifference(real, real);
  }
  showNow(message);
  drawBodies(message);
}

function showNow({ moment, iou, error, surprise }) {
  const unit = hello.binary ? "bits" : "error";
  const parts = [`moment ${moment}`, `mark ${strip.mark}`];
  if (iou !== undefined) parts.push(`IoU ${fixed(iou)}`);
  if (error !== undefined) parts.push(`vectors ${fixed(error, 3)}`);
  if (surprise !== undefined) parts.push(`surprise ${fixed(surprise, 1)} ${unit}`);
  find("now").textContent = parts.join(" · ");
}

function drawFutures(further) {
  if (futures.length !== further.length) {
    const canvases = further.map(() => document.createElement("canvas"));
    find("futures").replaceChildren(...canvases);
    futures = canvases.map((canvas) => new Screen(canvas, hello.size));
  }
  further.forEach((screen, i) => futures[i].showLearned(screen, null));
}

function showBranches({ branch, branches }) {
  find("branches").replaceChildren(
    ...(branches.length < 2 ? [] : branches).map(([number, last]) => {
      const button = document.createElement("button");
      button.textContent = `branch ${number} (${last})`;
      button.setAttribute("aria-pressed", number === branch);
      button.onclick = () => wire.send("choose", { branch: number });
      return button;
    }),
  );
}

function showMark() {
  if (frame) showNow(frame);
}

function tell(text, wrong = false) {
  find("notice").textContent = text;
  find("notice").classList.toggle("wrong", wrong);
}

function takeOver() {
  if (find("driver").value !== "player") drive("player");
}

function drive(who) {
  find("driver").value = who;
  wire.send("drive", { who });
}

function clock(on = running) {
  running = on;
  find("run").textContent = on ? "pause" : "run";
  wire.send("clock", { running: on, speed: Number(find("speed").value) });
}

function step() {
  if (running) clock(false);
  wire.send("step");
}

const commands = {
  " ": ["run or pause", () => clock(!running)],
  Enter: ["one step", step],
  x: ["re-sync: the learned world begins anew from the real frames", () => wire.send("resync")],
  m: ["mark this moment", () => strip.moveMark(strip.last)],
  "[": ["move the mark back", () => strip.moveMark(strip.mark - 1)],
  "]": ["move the mark on", () => strip.moveMark(strip.mark + 1)],
  Backspace: ["rewind to the mark", () => wire.send("rewind", { at: strip.mark })],
  c: ["fork at the mark", () => wire.send("fork", { at: strip.mark })],
  b: ["next branch", nextBranch],
  v: ["keep the steps since the mark as a case", keep],
  n: ["next episode", () => wire.send("reset")],
  p: ["give the stick to the next driver", nextDriver],
  z: ["release the stick", () => stick.release()],
};

function keep() {
  wire.send("keep", { name: find("name").value, since: strip.mark });
}

function nextDriver() {
  const { drivers } = hello;
  drive(drivers[(drivers.indexOf(find("driver").value) + 1) % drivers.length]);
}

function nextBranch() {
  const buttons = [...find("branches").children];
  const now = buttons.findIndex((button) => button.getAttribute("aria-pressed") === "true");
  buttons[(now + 1) % buttons.length]?.click();
}

function listKeys() {
  const names = { " ": "Space" };
  const rows = Object.entries(commands).map(([key, [what]]) => [names[key] ?? key, what]);
  rows.unshift([hello.discrete ? "0 to 9, arrows" : "arrows, letters at the joints", "move"]);
  find("keys").innerHTML = rows.map(([key, what]) => `<dt><kbd>${key}</kbd></dt><dd>${what}</dd>`).join("");
}

const typing = (target) => target.matches("input:not([type=range]):not([type=checkbox]), select");

document.addEventListener("keydown", (event) => {
  if (!hello || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  if (event.key.startsWith("Arrow") && event.target === find("strip")) {
    strip.moveMark(strip.mark + (event.key === "ArrowRight" || event.key === "ArrowUp" ? 1 : -1));
    return event.preventDefault();
  }
  if (event.key.startsWith("Arrow") && event.target.matches("input[type=range]")) return;
  if (stick.key(event.key, true)) return event.preventDefault();
  const pressing = event.target.matches("button, summary, input") && [" ", "Enter"].includes(event.key);
  if (pressing || event.repeat || !commands[event.key]) return;
  commands[event.key][1]();
  event.preventDefault();
});
document.addEventListener("keyup", (event) => hello && stick.key(event.key, false));
window.addEventListener("blur", () => hello && stick.release());

find("run").onclick = () => clock(!running);
find("step").onclick = step;
find("speed").onchange = () => clock();
find("driver").onchange = () => drive(find("driver").value);
find("reset").onclick = commands.n[1];
find("seed").onchange = () => wire.send("reset", { seed: Math.max(0, Math.trunc(Number(find("seed").value))) });
find("resync").onclick = commands.x[1];
find("rewind").onclick = commands.Backspace[1];
find("fork").onclick = commands.c[1];
find("keep").onclick = keep;
find("view").onchange = find("ghost").onchange = () => frame && ((shown = frame), draw());
for (const id of ["number", "temperature"]) {
  find(id).oninput = () => (find(`${id}-now`).textContent = find(id).value);
  find(id).onchange = () =>
    wire.send("tune", { futures: Number(find("number").value), temperature: Number(find("temperature").value) });
}

// ---- set the scene: drag a body in the real world ----

let drag = null;

function place(event) {
  const box = find("real").getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

find("real").onpointerdown = (event) => {
  const from = place(event);
  const distances = (frame?.bodies ?? []).map(([x, y]) => Math.hypot(x - from[0], y - from[1]));
  if (!distances.length) return;
  drag = { body: distances.indexOf(Math.min(...distances)), from, to: from };
  find("real").setPointerCapture(event.pointerId);
};
find("real").onpointermove = (event) => {
  if (!drag) return;
  drag.to = place(event);
  screens.real.showReal(frame.screens.real);
  drawBodies(frame);
};
find("real").onpointerup = () => {
  if (!drag) return;
  const [right, down] = [drag.to[0] - drag.from[0], drag.to[1] - drag.from[1]];
  if (Math.hypot(right, down) > 0.01) wire.send("move", { body: drag.body, right: clip(right), down: clip(down) });
  drag = null;
  screens.real.showReal(frame.screens.real); // without the line
};

const clip = (x) => Math.max(-1, Math.min(1, x));

// A line from the gripped body to where it goes.
function drawBodies({ bodies = [] }) {
  if (!drag || !bodies[drag.body]) return;
  const [pen, [height, width]] = [screens.real.context, hello.size];
  const [x, y] = bodies[drag.body];
  pen.strokeStyle = "#e69f00";
  pen.lineWidth = 0.6;
  pen.beginPath();
  pen.moveTo(x * width, y * height);
  pen.lineTo((x + drag.to[0] - drag.from[0]) * width, (y + drag.to[1] - drag.from[1]) * height);
  pen.stroke();
}
