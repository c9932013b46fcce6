/* Formula beside code: point at a symbol, and its name lights up in the code, and the other way round. */
customElements.get("linked-symbols") ||
  customElements.define(
    "linked-symbols",
    class extends HTMLElement {
      connectedCallback() {
        if (this.status) return;
        this.tabIndex = 0;
        this.setAttribute("role", "group");
        this.setAttribute("aria-label", "Formula and code. The arrow keys walk through the symbols.");
        this.status = document.createElement("span");
        this.status.className = "status";
        this.status.textContent = "← → symbols";
        this.status.setAttribute("aria-live", "polite");
        this.append(this.status);
        this.addEventListener("pointerover", (event) =>
          this.point((this.find(), event.target.closest("[data-name]")?.dataset.name)),
        );
        // A finger that is lifted has not left.
        this.addEventListener("pointerleave", (event) => event.pointerType === "touch" || this.point());
        this.addEventListener("focusout", (event) => this.contains(event.relatedTarget) || this.point());
        this.addEventListener("keydown", (event) => event.target === this && this.walk(event));
      }

      // Not while the page loads: there are many, and few are pointed at.
      find() {
        if (this.places) return;
        this.places = new Map();
        const folded = new Map(); // the code's `x` is a row of `X`
        const add = (name, element) => {
          element.dataset.name = name;
          this.places.set(name, [...(this.places.get(name) ?? []), element]);
        };
        for (const symbol of this.querySelectorAll("[data-name]")) {
          const { name } = symbol.dataset;
          folded.set(name.toLowerCase(), name);
          add(name, symbol);
        }
        for (const symbol of this.querySelectorAll("[data-letter]")) add(symbol.dataset.letter, symbol);
        for (const token of this.querySelectorAll(".highlight span:not(:has(*))")) {
          const text = token.textContent;
          const name = this.places.has(text) ? text : folded.get(text.toLowerCase());
          const transpose = text === "T" && token.previousSibling?.textContent === ".";
          if (name && !transpose) add(name, token);
        }
      }

      walk(event) {
        this.find();
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Escape: 0 }[event.key];
        if (step === undefined) return;
        event.preventDefault();
        const names = [...this.places.keys()];
        const from = names.indexOf(this.name);
        this.point(step ? names.at((Math.max(from, step < 0 ? 0 : -1) + step) % names.length) : undefined);
        const { name } = this;
        const places = this.places.get(name) ?? [];
        const inCode = places.filter((place) => place.closest(".highlight")).length;
        this.status.textContent = name
          ? `${name}: ${places.length - inCode} in the formula, ${inCode} in the code`
          : "← → symbols";
      }

      point(name) {
        this.name = name;
        this.light(name ? { [name]: "hue-0" } : {});
      }

      /* Light all places of some names, each in its hue. */
      light(hues) {
        for (const place of this.lit ?? []) place.classList.remove("lit", "hue-0", "hue-1", "hue-2", "hue-3");
        this.lit = [];
        if (Object.keys(hues).length) this.find();
        for (const [name, hue] of Object.entries(hues))
          for (const place of this.places.get(name) ?? []) {
            place.classList.add("lit", hue);
            this.lit.push(place);
          }
      }
    },
  );
