// torch's random numbers on the CPU: the same seed means the same noise, and so the same picture.

const [SIZE, SHIFT] = [624, 397];

/** Mersenne Twister (Matsumoto and Nishimura 1998): a function that gives numbers of 32 bits. */
function twister(seed) {
  const state = new Uint32Array(SIZE);
  state[0] = Number(BigInt.asUintN(32, BigInt(seed)));
  for (let i = 1; i < SIZE; i++)
    state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  let at = SIZE;
  const twist = () => {
    for (let i = 0; i < SIZE; i++) {
      const both = (state[i] & 0x80000000) | (state[(i + 1) % SIZE] & 0x7fffffff);
      state[i] = state[(i + SHIFT) % SIZE] ^ (both >>> 1) ^ (both & 1 ? 0x9908b0df : 0);
    }
    at = 0;
  };
  return () => {
    if (at === SIZE) twist();
    let y = state[at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}

/**
 * torch.randn(count, generator=torch.Generator().manual_seed(seed)); count: a multiple of 16.
 * Box and Muller 1958, as torch does it: eight numbers are radii, the next eight angles.
 */
export function randn(seed, count) {
  const next = twister(seed), values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = (next() & 0xffffff) / 2 ** 24;
  for (let start = 0; start < count; start += 16)
    for (let i = start; i < start + 8; i++) {
      const radius = Math.sqrt(-2 * Math.log(1 - values[i])), angle = 2 * Math.PI * values[i + 8];
      [values[i], values[i + 8]] = [radius * Math.cos(angle), radius * Math.sin(angle)];
    }
  return values;
}
