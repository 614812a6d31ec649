// One page of jobs. Frozen, it shows the data that lies in it; live, it keeps a copy of the server's rows,
// which an event stream brings up to date. Text is only ever set as text: nothing becomes markup.
(() => {
  "use strict";
  const PAGE = 60; // cards made at once; more as one scrolls, so that thousands of jobs cost nothing
  const COMPACT_FROM = 200;
  const SHOWN = [["all", "All"], ["working", "Working"], ["done", "Clips"], ["failed", "Failed"], ["waiting", "Not ended"]];
  const place_of = (row) => row.n ?? -(row.created ?? 0);
  const ORDERS = {
    newest: ["Newest first", (a, b) => b.created - a.created || place_of(b) - place_of(a)],
    oldest: ["Oldest first", (a, b) => a.created - b.created || place_of(a) - place_of(b)],
    batch: ["In order of the batch", (a, b) => place_of(a) - place_of(b)],
    price: ["Dearest first", (a, b) => (b.usd ?? -1) - (a.usd ?? -1) || place_of(a) - place_of(b)],
    took: ["Slowest first", (a, b) => (b.took ?? -1) - (a.took ?? -1) || place_of(a) - place_of(b)],
  };

  const $ = (selector) => document.querySelector(selector);
  const main = $("main"), nav = $("nav"), field = $("nav input"), select = $("nav select"), view = $("nav .view");
  const more = $(".more"), empty = $(".empty"), link = $(".link"), panels = $(".account"), asked = $(".questions");
  const embedded = document.getElementById("data");
  const live = embedded === null;
  const rows = new Map(); // by id
  const cards = new Map(); // those that are made, by id
  const asking = new Map(); // questions, by key
  let data = {}, sorted = [], fitting = [], shown = "all", order = live ? "newest" : "batch", limit = PAGE;
  let clock = 0; // seconds by which the server's clock is ahead of ours
  let compact = null; // what a person chose; null: by the number of jobs

  // -- Text ------------------------------------------------------------------------------------------------
  const usd = (value) => {
    const cents = value.toFixed(2), exact = value.toFixed(4).replace(/0+$/, "");
    const [whole, part] = (exact.length > cents.length ? exact : cents).split(".");
    return "$" + whole.replace(/\B(?=(\d{3})+$)/g, ",") + "." + part;
  };
  const two = (value) => String(value).padStart(2, "0");
  const span = (seconds) => {
    const whole = Math.round(seconds);
    if (whole < 60) return (seconds < 10 ? seconds.toFixed(1).replace(/\.0$/, "") : whole) + " s";
    if (whole < 3600) return Math.floor(whole / 60) + " min " + two(whole % 60) + " s";
    if (whole < 172800) return Math.floor(whole / 3600) + " h " + two(Math.floor((whole % 3600) / 60)) + " min";
    return Math.floor(whole / 86400) + " days";
  };
  const bytes = (size) => {
    for (const unit of ["B", "KB", "MB"]) {
      if (size < 1000) return (unit === "B" || size >= 100 ? size.toFixed(0) : size.toFixed(1)) + " " + unit;
      size /= 1000;
    }
    return (size >= 100 ? size.toFixed(0) : size.toFixed(1)) + " GB";
  };
  const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric" });
  const minute = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
  const date = (seconds) => day.format(seconds * 1000) + ", " + minute.format(seconds * 1000);
  const ago = (seconds) => (seconds < 5 ? "just now" : span(seconds) + " ago");
  const now = () => Date.now() / 1000 + clock;
  const count = (number, one, many) => number.toLocaleString("en") + " " + (number === 1 ? one : many);

  // -- Elements --------------------------------------------------------------------------------------------
  const el = (name, facts, ...inside) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(facts ?? {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key === "class") element.className = value;
      else if (key === "text") element.textContent = value;
      else if (key === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
      else element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...inside.flat().filter((part) => part !== null && part !== undefined && part !== false));
    return element;
  };
  const bar = (share, label, high) => {
    const fill = el("i");
    const whole = el("span", { class: "bar", role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
    setBar(whole, share);
    whole.classList.toggle("high", Boolean(high));
    return whole;
  };
  const setBar = (element, share) => {
    element.classList.toggle("unknown", share === null);
    element.firstChild.style.width = share === null ? "100%" : Math.min(Math.max(share, 0), 1) * 100 + "%";
    if (share === null) element.removeAttribute("aria-valuenow");
    else element.setAttribute("aria-valuenow", Math.round(share * 100));
  };
  const fact = (name, value, kind) => (value ? el("div", { class: kind }, el("dt", { text: name }), el("dd", { text: value })) : null);

  // -- A job -----------------------------------------------------------------------------------------------
  const name = (row) => row.key ?? (row.n === undefined ? row.id : String(row.n + 1));
  const reckon = (row) => {
    // `share` is known for bytes; of the rest is known since when and how long it will probably take.
    if (row.share !== null && row.share !== undefined) return [row.share, null];
    if (!row.whole || !row.since) return [null, null];
    const age = now() - row.since;
    return [Math.min(age / row.whole, 0.99), row.whole - age];
  };
  const remaining = (left) => (left === null ? "" : left < 1 ? "any moment now" : "about " + span(Math.max(left, 1)) + " left");

  const stageOf = (row) => {
    if (row.status === "working") {
      const [share, left] = reckon(row);
      return el("div", { class: "stage said" },
        el("p", { class: "verdict" }, row.label, el("span", { class: "left", text: remaining(left) })),
        bar(share, row.label + (row.key ? ", " + row.key : "")),
        row.reason && el("p", { class: "reason", dir: "auto", text: row.reason }));
    }
    if (row.clip && row.status === "done") return el("div", { class: "stage" }, player(row));
    return el("div", { class: "stage said" },
      el("p", { class: "verdict" }, row.label, row.note && el("span", { text: row.note })),
      row.reason && el("p", { class: "reason", dir: "auto", text: row.reason }),
      row.hint && el("p", { class: "hint", dir: "auto", text: row.hint }));
  };
  const player = (row) => {
    const label = "clip " + name(row);
    const play = () => {
      const video = el("video", { controls: true, playsinline: true, src: row.clip, poster: row.poster, width: row.width, height: row.height, "aria-label": label });
      button.replaceWith(video);
      video.closest(".card").classList.add("playing");
      video.focus();
      video.play().catch(() => {});
    };
    const picture = row.poster && el("img", { src: row.poster, alt: "", loading: "lazy", decoding: "async", on: { error: () => picture.remove() } });
    const button = el("button", { type: "button", "aria-label": "Play " + label, on: { click: play } }, picture, el("span"));
    return button;
  };
  const promptOf = (row) => {
    if (row.prompt === null || row.prompt === undefined) return null;
    const long = row.prompt.length > 180 || row.prompt.split("\n").length > 4;
    return long
      ? el("details", { class: "prompt" }, el("summary", { dir: "auto", text: row.prompt }))
      : el("p", { class: "prompt", dir: "auto", text: row.prompt });
  };
  const copy = (row) => {
    const button = el("button", { type: "button", class: "copy", text: "Copy prompt", on: { click: async () => {
      try {
        await navigator.clipboard.writeText(row.prompt);
        button.textContent = "Copied";
      } catch {
        button.textContent = "The browser does not allow it here";
      }
      setTimeout(() => { button.textContent = "Copy prompt"; }, 1500);
    } } });
    return button;
  };
  const cardOf = (row) => el("article", { class: "card " + row.status, id: "clip-" + row.id, "data-status": row.status },
    stageOf(row),
    el("div", { class: "text" },
      el("p", { class: "head" }, el("span", null, el("b", { text: name(row), dir: "auto" }), " "), el("code", { text: row.model ?? "" })),
      promptOf(row),
      row.prompt && copy(row),
      row.reason && el("p", { class: "why", dir: "auto", text: row.reason + (row.hint ? " → " + row.hint : "") }),
      row.tags && Object.keys(row.tags).length > 0 && el("ul", { class: "tags", "aria-label": "Tags" }, Object.entries(row.tags).map(([name, value]) => el("li", { text: value === "" ? name : name + ": " + value }))),
      el("dl", { class: "facts" },
        fact(row.charged === false ? "Quote" : "Price", row.usd !== null && row.usd !== undefined && usd(row.usd)),
        fact("Length", row.length ? span(row.length) : row.duration),
        fact("Size", row.width && row.width + "×" + row.height, "pixels"),
        fact("Took", row.took !== null && row.took !== undefined && span(row.took)),
        fact("Seed", row.seed),
        fact(row.ended ? "Ended" : "Began", live && (row.ended ?? row.created) ? ago(now() - (row.ended ?? row.created)) : ""),
        fact("By", row.owner)),
      row.name && row.status === "done" && el("p", { class: "file" },
        row.clip ? el("a", { href: row.clip, download: row.name, text: row.name }) : el("span", { text: row.name }),
        row.size !== null && row.size !== undefined && el("span", { text: bytes(row.size) }))));

  // -- The list --------------------------------------------------------------------------------------------
  const words = (row) => (row.words ??= [row.key, row.model, row.prompt, row.name, row.label, row.reason, row.owner, name(row), ...Object.entries(row.tags ?? {}).flat()].join("\n").toLowerCase());
  const sort = () => { sorted = [...rows.values()].sort(ORDERS[order][1]); };
  const filter = () => {
    const wanted = field.value.trim().toLowerCase();
    fitting = sorted.filter((row) => (shown === "all" || row.status === shown) && (!wanted || words(row).includes(wanted)));
  };
  const place = () => {
    // Remove first, so that what stays need not move: a video that is moved stops.
    const wanted = fitting.slice(0, limit), ids = new Set(wanted.map((row) => row.id));
    for (const [id, card] of cards) if (!ids.has(id)) { card.remove(); cards.delete(id); }
    let at = main.firstElementChild;
    for (const row of wanted) {
      let card = cards.get(row.id);
      if (!card) cards.set(row.id, (card = cardOf(row)));
      if (card === at) at = at.nextElementSibling;
      else main.insertBefore(card, at);
    }
    more.hidden = fitting.length <= limit;
    more.textContent = "Show more (" + (fitting.length - limit).toLocaleString("en") + ")";
    empty.hidden = fitting.length > 0;
    empty.textContent = rows.size ? "Nothing matches." : live ? "No jobs yet. They appear here as soon as one begins." : "There are no requests.";
  };
  const counts = () => {
    const found = { all: rows.size, working: 0, done: 0, failed: 0, waiting: 0 };
    for (const row of rows.values()) found[row.status] += 1;
    return found;
  };
  const buttons = () => {
    const found = counts();
    if (shown !== "all" && !found[shown] && !live) shown = "all";
    const group = $(".shown");
    for (const [kind, label] of SHOWN) {
      let button = group.querySelector('[data-show="' + kind + '"]');
      if (!button) {
        button = el("button", { type: "button", "data-show": kind, on: { click: () => { shown = kind; limit = PAGE; remember(); show(); } } }, label + " ", el("span"));
        group.append(button);
      }
      button.hidden = kind !== "all" && kind !== shown && !(0 < found[kind] && found[kind] < rows.size);
      button.lastChild.textContent = found[kind].toLocaleString("en");
      button.setAttribute("aria-pressed", String(kind === shown));
    }
    nav.hidden = rows.size < 2 && shown === "all";
  };
  const remember = () => history.replaceState(null, "", shown === "all" ? location.pathname + location.search : "#" + shown);
  const show = () => {
    const dense = compact ?? rows.size >= COMPACT_FROM;
    main.classList.toggle("compact", dense);
    view.setAttribute("aria-pressed", String(dense));
    buttons();
    filter();
    place();
  };

  // -- The head --------------------------------------------------------------------------------------------
  const tile = (kind, name, value, note) => el("div", { class: kind }, el("dt", { text: name }), el("dd", null, value), el("dd", { class: "note", text: note }));
  const head = () => {
    const every = [...rows.values()], found = counts();
    const sum = (list) => list.reduce((total, row) => total + (row.usd ?? 0), 0);
    const paid = every.filter((row) => row.charged === true), known = paid.filter((row) => row.usd !== null && row.usd !== undefined);
    const perhaps = sum(every.filter((row) => row.charged === null && row.status !== "waiting" || row.perhaps));
    const spent = [
      perhaps ? "and up to " + usd(perhaps) + " unknown" : "",
      known.length < paid.length ? "price known for " + known.length + " of " + paid.length : "",
    ].filter(Boolean).join(", ");
    const took = every.reduce((total, row) => total + (row.took ?? 0), 0);
    const left = Math.max(0, ...every.filter((row) => row.status === "working").map((row) => reckon(row)[1] ?? 0));
    const work = found.working
      ? tile("time", "Working", el("span", null, String(found.working)), left ? remaining(left) : "")
      : data.started && data.finished && data.finished - data.started >= 1
        ? tile("time", "Time", span(data.finished - data.started), span(took) + " one by one")
        : tile("time", "Time of jobs", span(took), "");
    $(".totals").replaceChildren(
      tile("done", "Clips", el("span", null, found.done.toLocaleString("en"), el("small", { text: " of " + rows.size.toLocaleString("en") })), found.waiting ? found.waiting + " not ended" : data.older ? "the latest " + rows.size.toLocaleString("en") : ""),
      tile("spent", "Spent", known.length || !paid.length ? usd(sum(known)) : "not known", spent),
      work,
      tile(found.failed ? "bad" : "none", "Failed", found.failed.toLocaleString("en"), ""));
    const same = data.started && data.finished && new Date(data.started * 1000).toDateString() === new Date(data.finished * 1000).toDateString();
    const began = data.started && date(data.started), ended = data.finished && date(data.finished);
    $(".when").textContent = !began ? "" : began + (ended && ended !== began ? " to " + (same ? minute.format(data.finished * 1000) : ended) : "");
    document.title = live && found.working ? "(" + found.working + ") " + data.title : data.title;
    $("h1").textContent = data.title;
  };

  // -- The account -----------------------------------------------------------------------------------------
  const gauge = (name, share, value) => el("div", { class: "gauge" }, el("p", null, el("span", { text: name }), el("span", { text: value })), bar(share, name, share >= 0.9));
  const lines = (found, label) => found.length > 0 && el("ul", { class: "lines", "aria-label": label, tabindex: found.length > 6 ? 0 : null }, found.map(([name, value]) => el("li", null, el("span", { text: name }), el("span", { text: value }))));
  const spendPanel = (spend) => {
    const top = Math.max(...spend.days.map(([, value]) => value), 0.0001);
    const day = (text) => { const [, month, number] = text.split("-"); return Number(number) + " " + ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month - 1]; };
    const columns = spend.days.map(([name, value]) => {
      const column = el("i");
      column.style.height = (value / top) * 100 + "%";
      return el("li", { title: day(name) + ": " + usd(value), "aria-label": day(name) + ": " + usd(value) }, column);
    });
    const cap = (name, value, most) => (most === null ? null : gauge(name, most ? value / most : 1, usd(value) + " of " + usd(most)));
    return el("section", { class: "panel spend" },
      el("h2", null, "Spend", el("small", { text: "today " + usd(spend.today) + ", this month " + usd(spend.month) + " (UTC)" })),
      cap("Today", spend.today, spend.daily), cap("This month", spend.month, spend.monthly),
      el("ul", { class: "days", "aria-label": "Spend by day" }, columns),
      el("p", { class: "ends" }, el("span", { text: day(spend.days[0][0]) }), el("span", { text: "today" })),
      lines(spend.models.map(([name, value]) => [name, usd(value)]), "Spend by model"));
  };
  const rationPanel = (ration) => el("section", { class: "panel ration" },
    el("h2", null, "Rate limit", el("small", { text: ration.name })),
    ration.blocked > 0 && el("p", { class: "notice", text: "The server blocks this key for " + span(ration.blocked) + " more, after too many failed requests." }),
    gauge("Polls in 60 s", ration.polls[0] / ration.polls[1], ration.polls[0] + " of " + Math.floor(ration.polls[1])),
    gauge("Paid requests in 60 s", ration.queue[0] / ration.queue[1], ration.queue[0] + " of " + Math.floor(ration.queue[1])),
    gauge("Failed requests in 30 s", ration.failures[0] / ration.failures[1], ration.failures[0] + " of " + ration.failures[1]),
    lines(ration.holders.map((one) => [one.process, one.flying + " on the way, " + one.wanting + " waiting"]), "Who holds what"));
  const ownersPanel = (owners, submitted) => el("section", { class: "panel owners" },
    el("h2", null, "Workers", el("small", { text: count(owners.filter((one) => one.alive).length, "process", "processes") })),
    owners.length ? lines(owners.map((one) => [one.name + (one.alive ? "" : " (silent)"), one.jobs || !one.alive ? count(one.jobs, "job", "jobs") : "idle"]), "Workers") : el("p", { class: "gauge" }, el("small", { text: "Nobody works on this journal now." })),
    submitted > 0 && el("p", { class: "notice", text: count(submitted, "submitted job waits", "submitted jobs wait") + " for a worker." }));
  const account = () => {
    const found = [data.spend && spendPanel(data.spend), ...(data.rations ?? []).map(rationPanel), data.owners && ownersPanel(data.owners, data.submitted ?? 0)].filter(Boolean);
    panels.hidden = !found.length;
    $(".panels").replaceChildren(...found);
    $("footer").textContent = live ? "The jobs of " + (data.place ?? "a journal") + ". Days are UTC." : "The clips lie beside this page: move them together.";
  };

  // -- Questions -------------------------------------------------------------------------------------------
  const questionOf = (question) => {
    const ticks = question.statements.map(([name, text]) => [name, el("input", { type: "checkbox", on: { change: () => { yes.disabled = !ticks.every(([, box]) => box.checked); } } }), text]);
    const problem = el("p", { class: "problem", role: "alert" });
    const answer = async (consent) => {
      box.querySelectorAll("button").forEach((button) => { button.disabled = true; });
      try {
        const said = await fetch("answer", { method: "POST", headers: { "Content-Type": "application/json", "X-CSRF-Token": $("meta[name=csrf]").content }, body: JSON.stringify({ key: question.key, consent }) });
        if (!said.ok) throw new Error(await said.text());
        box.remove();
      } catch (error) {
        problem.textContent = "It was not answered: " + error.message;
        box.querySelectorAll("button").forEach((button) => { button.disabled = false; });
      }
    };
    const yes = el("button", { type: "button", class: "yes", disabled: true, text: "I agree, queue it", on: { click: () => answer(Object.fromEntries(ticks.map(([name, box]) => [name, box.checked]))) } });
    const box = el("section", { class: "question" },
      el("h2", { text: "A job waits for your consent: " + question.key }),
      question.prompt && el("p", { dir: "auto", text: question.prompt }),
      question.about && el("p", { dir: "auto", text: question.about }),
      question.policy && el("div", { class: "policy", tabindex: 0, dir: "auto", text: question.policy }),
      question.docs && el("p", null, el("a", { href: question.docs, rel: "noreferrer", text: question.docs })),
      ticks.map(([, box, text]) => el("label", null, box, el("span", { text }))),
      el("div", { class: "answers" }, yes, el("button", { type: "button", text: "Decline", on: { click: () => answer(null) } })),
      problem);
    return box;
  };
  const questions = () => {
    const wanted = new Map((data.questions ?? []).map((question) => [question.key, question]));
    for (const [key, box] of asking) if (!wanted.has(key)) { box.remove(); asking.delete(key); }
    for (const [key, question] of wanted) if (!asking.has(key)) { asking.set(key, questionOf(question)); asked.append(asking.get(key)); }
    asked.hidden = !asking.size;
  };

  // -- What comes ------------------------------------------------------------------------------------------
  const take = (news) => {
    const { rows: changed = [], gone = [], whole, ...rest } = news;
    if (whole) { rows.clear(); }
    data = { ...data, ...rest };
    clock = rest.now ? rest.now - Date.now() / 1000 : 0;
    for (const id of gone) rows.delete(id);
    for (const row of changed) {
      const before = rows.get(row.id);
      rows.set(row.id, row);
      const card = cards.get(row.id);
      if (card && before && !card.querySelector("video")) renew(row, card);
    }
    sort();
    head();
    account();
    questions();
    show();
  };
  const renew = (row, card) => {
    const focused = card.contains(document.activeElement) ? document.activeElement.className : null;
    const next = cardOf(row);
    if (card.querySelector("details")?.open && next.querySelector("details")) next.querySelector("details").open = true;
    card.replaceWith(next);
    cards.set(row.id, next);
    if (focused !== null) next.querySelector(focused ? "." + focused.split(" ")[0] : "button, summary")?.focus();
  };
  const tick = () => {
    if (document.hidden) return;
    for (const [id, card] of cards) {
      const row = rows.get(id);
      if (row?.status !== "working") continue;
      const [share, left] = reckon(row);
      setBar(card.querySelector(".bar"), share);
      card.querySelector(".left").textContent = remaining(left);
    }
  };
  const listen = () => {
    const stream = new EventSource("events");
    const state = (text, lost) => { link.hidden = false; link.textContent = text; link.classList.toggle("lost", lost); };
    state("Connecting", false);
    stream.addEventListener("open", () => state("Live", false));
    stream.addEventListener("news", (event) => take(JSON.parse(event.data)));
    stream.addEventListener("trouble", (event) => state(JSON.parse(event.data), true));
    stream.addEventListener("fine", () => state("Live", false));
    stream.addEventListener("error", () => {
      state("The dashboard does not answer; what is shown may be old", true);
      if (stream.readyState === EventSource.CLOSED) setTimeout(() => { stream.close(); listen(); }, 3000);
    });
    setInterval(tick, 1000);
  };

  for (const [name, [label]] of Object.entries(ORDERS)) if (!(live && name === "batch")) select.append(el("option", { value: name, text: label }));
  select.value = order;
  select.addEventListener("change", () => { order = select.value; limit = PAGE; sort(); show(); });
  field.addEventListener("input", () => { limit = PAGE; show(); });
  view.addEventListener("click", () => { compact = !main.classList.contains("compact"); show(); });
  more.addEventListener("click", () => { limit += PAGE; place(); });
  new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting) && !more.hidden) { limit += PAGE; place(); } }, { rootMargin: "1200px" }).observe(more);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName) && !event.ctrlKey && !event.metaKey) { event.preventDefault(); field.focus(); }
    if (event.key === "Escape" && document.activeElement === field) { field.value = ""; show(); }
  });
  document.addEventListener("play", (event) => { for (const video of document.querySelectorAll("video")) if (video !== event.target) video.pause(); }, true);
  if (SHOWN.some(([kind]) => kind === location.hash.slice(1))) shown = location.hash.slice(1);
  panels.open = matchMedia("(min-width: 44rem)").matches; // on a phone the jobs come first
  if (live) listen();
  else take({ ...JSON.parse(embedded.textContent), whole: true });
})();
