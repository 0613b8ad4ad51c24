// Shows what a point or a cell of a figure means, in the <output> beside the figure: under the pointer, after a tap, or
// with the arrow keys. A figure has the class "marks"; a mark is an element with a <title>.
(() => {
  const REACH = 28; // pixels from a finger to the mark it means
  const STEPS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  const framed = (event) => event.target.closest?.(".marks");
  const marksOf = (frame) => [...frame.querySelectorAll("title")].map((title) => title.parentNode);
  const centre = (mark) => {
    const box = mark.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const markAt = (event) => {
    for (let node = event.target; node && !node.classList?.contains("marks"); node = node.parentNode)
      if ([...node.children].some((child) => child.localName === "title")) return node;
    return null;
  };
  const say = (frame, mark) => {
    const output = frame.parentNode.querySelector("output");
    if (output) output.textContent = mark.querySelector("title").textContent;
  };
  const choose = (frame, mark) => {
    frame.querySelector(".chosen")?.classList.remove("chosen");
    mark.classList.add("chosen");
    say(frame, mark);
  };
  const nearest = (frame, x, y) => {
    let best = null, least = REACH;
    for (const mark of marksOf(frame)) {
      const [a, b] = centre(mark), far = Math.hypot(a - x, b - y);
      if (far < least) [best, least] = [mark, far];
    }
    return best;
  };
  const next = (frame, key) => {
    const marks = marksOf(frame), chosen = frame.querySelector(".chosen");
    if (key === "End") return marks.at(-1);
    if (!chosen || key === "Home") return marks[0];
    const [dx, dy] = STEPS[key], [x, y] = centre(chosen);
    let best = null, least = Infinity;
    for (const mark of marks) {
      const [a, b] = centre(mark), along = (a - x) * dx + (b - y) * dy;
      const across = Math.abs((a - x) * dy) + Math.abs((b - y) * dx);
      if (along > 0.5 && along + 3 * across < least) [best, least] = [mark, along + 3 * across];
    }
    return best ?? chosen;
  };
  document.addEventListener("pointerover", (event) => {
    const frame = framed(event), mark = frame && markAt(event);
    if (mark) say(frame, mark);
  });
  document.addEventListener("click", (event) => {
    const frame = framed(event), mark = frame && (markAt(event) ?? nearest(frame, event.clientX, event.clientY));
    if (mark) choose(frame, mark);
  });
  document.addEventListener("keydown", (event) => {
    const frame = framed(event);
    if (!frame || !(event.key in STEPS || event.key === "Home" || event.key === "End")) return;
    const mark = next(frame, event.key);
    if (!mark) return;
    event.preventDefault();
    choose(frame, mark);
    mark.scrollIntoView({ block: "nearest", inline: "center" });
  });
  addEventListener("load", () => {
    for (const frame of document.querySelectorAll(".marks.centred"))
      frame.scrollLeft = (frame.scrollWidth - frame.clientWidth) / 2;
  });
})();
