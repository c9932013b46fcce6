/* What can be scrolled sideways can be reached by keyboard, and only that. Firefox and Chromium
   see to it themselves, Safari does not. The theme does it for code, but not on touch screens. */
const WIDE = "div.arithmatex, .md-typeset pre > code, .md-typeset__scrollwrap";

/* All are measured before any is changed, or each would be laid out anew. */
function reach(boxes) {
  const wide = boxes.map((box) => box.scrollWidth > box.clientWidth);
  boxes.forEach((box, n) => {
    if (wide[n] === box.hasAttribute("tabindex")) return;
    if (wide[n]) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
}

const sizes = new ResizeObserver((entries) => reach(entries.map(({ target }) => target)));

function look(element) {
  element.querySelectorAll(WIDE).forEach((box) => sizes.observe(box));
  /* Copy buttons are no navigation; the theme makes a landmark of each. */
  element.querySelectorAll(".md-code__nav").forEach((nav) => nav.setAttribute("role", "none"));
}

/* Instant navigation and the theme itself add elements later, and the theme takes the place in
   the tab order away again. */
new MutationObserver((records) => {
  for (const { type, target } of records) {
    if (type === "childList") look(target);
    else if (target.matches(WIDE)) reach([target]);
  }
}).observe(document.documentElement, {
  childList: true,
  subtree: true,
  attributeFilter: ["tabindex"],
});
look(document);
/* What is far from the screen is not laid out, and so not known to be wide. */
document.addEventListener("contentvisibilityautostatechange", ({ target, skipped }) => {
  if (!skipped && target.matches(WIDE)) reach([target]);
});
document.fonts.ready.then(() => reach([...document.querySelectorAll(WIDE)]));
