// The calculator that extensions/shapes.py writes, at the reader's sizes. Each number of the page
// carries its formula; whole numbers are BigInt, so that none is too large to be exact.
const UNITS = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB", "RB", "QB"];
const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";

const grouped = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ",");

// The first three digits, rounded, and the power of ten of the first.
function leading(number) {
  const power = String(number).length - 1;
  const unit = 10n ** BigInt(power - 2);
  const digits = (number + unit / 2n) / unit;
  return digits === 1000n ? ["100", power + 1] : [String(digits), power];
}

const show = {
  bytes(number) {
    if (number < 1000n) return `${number} B`;
    const [digits, power] = leading(number);
    const whole = (power % 3) + 1;
    const rest = digits.slice(whole);
    return `${digits.slice(0, whole)}${rest && `.${rest}`} ${UNITS[Math.floor(power / 3)]}`;
  },
  count(number) {
    if (number < 10n ** 9n) return grouped(number);
    const [digits, power] = leading(number);
    const raised = String(power).replace(/\d/g, (digit) => RAISED[digit]);
    return `${digits[0]}.${digits.slice(1)} × 10${raised}`;
  },
};

// "4*N*D + 4" at {N: 2n, D: 3n} is 28n.
const sum = (formula, sizes) =>
  formula
    .split(" + ")
    .map((term) => term.split("*").reduce((product, f) => product * (sizes[f] ?? BigInt(f)), 1n))
    .reduce((total, term) => total + term);

const shape = (names, sizes) =>
  names
    .split(" ")
    .filter(Boolean)
    .map((name) => grouped(sizes[name] ?? name))
    .join(" × ") || "1 number";

class ShapeCalculator extends HTMLElement {
  connectedCallback() {
    this.fields = [...this.querySelectorAll("input")];
    this.status = this.querySelector("[role=status]");
    for (const type of ["input", "click", "submit"]) this.addEventListener(type, this);
    const asked = new URLSearchParams(location.search);
    const given = this.fields.filter((field) => asked.has(field.name));
    for (const field of given) field.value = asked.get(field.name);
    if (given.length) this.update();
  }

  handleEvent(event) {
    if (event.type === "submit") event.preventDefault();
    if (event.type === "click") {
      const button = event.target.closest("[data-sizes]");
      if (!button) return;
      const sizes = button.dataset.sizes.split(" ");
      this.fields.forEach((field, i) => (field.value = grouped(sizes[i])));
    }
    this.update();
    if (!this.classList.contains("stale")) this.remember();
  }

  // The size in a field, or null with the reason beside it.
  read(field) {
    const text = field.value.trim();
    const plain = /^\d{1,3}([ ,_]\d{3})+$/.test(text) ? text.replace(/[ ,_]/g, "") : text;
    const largest = BigInt(this.dataset.largest);
    const whole = /^\d+$/.test(plain) ? BigInt(plain) : 0n;
    const right = whole >= 1n && whole <= largest;
    field.setAttribute("aria-invalid", String(!right));
    document.getElementById(field.getAttribute("aria-describedby")).textContent = right
      ? ""
      : `${field.name} needs a whole number from 1 to ${grouped(largest)}` +
        (text ? `; it is “${text.slice(0, 20)}”` : "; the field is empty");
    return right ? whole : null;
  }

  update() {
    const read = this.fields.map((field) => [field.name, this.read(field)]);
    const stale = read.some(([, size]) => size === null);
    this.classList.toggle("stale", stale);
    if (!stale) this.fill(Object.fromEntries(read));
    const said = this.said ?? this.status.textContent;
    this.status.textContent = stale ? `${said}, the last sizes that were right` : said;
  }

  fill(sizes) {
    for (const cell of this.querySelectorAll("[data-sum]"))
      cell.textContent = show[cell.dataset.unit](sum(cell.dataset.sum, sizes));
    for (const cell of this.querySelectorAll("[data-shape]"))
      cell.textContent = shape(cell.dataset.shape, sizes);
    const named = Object.entries(sizes).map(([name, size]) => `${name} = ${grouped(size)}`);
    this.said = `Numbers for ${named.join(", ")}`;
  }

  // The address says the sizes, so that it can be passed on.
  remember() {
    const address = new URL(location);
    for (const field of this.fields)
      address.searchParams.set(field.name, field.value.replace(/\D/g, ""));
    history.replaceState(history.state, "", address);
  }
}

customElements.define("shape-calculator", ShapeCalculator);
