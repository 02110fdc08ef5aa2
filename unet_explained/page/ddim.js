// The sampling loop's maths, after diffusion.py: velocity, guidance, and a step of DDIM.

const LEVELS = 1000; // timesteps of the training

/** The timesteps of a run, from the last ("trailing"): numpy's arange, and its rounding to even. */
export function timesteps(steps) {
  const ratio = LEVELS / steps, stride = LEVELS - ratio - LEVELS; // numpy's, not simply -ratio
  const length = Math.ceil(LEVELS / ratio); // of some numbers (61) one more, which ends at -1
  return Array.from({ length }, (_, i) => toEven(LEVELS + i * stride) - 1);
}

function toEven(value) {
  const low = Math.floor(value), rest = value - low;
  return rest === 0.5 ? low + (low % 2) : Math.round(value);
}

/** Classifier-free guidance: e0 + scale (e - e0), Ho and Salimans 2022, equation 6. */
export function guided(without, withPrompt, scale) {
  return withPrompt.map((value, i) => without[i] + scale * (value - without[i]));
}

/**
 * A step of DDIM (Song et al. 2021, equation 12, eta 0) on a velocity (Salimans and Ho 2022): the
 * latents one step on, and the clean ones that the model now sees. alphas: of every timestep.
 */
export function advance(latents, velocity, timestep, steps, alphas) {
  const [signal, sigma] = levels(alphas.at(timestep));
  const before = timestep - Math.floor(LEVELS / steps);
  const [nextSignal, nextSigma] = levels(before < 0 ? 1 : alphas[before]);
  const clean = latents.map((x, i) => signal * x - sigma * velocity[i]);
  const noise = latents.map((x, i) => signal * velocity[i] + sigma * x);
  return { latents: clean.map((x, i) => nextSignal * x + nextSigma * noise[i]), clean };
}

const levels = (share) => [Math.sqrt(share), Math.sqrt(1 - share)];
