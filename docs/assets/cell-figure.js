/* Matrices with numbers: point at an entry, and the entries that make it light up. */
customElements.get("cell-figure") ||
  customElements.define(
    "cell-figure",
    class extends HTMLElement {
      connectedCallback() {
        if (this.matrices) return;
        this.said = this.querySelector(".said span");
        this.matrices = [...this.querySelectorAll(".matrix")].map((box) => ({
          name: box.querySelector("code")?.textContent ?? "",
          hue: box.classList[1],
          shape: box.dataset.shape.split(",").filter(Boolean).map(Number),
          cells: [...box.querySelectorAll("tbody td")],
          sentences: [],
        }));
        // The lists of sentences belong to the last matrices: what was made, and of what.
        const lists = [...this.querySelectorAll("ul")];
        this.matrices.slice(-lists.length).forEach((matrix, n) => (matrix.sentences = [...lists[n].children]));
        for (const matrix of this.matrices) {
          matrix.uses = matrix.sentences.map((item) =>
            item.dataset.uses.split(",").map((places) => places.split(".").filter(Boolean).map(Number)),
          );
          const start = Math.max(0, matrix.sentences.length ? matrix.cells.findIndex((c) => c.matches(".lit")) : 0);
          matrix.cells.forEach((cell, place) => (cell.tabIndex = place === start ? 0 : -1));
        }
        for (const table of this.querySelectorAll("table")) table.setAttribute("role", "grid");
        const on = (type, act) =>
          this.addEventListener(type, (event) => {
            const cell = event.target.closest("tbody td");
            const m = this.matrices.findIndex((matrix) => matrix.cells.includes(cell));
            if (m >= 0) act(m, this.matrices[m].cells.indexOf(cell), event);
          });
        on("pointerover", (m, place, event) => {
          event.stopPropagation();
          this.show(m, place);
        });
        on("click", (m, place) => this.go(m, place));
        on("focusin", (m, place) => this.show(m, place));
        on("keydown", (m, place, event) => this.key(m, place, event));
      }

      go(m, place) {
        const { cells } = this.matrices[m];
        for (const cell of cells) cell.tabIndex = -1;
        cells[place].tabIndex = 0;
        cells[place].focus();
      }

      key(m, place, event) {
        const { shape, cells } = this.matrices[m];
        const columns = shape.at(-1) ?? 1;
        const slice = columns * (shape.at(-2) ?? 1);
        const column = place % columns;
        // A step to the side goes on in the slice beside this one.
        const aside = (step) => {
          const next = column + step;
          if (next >= 0 && next < columns) return place + step;
          return place + step * (slice - columns + 1);
        };
        const row = place - column;
        const to = {
          ArrowLeft: () => aside(-1),
          ArrowRight: () => aside(1),
          ArrowUp: () => (place % slice >= columns ? place - columns : place),
          ArrowDown: () => (place % slice < slice - columns ? place + columns : place),
          Home: () => (event.ctrlKey ? 0 : row),
          End: () => (event.ctrlKey ? cells.length - 1 : row + columns - 1),
        }[event.key];
        if (event.key === "Escape") this.clear();
        if (!to) return;
        event.preventDefault();
        if (cells[to()]) this.go(m, to());
      }

      /* The code for some entries of a matrix: `dJ_dW[1,:]` for a whole row. */
      entries(m, places) {
        const { name, shape } = this.matrices[m];
        const axes = shape.map((size, axis) => {
          const step = shape.slice(axis + 1).reduce((product, length) => product * length, 1);
          return [...new Set(places.map((place) => Math.floor(place / step) % size))];
        });
        const box = axes.reduce((product, found) => product * found.length, 1);
        const whole = axes.every((found, axis) => found.length === 1 || found.length === shape[axis]);
        if (!whole || box !== places.length) return places.map((place) => this.entries(m, [place])).join(", ");
        const index = axes.map((found) => (found.length === 1 ? found[0] : ":"));
        return name + (shape.length ? `[${index}]` : "");
      }

      /* The places, matrix by matrix, that an entry is made of or goes into. */
      related(m, place) {
        return this.matrices.map((other, o) => {
          if (o === m) return [place];
          if (o < m) return this.matrices[m].uses[place]?.[o] ?? [];
          return other.uses.flatMap((uses, n) => (uses[m].includes(place) ? [n] : []));
        });
      }

      show(m, place) {
        const lit = this.related(m, place);
        this.matrices.forEach(({ cells }, o) =>
          cells.forEach((cell, n) => {
            cell.classList.toggle("lit", lit[o].includes(n));
            cell.classList.toggle("at", o === m && n === place);
          }),
        );
        const { sentences, cells } = this.matrices[m];
        const last = this.matrices.length - 1;
        if (sentences[place]) this.said.replaceChildren(...sentences[place].cloneNode(true).childNodes);
        else {
          const goal = this.entries(last, lit[last]) || "nothing";
          this.said.textContent = `${this.entries(m, [place])} = ${cells[place].textContent} goes into ${goal}`;
        }
        const named = this.matrices.filter(({ name }, o) => name && lit[o].length);
        this.closest("linked-symbols")?.light(Object.fromEntries(named.map(({ name, hue }) => [name, hue])));
      }

      clear() {
        for (const { cells } of this.matrices) for (const cell of cells) cell.classList.remove("lit", "at");
        this.said.textContent = "Point at an entry, or walk with the arrow keys.";
        this.closest("linked-symbols")?.light({});
      }
    },
  );
