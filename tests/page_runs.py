"""What the page shows of a run that it made, against Python's own run."""

import numpy as np

import unet_explained as ux
from unet_explained.widgets.explorer_page import choice

SIDE = 32  # places of a side at which the maps, of 64, are read
# As a person sees it: the picture, then pixel after pixel how long the bar of each word is, where
# each is on its own scale. In that, a bar is a number of its map: from 0 to 1.
SHOWN = f"""(async () => {{
  const view = document.querySelector(".ux-explorer"), canvas = view.querySelector(".ux-picture");
  const context = canvas.getContext("2d");
  const pixels = () => [...context.getImageData(0, 0, canvas.width, canvas.height).data];
  view.dispatchEvent(new KeyboardEvent("keydown", {{ key: "Escape" }}));
  let picture = pixels();
  while (new Set(picture).size < 3) {{ // it is grey until the picture is decoded
    await new Promise(requestAnimationFrame);
    picture = pixels();
  }}
  const texts = (look) => [...view.querySelectorAll(look)].map((each) => each.firstChild.data);
  const words = texts(".ux-name"), tops = texts(".ux-weight");
  const bars = [...view.querySelectorAll(".ux-bar i")], maps = [];
  const labels = [...view.querySelectorAll("label")];
  labels.find((each) => each.textContent === "each word on its own scale").click();
  const {{ left, top, width, height }} = canvas.getBoundingClientRect(); // a click may scroll
  for (let row = 0; row < {SIDE}; row++)
    for (let column = 0; column < {SIDE}; column++) {{
      const place = {{
        clientX: left + ((column + 0.5) * width) / {SIDE},
        clientY: top + ((row + 0.5) * height) / {SIDE},
      }};
      canvas.dispatchEvent(new PointerEvent("pointermove", place));
      maps.push(bars.map(({{ style }}) => Number(style.transform.slice("scaleX(".length, -1))));
    }}
  canvas.dispatchEvent(new PointerEvent("pointerleave"));
  return {{ picture, words, tops, maps }};
}})()"""


def expect_pythons(shown: dict, pipe, prompt: str, **options) -> None:
    """The picture and every word's map, each within one level of 255; shown: what SHOWN is."""
    with ux.record(pipe.unet) as recording:
        run = pipe(prompt, **options)
    picture = np.array(shown["picture"]).reshape(512, 512, 4)[..., :3]
    assert np.abs(picture - np.asarray(run.image).astype(int)).max() <= 1

    content, (data,) = ux.explore(run, recording).answer({"maps": choice()})
    columns, height, width = content["shape"]
    assert shown["words"] == ["start", *run.prompt.words, "the rest"]
    tops = [0.0 if top == "<.001" else float(top) for top in shown["tops"]]
    np.testing.assert_allclose(tops, content["tops"], rtol=0, atol=1e-3)
    levels = np.rint(255 * np.array(shown["maps"]).reshape(SIDE, SIDE, columns))
    maps = np.frombuffer(data, np.uint8).reshape(columns, height, width).astype(int)
    places = np.s_[height // SIDE // 2 :: height // SIDE]  # the middle of each, rounded up
    wanted = maps[:, places, places].transpose(1, 2, 0)
    assert np.abs(levels - wanted).max() <= 1
