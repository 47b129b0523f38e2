// Says of each table that is wider than its place that it scrolls: phones show no scroll bar.
"use strict";
for (const place of document.querySelectorAll(".scroll")) {
  new ResizeObserver(() => place.toggleAttribute("data-wide", place.scrollWidth > place.clientWidth + 1)).observe(place);
}
