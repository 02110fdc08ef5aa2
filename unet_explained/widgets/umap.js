// The map of the U, as a view of its own.

import { render } from "./umap_view.js";

export default { render };
