// A picture opens at full size; the arrows go on to the next one, a click or Escape closes it. PAGE#12 opens sample 12.
const viewer = document.getElementById("viewer");
const links = [...document.querySelectorAll("a.r-full")];
let current = 0;
function open(number) {
  current = (number + links.length) % links.length;
  const link = links[current];
  const image = new Image();
  image.src = link.href;
  image.className = link.querySelector("img").className;
  image.onload = () => size.textContent = ` ${image.naturalWidth} × ${image.naturalHeight}`;
  viewer.querySelector(".v-picture").replaceChildren(image);
  const words = link.closest("figure").querySelector("figcaption").cloneNode(true);
  const size = words.firstElementChild.appendChild(document.createElement("small"));
  const heading = link.closest(".v-class")?.querySelector("h3");  // there is none without labels
  if (heading) size.before(" " + heading.firstChild.textContent);
  viewer.querySelector(".v-words").replaceChildren(words);
  if (!viewer.open) viewer.showModal();
}
links.forEach((link, number) => link.addEventListener("click", (event) => {
  event.preventDefault();
  open(number);
}));
viewer.addEventListener("click", () => viewer.close());
document.addEventListener("keydown", (event) => {
  if (!viewer.open) return;
  if (event.key === "ArrowRight") open(current + 1);
  if (event.key === "ArrowLeft") open(current - 1);
});
const wanted = /^#\d+$/.test(location.hash) && document.querySelector(`figure[data-sample="${location.hash.slice(1)}"] a`);
if (wanted) open(links.indexOf(wanted));
