// Fills the list of examples: unpacks the rows, filters, sorts, and renders a body when it opens.
(async () => {
  const packed = document.getElementById("packed");
  if (!packed || typeof DecompressionStream === "undefined") return; // the first examples stand
  const bytes = Uint8Array.from(atob(packed.textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const rows = await new Response(stream).json();
  const form = document.getElementById("filters");
  const list = document.getElementById("examples-list");
  const count = document.getElementById("examples-count");
  const more = document.getElementById("examples-more");
  const PAGE = 25;
  let found = rows;
  let shown = 0;

  function item(row) {
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.innerHTML = row.head; // escaped when the report was written
    details.append(summary);
    details.addEventListener("toggle", () => {
      if (!details.open || details.children.length > 1) return;
      const body = document.createElement("div");
      body.className = "body";
      body.innerHTML = row.body;
      details.append(body);
    });
    return details;
  }

  function showMore() {
    list.append(...found.slice(shown, shown + PAGE).map(item));
    shown = Math.min(shown + PAGE, found.length);
    more.hidden = shown >= found.length;
    count.textContent = `${shown} of ${found.length} shown` +
      (found.length < rows.length ? `, ${rows.length} in all` : "");
  }

  function apply() {
    const words = form.elements.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const facets = [...form.querySelectorAll("select")].map((select) => select.name)
      .filter((name) => name !== "order");
    found = rows.filter((row) =>
      facets.every((key) => !form.elements[key].value || row[key] === form.elements[key].value) &&
      words.every((word) => row.text.includes(word)));
    const [key, way] = form.elements.order.value.split(" ");
    if (key) {
      const value = (row) => row.sort[key] ?? -Infinity;
      found.sort((a, b) => (way === "up" ? value(a) - value(b) : value(b) - value(a)));
    }
    list.replaceChildren();
    shown = 0;
    showMore();
  }

  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", showMore);
  apply();
})();

// Paper has no triangles to click: open the funnel's reasons for it.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details.print")) details.open = true;
});
