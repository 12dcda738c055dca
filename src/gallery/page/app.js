// The page: gives a picture to the gallery, shows what it answers, and keeps its classes.

import { api } from "./api.js";
import { Drawing } from "./drawing.js";
import { drawRuler, ratesAt, rulerEnd } from "./ruler.js";

const $ = (id) => document.getElementById(id);
const undoSeconds = 6;

const state = {
  calibration: { histograms: null },
  picture: null, // the picture asked about: a Blob
  source: "", // its name
  answer: null,
  threshold: null, // of the answer, or where the slider stands
  factor: 1, // of the size of the class nearest in the last answer
  isMoved: false, // whether the slider was moved
  opened: null, // the class whose contact sheet is open
};

// --- The picture -------------------------------------------------------------------------------

let drawing;
let asked = 0; // counts questions, so that a late answer does not replace a newer one

async function ask(picture, source) {
  const number = ++asked;
  state.picture = picture;
  state.source = source;
  $("add-button").disabled = false;
  try {
    const answer = await api.query(picture, source);
    if (number !== asked) return;
    state.answer = answer;
    if (!state.isMoved) state.threshold = answer.threshold;
    showAnswer();
  } catch (error) {
    if (number !== asked) return;
    state.answer = null;
    showAnswer();
    $("verdict").textContent = "";
    $("reason").textContent = error.message;
  }
}

function show(element) {
  for (const id of ["canvas", "picture", "video"]) $(id).hidden = id !== element;
  $("shoot").hidden = element !== "video";
  if (element !== "video") stopCamera();
}

function askFile(file) {
  URL.revokeObjectURL($("picture").src);
  $("picture").src = URL.createObjectURL(file);
  show("picture");
  ask(file, file.name || "pasted picture");
}

function clearPicture() {
  show("canvas");
  drawing.clear();
  asked++;
  Object.assign(state, { picture: null, answer: null });
  $("add-button").disabled = true;
  $("file").value = "";
  showAnswer();
}

let camera = null;

async function startCamera() {
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    say(`No camera: ${error.message}`);
    return;
  }
  $("video").srcObject = camera;
  await $("video").play();
  show("video");
}

function stopCamera() {
  camera?.getTracks().forEach((track) => track.stop());
  camera = null;
}

function shoot() {
  const { videoWidth: width, videoHeight: height } = $("video");
  const made = Object.assign(document.createElement("canvas"), { width, height });
  made.getContext("2d").drawImage($("video"), 0, 0);
  made.toBlob((blob) => askFile(new File([blob], "camera.png", { type: "image/png" })), "image/png");
}

// --- The answer --------------------------------------------------------------------------------

function verdictAt(threshold) {
  const { answer } = state;
  if (!state.isMoved) return answer.class;
  return answer.distance !== null && answer.distance <= threshold ? answer.nearest : null;
}

// Histograms are of scores: distances divided by a factor, that of the nearest class's size. An
// answer's distances and threshold are not divided, nor is the threshold that stays after it.
function inDistances({ calibration, answer }) {
  const { histograms, at } = calibration;
  const ofRate = Object.entries(at ?? {}).find(([rate]) => Number(rate) === answer?.far)?.[1];
  if (ofRate?.threshold && answer.threshold !== null) {
    state.factor = answer.threshold / ofRate.threshold;
  }
  if (!histograms) return calibration;
  const edges = histograms.edges.map((edge) => edge * state.factor);
  return { ...calibration, histograms: { ...histograms, edges } };
}

function showAnswer() {
  const { answer, threshold } = state;
  const calibration = inDistances(state);
  const verdict = answer && verdictAt(threshold);
  $("verdict").textContent = !answer ? "…" : verdict ?? "unknown";
  $("verdict").className = !answer ? "" : verdict === null ? "unknown" : "known";
  $("reason").textContent = answer ? reason(answer, threshold) : "";
  const end = rulerEnd(calibration, answer);
  drawRuler($("ruler"), { calibration, answer, threshold, end });
  $("threshold-row").hidden = threshold === null;
  $("reset").hidden = !state.isMoved;
  if (threshold !== null) $("threshold").value = Math.round((1000 * threshold) / end);
  const rates = threshold === null ? null : ratesAt(calibration, threshold);
  $("rates").textContent = rates
    ? `At this threshold, ${percent(rates.letIn)} of strangers are let in and ` +
      `${percent(rates.turnedAway)} of known pictures are turned away.`
    : "";
  $("neighbours").replaceChildren(...(answer?.neighbours ?? []).map(neighbour));
}

function reason(answer, threshold) {
  if (answer.distance === null) return "The gallery has no picture yet.";
  const side = answer.distance <= threshold ? "within" : "beyond";
  return `The nearest class is at ${answer.distance.toPrecision(3)}, ${side} the threshold of ` +
    `${threshold.toPrecision(3)}.`;
}

function percent(share) {
  return share > 0 && share < 0.001 ? "under 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

function neighbour(near) {
  const item = document.createElement("li");
  item.className = state.threshold !== null && near.distance <= state.threshold ? "near" : "far";
  item.title = near.source;
  const image = Object.assign(new Image(), { src: api.thumbnail(near.id), alt: "" });
  const name = Object.assign(document.createElement("span"), { textContent: near.class });
  const distance = Object.assign(document.createElement("span"), {
    className: "distance", textContent: near.distance.toPrecision(3),
  });
  item.append(image, name, distance);
  return item;
}

// --- The classes -------------------------------------------------------------------------------

const hidden = new Set(); // keys of what is about to be removed

let refreshes = 0; // counts refreshes, so that a late one does not replace a newer one

async function refresh() {
  const number = ++refreshes;
  const all = await api.classes();
  const classes = all.filter((row) => !hidden.has(`class ${row.class}`));
  const rows = await Promise.all(classes.map(classRow));
  if (number !== refreshes) return;
  $("empty").hidden = classes.length > 0;
  $("names").replaceChildren(...classes.map((row) => new Option(row.class, row.class)));
  $("classes").replaceChildren(...rows);
}

async function classRow({ class: name, pictures: count }) {
  const item = document.createElement("li");
  const row = Object.assign(document.createElement("div"), { className: "class-row" });
  const isOpen = state.opened === name;
  const open = button(name, () => {
    state.opened = isOpen ? null : name;
    refresh();
  });
  open.className = "open";
  open.setAttribute("aria-expanded", isOpen);
  const number = Object.assign(document.createElement("span"), {
    className: "count", textContent: `${count} picture${count === 1 ? "" : "s"}`,
  });
  const remove = button("Remove", () =>
    removeLater(`class ${name}`, `Removed ${name}.`, () => api.removeClass(name)));
  remove.setAttribute("aria-label", `Remove ${name}`);
  row.append(open, number, remove);
  item.append(row);
  if (isOpen) item.append(await sheet(name));
  return item;
}

async function sheet(name, after = 0) {
  const part = Object.assign(document.createElement("div"), { className: "sheet" });
  const pictures = await api.pictures(name, after);
  for (const { id, source } of pictures) {
    if (hidden.has(`picture ${id}`)) continue;
    const figure = document.createElement("figure");
    const image = Object.assign(new Image(), {
      src: api.thumbnail(id), alt: source, title: `#${id} ${source}`, loading: "lazy",
    });
    const caption = document.createElement("figcaption");
    const move = button("Move", async () => {
      const target = prompt(`Move picture ${id} of ${name} to the class`);
      if (!target) return;
      let moved;
      await done(async () => { moved = await api.move(id, target); }, `Moved to ${target}.`, () => {
        if (moved.id === id) return api.move(id, name);
        throw new Error(`${target} had this picture already, as #${moved.id}; it stays there.`);
      });
    });
    const remove = button("Remove", () =>
      removeLater(`picture ${id}`, `Removed picture ${id}.`, () => api.removePicture(id)));
    for (const [made, verb] of [[move, "Move"], [remove, "Remove"]]) {
      made.setAttribute("aria-label", `${verb} picture ${id}`);
    }
    caption.append(move, remove);
    figure.append(image, caption);
    part.append(figure);
  }
  if (pictures.length === 120) {
    const more = button("More", async () => more.replaceWith(...(await sheet(name, pictures.at(-1).id)).children));
    part.append(more);
  }
  return part;
}

function button(text, clicked) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  made.addEventListener("click", clicked);
  return made;
}

// --- Changes, and undoing them -----------------------------------------------------------------

let pending = null; // what happens when the time to undo is over

function say(text, { undo, after } = {}) {
  settle();
  $("message").firstElementChild.textContent = text;
  $("message").hidden = false;
  const undoButton = $("message").lastElementChild;
  undoButton.hidden = !undo;
  undoButton.onclick = async () => {
    clearTimeout(timer);
    pending = null;
    $("message").hidden = true;
    try {
      await undo();
    } catch (error) {
      say(error.message);
    }
    await changed();
  };
  const timer = setTimeout(settle, 1000 * undoSeconds);
  pending = async () => {
    clearTimeout(timer);
    $("message").hidden = true;
    await after?.();
  };
}

// Do what waits for the time to undo, now.
async function settle() {
  const due = pending;
  pending = null;
  await due?.();
}

async function done(change, text, undo) {
  try {
    await settle(); // a removal that waits comes first: later, it would take what is changed now
    await change();
    say(text, { undo });
  } catch (error) {
    say(error.message);
  }
  await changed();
}

// Removing cannot be undone in the store. So it waits until the time to undo is over.
function removeLater(key, text, remove) {
  const run = async () => {
    hidden.delete(key);
    try {
      await remove();
    } catch (error) {
      say(error.message);
    }
    await changed();
  };
  say(text, { undo: () => hidden.delete(key), after: run });
  hidden.add(key);
  refresh();
}

async function changed() {
  await refresh();
  if (state.picture) await ask(state.picture, state.source);
}

async function addPicture(event) {
  event.preventDefault();
  const name = $("name").value;
  const { picture, source } = state; // before a wait, in which they may change
  let added;
  await done(
    async () => {
      [added] = await api.add(name, picture, source);
      $("name").value = "";
    },
    `Added to ${name}.`,
    () => (added.is_new ? api.removePicture(added.id) : null),
  );
}

// --- Start -------------------------------------------------------------------------------------

async function start() {
  state.calibration = await api.calibration();
  $("gallery-of").textContent = state.calibration.experiment;
  drawing = new Drawing($("canvas"), {
    isDark: state.calibration.is_dark,
    finished: async () => ask(await drawing.picture(), "drawing"),
  });
  $("clear").onclick = clearPicture;
  $("file").onchange = () => $("file").files[0] && askFile($("file").files[0]);
  $("camera").onclick = startCamera;
  $("camera").hidden = !navigator.mediaDevices;
  $("shoot").onclick = shoot;
  $("add").onsubmit = addPicture;
  $("threshold").oninput = () => {
    state.isMoved = true;
    const end = rulerEnd(inDistances(state), state.answer);
    state.threshold = ($("threshold").value / 1000) * end;
    showAnswer();
  };
  $("reset").onclick = () => {
    state.isMoved = false;
    state.threshold = state.answer?.threshold ?? state.threshold;
    showAnswer();
  };
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((item) => item.type.startsWith("image/"));
    if (file) askFile(file);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    $("stage").classList.add("over");
  });
  document.addEventListener("dragleave", () => $("stage").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("stage").classList.remove("over");
    if (event.dataTransfer.files[0]) askFile(event.dataTransfer.files[0]);
  });
  addEventListener("pagehide", settle);
  showAnswer();
  await refresh();
}

start().catch((error) => say(error.message));
