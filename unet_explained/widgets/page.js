// A page without a kernel: a view of a saved state, with saved answers.

import { scriptOf, standIn } from "./stand_in.js";

const saved = JSON.parse(document.getElementById("saved").textContent);
const view = await scriptOf(saved.esm);
view.render({ model: standIn(saved), el: document.getElementById("view") });
