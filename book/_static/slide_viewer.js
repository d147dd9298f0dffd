// Puts a viewer in the place of the picture of figure `fig-slides`: sections side by side, in step, with layers.
// What it shows stands in slides.js (hsa.reporting.viewer). It asks for nothing but the JPEGs beside that.
"use strict";

(() => {
  const LAYERS = [
    ["tissue", "tissue mask", "#0072B2"],
    ["tiles", "tiles", "#222222"],
    ["importance", "importance of each tile", null],
    ["tumour", "true tumour", "#009E73"],
    ["cells", "true positive cells", "#D55E00"],
    ["focus", "the focus", "#AA3377"],
  ];
  const SVG = "http://www.w3.org/2000/svg";
  const LENGTHS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
  const figure = document.getElementById("fig-slides");
  const { cases, classes } = window.hsaSlides;
  const folder = new URL(".", [...document.scripts].find(one => one.src.endsWith("/slides.js")).src);
  const shown = new Set(["tumour", "focus"]);
  let panes = [];
  let leader = null; // the viewer that the others follow

  const make = (name, more = {}, ...inside) => {
    const made = Object.assign(document.createElement(name), more);
    made.append(...inside);
    return made;
  };

  const choice = make("select", { id: "hsa-case" });
  cases.forEach((one, number) => choice.append(make("option", { value: number, textContent: one.name })));
  const says = make("p", { className: "hsa-says", ariaLive: "polite" });
  const layers = make("fieldset", {}, make("legend", { textContent: "Show" }));
  const sections = make("div", { className: "hsa-sections" });
  const bar = make("span", { className: "hsa-bar" });
  const button = (text, name, act) => make("button", { type: "button", textContent: text, ariaLabel: name, title: name, onclick: act });
  const zoom = factor => () => panes[0] && lead(panes[0]).viewport.zoomBy(factor).applyConstraints();
  const buttons = make(
    "div",
    { className: "hsa-buttons" },
    button("+", "Zoom in", zoom(1.6)),
    button("\u2212", "Zoom out", zoom(1 / 1.6)),
    button("Whole", "Show the whole section", () => panes[0] && lead(panes[0]).viewport.goHome()),
    bar
  );
  const box = make(
    "div",
    { className: "hsa-viewer", role: "group", ariaLabel: "Slides to look into" },
    make("label", { htmlFor: "hsa-case", textContent: "Case" }),
    choice,
    says,
    layers,
    sections,
    buttons,
    make("p", {
      className: "hsa-help",
      textContent: "Drag to move. Ctrl and the wheel, or two fingers, zoom. On the keyboard: arrows move, + and \u2212 zoom, 0 shows the whole.",
    })
  );
  const picture = figure.querySelector("img");
  (picture.closest("a") ?? picture).classList.add("hsa-still");
  figure.prepend(box);

  const lead = viewer => (leader = viewer);

  function overlay(section) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${section.width} ${section.height}`);
    svg.setAttribute("aria-hidden", "true");
    const draw = (name, shape, given) => {
      const made = document.createElementNS(SVG, shape);
      Object.entries(given).forEach(([key, value]) => made.setAttribute(key, value));
      made.dataset.layer = name;
      svg.append(made);
    };
    for (const [x, y, value] of section.importance ?? []) {
      const fill = classes[value > 0 ? 1 : 0];
      draw("importance", "rect", { x, y, width: section.side, height: section.side, fill, "fill-opacity": 0.7 * Math.abs(value) });
    }
    for (const [name, , colour] of LAYERS) {
      if (section.layers[name]) draw(name, "path", { d: section.layers[name], stroke: colour });
    }
    return svg;
  }

  function refresh() {
    box.querySelectorAll("[data-layer]").forEach(one => (one.style.display = shown.has(one.dataset.layer) ? "" : "none"));
  }

  function measure(viewer, mpp) {
    const pixels = viewer.viewport.viewportToImageZoom(viewer.viewport.getZoom(true)) / mpp; // on the screen, a micron
    const most = Math.min(140, viewer.container.clientWidth / 3);
    const length = LENGTHS.filter(one => one * pixels <= most).pop() ?? LENGTHS[0];
    bar.style.width = `${length * pixels}px`;
    bar.textContent = length < 1000 ? `${length} \u00b5m` : `${length / 1000} mm`;
  }

  function pane(section, where) {
    const place = make("div", { className: "hsa-pane" });
    sections.append(make("div", {}, make("div", { className: "hsa-stain", textContent: section.stain }), place));
    place.style.aspectRatio = `${section.width} / ${section.height}`;
    const viewer = OpenSeadragon({
      element: place,
      drawer: "canvas", // the drawer by WebGL stays blank where a page is opened from a disk
      tileSources: { type: "image", url: new URL(section.file, folder).href },
      showNavigationControl: false,
      cooperativeGestures: true,
      animationTime: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.3,
      maxZoomPixelRatio: 4,
      visibilityRatio: 0.5,
    });
    viewer.canvas.setAttribute("role", "img");
    viewer.canvas.setAttribute("aria-label", `${section.stain} section. ${where}`);
    viewer.addHandler("open", () => {
      const size = new OpenSeadragon.Rect(0, 0, 1, section.height / section.width);
      viewer.addOverlay({ element: overlay(section), location: size });
      measure(viewer, section.mpp);
      refresh();
    });
    for (const name of ["pointerenter", "pointerdown", "focusin", "wheel"]) place.addEventListener(name, () => lead(viewer));
    viewer.addHandler("viewport-change", () => {
      if (viewer !== (leader ?? panes[0])) return;
      measure(viewer, section.mpp);
      for (const other of panes) {
        if (other === viewer || !other.isOpen()) continue;
        other.viewport.zoomTo(viewer.viewport.getZoom(true), null, true);
        other.viewport.panTo(viewer.viewport.getCenter(true), true);
      }
    });
    return viewer;
  }

  function show(one) {
    panes.forEach(viewer => viewer.destroy());
    leader = null;
    sections.replaceChildren();
    says.textContent = one.says;
    panes = one.sections.map(section => pane(section, one.says));
    const held = new Set(one.sections.flatMap(section => [...Object.keys(section.layers), ...(section.importance ? ["importance"] : [])]));
    layers.replaceChildren(layers.firstChild);
    for (const [name, label, colour] of LAYERS.filter(([name]) => held.has(name))) {
      const tick = make("input", { type: "checkbox", checked: shown.has(name) });
      tick.onchange = () => {
        shown[tick.checked ? "add" : "delete"](name);
        refresh();
      };
      const swatch = make("span", { className: "hsa-swatch" });
      swatch.style.background = colour ?? `linear-gradient(90deg, ${classes[0]} 50%, ${classes[1]} 50%)`;
      const said = name === "importance" ? `${label} (for ${one.classes[0]}, for ${one.classes[1]})` : label;
      layers.append(make("label", {}, tick, swatch, said));
    }
  }

  choice.onchange = () => show(cases[choice.value]);
  show(cases[0]);
})();
