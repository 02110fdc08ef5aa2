// Which picture of which run a view is of, where there are several.

import { make } from "./widget.js";

/** The render() of a view that is drawn anew, by open(model, el, before), once it is of another;
 * open gives what the next one is told as before, whose close() ends it. */
export function turning(open) {
  return ({ model, el }) => {
    let page = null;
    const anew = () => {
      const within = el.querySelector(".ux-subject")?.matches(":focus");
      page?.close();
      page = open(model, el, page);
      if (within) el.querySelector(".ux-subject").focus();
    };
    model.on("change:subject", anew);
    anew();
    return () => {
      model.off("change:subject", anew);
      page.close();
    };
  };
}

/** A menu of them, null where there is one; say(text, wrong) hears how far Python is. */
export function subjectMenu({ model, ask }, say) {
  const labels = model.get("subjects");
  if (!labels.length) return null;
  const options = labels.map((label, value) => make("option", { value }, label));
  const menu = make("select", { class: "ux-subject", "aria-label": "Picture", onchange: turn }, ...options);
  async function turn() {
    say("asking Python …", false);
    try {
      await ask({ subject: Number(menu.value) });
    } catch (error) {
      menu.value = model.get("subject");
      say(error.message, true);
    }
  }
  menu.value = model.get("subject");
  return menu;
}
