/** Numbers from a seed, so that a failure can be repeated. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** Of the environment variable `SEED`, or of the time. */
export function chooseSeed(): number {
  return Number(process.env.SEED ?? Date.now() % 1_000_000_000)
}
