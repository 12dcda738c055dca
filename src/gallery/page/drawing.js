// The canvas on which a picture is drawn, and how a drawing becomes a picture like the dataset's.

const inkWidth = 22; // of 280 pixels: 2.2 of 28, as the pen of MNIST

export class Drawing {
  // `finished` is called after each stroke. Ink is white on black, as in MNIST, or black on white.
  constructor(canvas, { isDark, finished }) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.isDark = isDark;
    this.clear();
    let last = null;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      const scale = canvas.width / box.width;
      return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      last = place(event);
      this.#line(last, last);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      for (const part of event.getCoalescedEvents?.() ?? [event]) {
        const next = place(part);
        this.#line(last, next);
        last = next;
      }
    });
    const end = () => {
      if (last) finished();
      last = null;
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
  }

  clear() {
    this.context.fillStyle = this.isDark ? "black" : "white";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  #line(from, to) {
    Object.assign(this.context, {
      strokeStyle: this.isDark ? "white" : "black", lineWidth: inkWidth, lineCap: "round",
    });
    this.context.beginPath();
    this.context.moveTo(...from);
    this.context.lineTo(...to);
    this.context.stroke();
  }

  // The drawing as PNG. A drawing like MNIST's is fitted to 20 of 28 parts, and its centre of mass
  // is put in the middle, as MNIST's authors did.
  async picture() {
    const box = this.isDark && this.#ink();
    const made = box ? this.#fitted(box) : this.canvas;
    return new Promise((resolve) => made.toBlob(resolve, "image/png"));
  }

  #ink() {
    const { width, height } = this.canvas;
    const { data } = this.context.getImageData(0, 0, width, height);
    const box = { left: width, top: height, right: -1, bottom: -1, x: 0, y: 0, mass: 0 };
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const value = data[4 * (y * width + x)];
        if (!value) continue;
        box.left = Math.min(box.left, x); box.right = Math.max(box.right, x + 1);
        box.top = Math.min(box.top, y); box.bottom = Math.max(box.bottom, y + 1);
        box.x += value * x; box.y += value * y; box.mass += value;
      }
    }
    return box.mass ? { ...box, x: box.x / box.mass, y: box.y / box.mass } : null;
  }

  #fitted(box) {
    const side = this.canvas.width;
    const made = Object.assign(document.createElement("canvas"), { width: side, height: side });
    const context = made.getContext("2d");
    context.fillStyle = "black";
    context.fillRect(0, 0, side, side);
    const scale = (20 / 28) * side / Math.max(box.right - box.left, box.bottom - box.top);
    context.imageSmoothingQuality = "high";
    context.setTransform(scale, 0, 0, scale, side / 2 - scale * box.x, side / 2 - scale * box.y);
    context.drawImage(this.canvas, 0, 0);
    return made;
  }
}
