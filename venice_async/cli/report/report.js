(() => {
  const cards = [...document.querySelectorAll(".card")];
  const buttons = [...document.querySelectorAll("nav button")];
  const field = document.querySelector("nav input");
  const empty = document.querySelector(".empty");
  const words = new Map(cards.map((card) => [card, card.querySelector(".text").textContent.toLowerCase()]));
  let shown = "all";

  const apply = () => {
    const wanted = field.value.trim().toLowerCase();
    let count = 0;
    for (const card of cards) {
      const fits = (shown === "all" || card.dataset.status === shown) && words.get(card).includes(wanted);
      card.hidden = !fits;
      count += fits;
      if (!fits) card.querySelector("video")?.pause();
    }
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.show === shown));
    empty.hidden = count > 0;
  };

  for (const button of buttons) {
    button.addEventListener("click", () => {
      shown = button.dataset.show;
      history.replaceState(null, "", shown === "all" ? location.pathname + location.search : "#" + shown);
      apply();
    });
  }
  field.addEventListener("input", apply);
  document.addEventListener(
    "play",
    (event) => {
      for (const video of document.querySelectorAll("video")) if (video !== event.target) video.pause();
    },
    true,
  );
  for (const video of document.querySelectorAll("video[poster]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-label", "Play " + video.getAttribute("aria-label").toLowerCase());
    button.append(document.createElement("span"));
    button.addEventListener("click", () => {
      video.controls = true;
      button.remove();
      video.focus();
      video.play();
    });
    video.controls = false;
    video.after(button);
  }
  const asked = location.hash.slice(1);
  if (buttons.some((button) => button.dataset.show === asked)) shown = asked;
  document.querySelector("nav").hidden = cards.length < 2;
  apply();
})();
