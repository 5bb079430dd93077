// Follows one design through all figures, and computes latencies from the sliders. All else of the
// page works without it.
"use strict";
(() => {
    const body = document.body;
    const follow = (design) => {
        const only = body.dataset.only === design ? "" : design;
        for (const shown of document.querySelectorAll(".only")) {
            shown.classList.remove("only");
        }
        if (only === "") {
            delete body.dataset.only;
        } else {
            body.dataset.only = only;
            for (const shown of document.querySelectorAll(`svg .${only}`)) {
                shown.classList.add("only");
            }
        }
        for (const button of document.querySelectorAll(".designs button")) {
            button.setAttribute("aria-pressed", String(button.dataset.design === only));
        }
    };
    for (const button of document.querySelectorAll(".designs button")) {
        button.addEventListener("click", () => follow(button.dataset.design));
    }

    const data = document.getElementById("models");
    if (data === null) {
        return;
    }
    const models = JSON.parse(data.textContent);
    const form = document.querySelector(".sliders");
    const shown = document.querySelector(".predictions");
    const digits = (value) => value >= 100 ? value.toFixed(0) : value.toPrecision(2);
    // Sliders are logarithmic.
    const chosen = (name) => Math.pow(10, Number(form.elements[name].value));
    const units = {
        rtt: (value) => `${digits(value)} ms`,
        fsync: (value) => `${digits(value)} ms`,
        speed: (value) => `${digits(value)}×`,
        jobs: (value) => Math.round(value).toLocaleString("en"),
    };
    const draw = () => {
        for (const [name, told] of Object.entries(units)) {
            form.elements[name].parentElement.querySelector("output").textContent = told(chosen(name));
        }
        const latency = (model) => {
            const jobs = (model.jobMs ?? 0) * (chosen("jobs") - model.jobs);
            const processor = Math.max(model.processorMs + jobs, 0);
            return model.roundTrips * chosen("rtt") + model.syncs * chosen("fsync")
                + processor / chosen("speed");
        };
        const all = models.map((model) => ({ model, ms: latency(model) }));
        all.sort((one, other) => one.ms - other.ms);
        const most = Math.max(...all.map(({ ms }) => ms), Number.MIN_VALUE);
        shown.replaceChildren(...all.map(({ model, ms }) => {
            const row = document.createElement("div");
            row.className = `d${model.colour}`;
            const [name, track, bar, told] = ["span", "span", "i", "b"]
                .map((tag) => document.createElement(tag));
            name.textContent = model.design;
            bar.style.width = `${100 * ms / most}%`;
            told.textContent = `${digits(ms)} ms`;
            track.append(bar);
            row.append(name, track, told);
            return row;
        }));
    };
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", draw);
    draw();
})();
