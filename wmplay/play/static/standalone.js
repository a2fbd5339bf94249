import { Program } from "./engine.js";
import { Screen } from "./screens.js";
import { Strip } from "./strip.js";
import { Stick } from "./stick.js";

const find = (id) => document.getElementById(id);
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

const data = JSON.parse(find("data").textContent);
const weights = bytes(data.weights).buffer;
const programs = Object.fromEntries(Object.entries(data.programs).map(([name, json]) => [name, new Program(json, weights)]));
const held = ([shape, offset, isWhole]) => ({
  data: new (isWhole ? Int32Array : Float32Array)(weights, 4 * offset, shape.reduce((a, b) => a * b, 1)),
  shape,
});
const pixels = data.size[0] * data.size[1] * data.size[2];
const episodes = data.episodes.map(({ screens, actions, prompts }) => ({
  screens: unpacked(bytes(screens)),
  actions: held(actions),
  prompts: prompts.map((leaves) => leaves.map(held)),
}));

let [episode, moment, leaves, running] = [episodes[0], 0, null, true];
let action = null; // of the player
let learned = null; // probabilities, or pixels, of the learned world

function unpacked(packed) {
  if (!data.binary) return packed;
  const screens = new Uint8Array(packed.length * 8);
  for (let i = 0; i < screens.length; i++) screens[i] = (packed[i >> 3] >> (i & 7)) & 1 ? 255 : 0;
  return screens;
}

const last = (of) => of.actions.shape[0];
const real = (at) => episode.screens.subarray(at * pixels, (at + 1) * pixels);

function recorded(at) {
  const width = episode.actions.data.length / last(episode);
  const kept = episode.actions.data.subarray(at * width, (at + 1) * width);
  return { data: kept, shape: data.discrete ? [1, 1] : [1, 1, width] };
}

function held_action() {
  const given = data.discrete ? Int32Array.of(action ?? 0) : Float32Array.from(action ?? new Array(data.actions).fill(0));
  return { data: given, shape: data.discrete ? [1, 1] : [1, 1, data.actions] };
}

function predict(given, sampled = find("sampled").checked) {
  const outputs = programs[sampled ? "sampled" : "likely"].run([given, ...leaves]);
  learned = outputs.pop().data;
  leaves = outputs;
  return learned;
}

const scaled = (screen) => Uint8Array.from(screen, (p) => Math.round(Math.max(0, Math.min(255, data.binary ? 255 * p : p))));

// ---- the game ----

const screens = Object.fromEntries(["real", "learned", "difference"].map((id) => [id, new Screen(find(id), data.size)]));
const strip = new Strip(find("strip"), () => {});
const stick = new Stick(data, find("joints"), (given) => {
  action = given;
  find("driver").value = "player";
});

function begin() {
  episode = episodes[Number(find("episode").value)];
  [moment, leaves, learned] = [0, episode.prompts[0], null];
  strip.load({ iou: [null], error: [], surprise: [], synced: [0] });
  draw();
}

// Begins anew from real frames: from the last recorded prompt, and the recorded actions since then.
function resync() {
  const prompt = Math.min(Math.floor(moment / data.promptEvery), episode.prompts.length - 1);
  const to = Math.min(moment, last(episode));
  leaves = episode.prompts[prompt];
  for (let at = prompt * data.promptEvery; at < to; at++) predict(recorded(at), false);
  find("driver").value = "recorded";
  strip.synced.add(moment);
  draw();
}

function step() {
  const replaying = find("driver").value === "recorded";
  if (replaying && moment >= last(episode)) return begin();
  predict(replaying ? recorded(moment) : held_action());
  moment += 1;
  const compared = replaying && moment <= last(episode);
  strip.add({ moment, iou: compared && data.binary ? iou(real(moment), scaled(learned)) : null });
  draw();
}

function iou(first, second) {
  let [both, either] = [0, 0];
  for (let i = 0; i < pixels; i++) {
    const [a, b] = [first[i] > 127, second[i] > 127];
    both += a && b;
    either += a || b;
  }
  return either ? both / either : 1;
}

function draw() {
  const replaying = find("driver").value === "recorded";
  const truth = real(Math.min(moment, last(episode)));
  const seen = learned ? scaled(learned) : truth;
  screens.real.showReal(truth);
  screens.learned.showLearned(seen, replaying && find("ghost").checked ? truth : null);
  screens.difference.showDifference(truth, seen);
  find("compared").hidden = !replaying;
  find("now").textContent = `moment ${moment}${replaying ? ` of ${last(episode)}` : ", the real episode waits"}`;
  document.body.dataset.moment = moment;
}

let [due, spent] = [0, 0];
function tick(now) {
  requestAnimationFrame(tick);
  if (!running || now < due) return;
  due = Math.max(due + 1000 / data.fps, now - 100);
  const began = performance.now();
  step();
  spent = performance.now() - began;
  find("link").textContent = `${spent.toFixed(1)} ms a step`;
}

function clock(on) {
  running = on;
  find("run").textContent = on ? "pause" : "run";
}

const commands = {
  " ": ["run or pause", () => clock(!running)],
  Enter: ["one step", () => (clock(false), step())],
  x: ["re-sync: begin anew from the recorded frames", resync],
  n: ["begin the episode again", begin],
  p: ["change between recorded actions and the player", () => ((find("driver").value = find("driver").value === "player" ? "recorded" : "player"), resync())],
  z: ["release the stick", () => stick.release()],
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
  if (event.key.startsWith("Arrow") && event.target.matches("input[type=range]")) return;
  if (stick.key(event.key, true)) return event.preventDefault();
  const pressing = event.target.matches("button, summary, input") && [" ", "Enter"].includes(event.key);
  if (pressing || event.repeat || !commands[event.key]) return;
  commands[event.key][1]();
  event.preventDefault();
});
document.addEventListener("keyup", (event) => stick.key(event.key, false));
window.addEventListener("blur", () => stick.release());
find("run").onclick = commands[" "][1];
find("step").onclick = commands.Enter[1];
find("resync").onclick = resync;
find("reset").onclick = begin;
find("episode").onchange = begin;
find("driver").onchange = () => find("driver").value === "recorded" && resync();
find("ghost").onchange = draw;

document.title = `wmplay · ${data.world}`;
find("world").textContent = `${data.world} · ${data.model}`;
find("episode").replaceChildren(...episodes.map((_, i) => new Option(i + 1, i)));
find("keys").innerHTML = Object.entries(commands)
  .map(([key, [what]]) => `<dt><kbd>${key === " " ? "Space" : key}</kbd></dt><dd>${what}</dd>`)
  .join("");
begin();
requestAnimationFrame(tick);

// For tests, and for the curious: the most likely screens of an episode from its first frame.
window.replay = (number, steps) => {
  clock(false);
  find("episode").value = number;
  begin();
  return Array.from({ length: steps }, (_, at) => Array.from(predict(recorded(at), false)));
};
document.body.dataset.ready = "yes";
